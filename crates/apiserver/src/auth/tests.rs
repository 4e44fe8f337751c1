use super::*;
use proptest::prelude::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn reference(name: &str) -> Reference {
    Reference {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
    }
}

fn bound() -> Bound {
    Bound {
        namespace: "ns".to_owned(),
        serviceaccount: reference("builder"),
        ..Bound::default()
    }
}

fn claims(of: Bound) -> Claims {
    Claims::new(of, vec![ISSUER.to_owned()], at(1000), 600)
}

/// Everything is there, with the uid that the token names.
#[allow(clippy::unnecessary_wraps, reason = "a lookup may find nothing")]
fn all(_: &str, _: &str, name: &str) -> Option<Known> {
    Some(Known {
        uid: format!("uid-{name}"),
        deleted: None,
    })
}

fn authenticator() -> Authenticator {
    let fixed = HashMap::from([("fixed".to_owned(), Arc::new(User::new("robot", ["machines"])))]);
    Authenticator::new(fixed, false, None)
}

fn request(authenticator: &Authenticator, authorization: &str) -> Option<String> {
    let mut headers = HeaderMap::new();
    if !authorization.is_empty() {
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
    }
    let user = authenticator.of_request(&headers, &Arc::new(User::anonymous()), at(1000), &all);
    user.ok().map(|user| user.name.clone())
}

#[test]
fn a_request_is_of_its_bearer_token() {
    let authenticator = authenticator();
    let token = authenticator.issue(&claims(bound())).unwrap();
    let account = Some("system:serviceaccount:ns:builder".to_owned());
    assert_eq!(request(&authenticator, &format!("Bearer {token}")), account);
    assert_eq!(request(&authenticator, &format!("  bearer {token} x")), account);
    assert_eq!(request(&authenticator, "Bearer fixed"), Some("robot".to_owned()));
    assert_eq!(request(&authenticator, &format!("Bearer {token}x")), None);
    // With no token it is nobody's, and nobody is refused here.
    for none in ["", "Bearer ", "Bearer  fixed", "Basic fixed"] {
        assert_eq!(request(&authenticator, none), None, "{none:?}");
    }
}

#[test]
fn a_token_is_for_its_audiences() {
    let authenticator = authenticator();
    let audiences = ["vault".to_owned(), ISSUER.to_owned()];
    let token = Claims::new(bound(), audiences.to_vec(), at(1000), 600);
    let token = authenticator.issue(&token).unwrap();
    let ask = |asked: &[&str]| {
        let asked: Vec<String> = asked.iter().map(|text| (*text).to_owned()).collect();
        let found = authenticator.of_token(&token, &asked, at(1000), &all);
        found.map(|found| found.audiences)
    };
    assert_eq!(ask(&[]), Ok(vec![ISSUER.to_owned()]));
    assert_eq!(ask(&["vault", "other"]), Ok(vec!["vault".to_owned()]));
    assert!(
        ask(&["other"])
            .unwrap_err()
            .contains(r#"is invalid for the target audiences ["other"]"#)
    );
    let fixed = authenticator.of_token("fixed", &["vault".to_owned()], at(1000), &all);
    assert_eq!(fixed.unwrap_err(), "invalid bearer token");
}

#[test]
fn tokens_of_another_key_issuer_or_algorithm_are_refused() {
    let (ours, other) = (authenticator(), authenticator());
    let token = other.issue(&claims(bound())).unwrap();
    let refused = |token: &str| ours.of_token(token, &[], at(1000), &all).unwrap_err();
    assert!(refused(&token).ends_with("invalid signature, no keys found]"));
    let mut foreign = claims(bound());
    foreign.iss = "https://elsewhere".to_owned();
    assert_eq!(refused(&ours.issue(&foreign).unwrap()), INVALID);
    let token = ours.issue(&claims(bound())).unwrap();
    let (_, rest) = token.split_once('.').unwrap();
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    assert_eq!(refused(&format!("{header}.{rest}")), INVALID);
    // With no key id, the key is tried.
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
    assert!(refused(&format!("{header}.{rest}")).contains("cryptographic primitive"));
}

#[test]
fn a_token_holds_from_its_start_to_its_end_and_a_minute_around() {
    let claims = claims(bound());
    let holds = |second: i64| claims.user(at(second), &all).map(|user| user.name);
    for (second, why) in [
        (939, Some("not valid yet")),
        (940, None),
        (1000, None),
        (1600, None),
        (1660, None),
        (1661, Some("has expired")),
    ] {
        match why {
            None => assert!(holds(second).is_ok(), "{second}"),
            Some(why) => assert!(holds(second).unwrap_err().ends_with(why), "{second}"),
        }
    }
}

#[test]
fn a_token_ends_with_what_it_is_bound_to() {
    let with = |change: fn(&mut Bound)| {
        let mut of = bound();
        change(&mut of);
        claims(of)
    };
    let cases = [
        ("serviceaccounts", with(|_| {})),
        ("secrets", with(|of| of.secret = Some(reference("s")))),
        ("pods", with(|of| of.pod = Some(reference("p")))),
        ("nodes", with(|of| of.node = Some(reference("n")))),
    ];
    for (plural, claims) in cases {
        let lookup = |known: Option<fn(&str) -> Known>| {
            move |asked: &str, namespace: &str, name: &str| {
                if asked == plural {
                    known.map(|known| known(name))
                } else {
                    all(asked, namespace, name)
                }
            }
        };
        let now = at(1000);
        assert!(claims.user(now, &all).is_ok(), "{plural}");
        assert!(claims.user(now, &lookup(None)).is_err(), "{plural}");
        let other = |_: &str| Known {
            uid: "other".to_owned(),
            deleted: None,
        };
        assert!(
            claims
                .user(now, &lookup(Some(other)))
                .unwrap_err()
                .contains("UID"),
            "{plural}"
        );
        let long_ago = |name: &str| Known {
            uid: format!("uid-{name}"),
            deleted: Some(at(900)),
        };
        assert!(claims.user(now, &lookup(Some(long_ago))).is_err(), "{plural}");
        let just_now = |name: &str| Known {
            uid: format!("uid-{name}"),
            deleted: Some(at(950)),
        };
        assert!(claims.user(now, &lookup(Some(just_now))).is_ok(), "{plural}");
    }
    // The node of a pod is told, and need not be there.
    let pod = with(|of| (of.pod, of.node) = (Some(reference("p")), Some(reference("n"))));
    let no_node = |plural: &str, namespace: &str, name: &str| {
        (plural != "nodes").then(|| all(plural, namespace, name))?
    };
    let user = pod.user(at(1000), &no_node).unwrap();
    assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n"]);
    assert_eq!(user.extra["authentication.kubernetes.io/pod-uid"], ["uid-p"]);
}

#[test]
fn what_is_remembered_stays_bounded() {
    let authenticator = authenticator();
    let token = authenticator.issue(&claims(bound())).unwrap();
    authenticator.of_token(&token, &[], at(1000), &all).unwrap();
    let template = authenticator.verified.lock()[&token].clone();
    for number in 0..MOST_VERIFIED {
        authenticator
            .verified
            .lock()
            .insert(number.to_string(), template.clone());
    }
    let other = authenticator.issue(&claims(bound())).unwrap();
    authenticator.of_token(&other, &[], at(1000), &all).unwrap();
    assert_eq!(authenticator.verified.lock().len(), 1);
}

proptest! {
    /// No change of a single character of a token makes another token that is taken.
    #[test]
    fn no_token_is_like_another(place in 0usize..10_000, with in "[A-Za-z0-9_-]") {
        let authenticator = authenticator();
        let token = authenticator.issue(&claims(bound())).unwrap();
        let place = place % token.len();
        prop_assume!(token.as_bytes()[place] != with.as_bytes()[0]);
        let mut changed = token.clone();
        changed.replace_range(place..=place, &with);
        prop_assert!(authenticator.of_token(&changed, &[], at(1000), &all).is_err());
    }
}
