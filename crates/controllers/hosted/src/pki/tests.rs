use super::certificate::Pair;
use super::*;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn at(days: i64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_hours(24 * days)
}

fn root(root: Root) -> Material {
    Material::make_root(root, at(0)).unwrap()
}

fn good(state: RootState) -> Material {
    match state {
        RootState::Good(material) => material,
        RootState::Bad(problem) => panic!("{problem}"),
        RootState::Absent | RootState::Lost => panic!("none"),
    }
}

fn serving() -> Profile {
    Leaf::ApiServer.profile(["api.example", "192.0.2.1", "::1"].into_iter().collect())
}

fn leaf(root: &Material, profile: &Profile, now: Timestamp) -> Secret {
    root.make_leaf(profile, now, LEAF_VALIDITY)
        .unwrap()
        .leaf_secret(ObjectMeta::default(), None)
}

fn secret(certificate: &str, key: &str) -> Secret {
    Secret {
        data: Some(
            [("tls.crt", certificate), ("tls.key", key)]
                .map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec())))
                .into(),
        ),
        ..Secret::default()
    }
}

#[test]
fn a_root_says_what_kubeadms_does_and_reads_back() {
    for kind in Root::ALL {
        let made = root(kind);
        let facts = Facts::read(made.certificate()).unwrap();
        assert!(facts.is_authority);
        assert_eq!(facts.common_name, kind.common_name());
        assert_eq!(facts.not_after, at(3650).as_second());
        assert_eq!(facts.not_before, at(0).as_second() - 2 * 3600);
        let secret = made.root_secret(ObjectMeta::default());
        assert_eq!(secret.type_.as_deref(), Some("cluster.x-k8s.io/secret"));
        let read = good(judge_root(Some(&secret), true, at(1)));
        assert_eq!((read.certificate(), read.key()), (made.certificate(), made.key()));
    }
}

#[test]
fn roots_know_nothing_of_each_other() {
    let (cluster, etcd) = (root(Root::Cluster), root(Root::Etcd));
    let profile = Leaf::ApiServerEtcdClient.profile(LeafNames::default());
    let client = cluster.make_leaf(&profile, at(0), LEAF_VALIDITY).unwrap();
    assert!(signed_by(client.certificate(), cluster.certificate()).unwrap());
    assert!(!signed_by(client.certificate(), etcd.certificate()).unwrap());
    let secret = client.leaf_secret(ObjectMeta::default(), None);
    assert_eq!(
        judge_leaf(&profile, Some(&secret), &etcd, at(1), LEAF_VALIDITY).state,
        LeafState::OtherRoot
    );
}

#[test]
fn a_missing_root_is_made_only_where_none_was_used() {
    assert!(matches!(judge_root(None, false, at(0)), RootState::Absent));
    assert!(matches!(judge_root(None, true, at(0)), RootState::Lost));
    assert!(matches!(judge_service_account(None, false), RootState::Absent));
    assert!(matches!(judge_service_account(None, true), RootState::Lost));
}

#[test]
fn what_is_no_usable_root_is_refused_and_never_replaced() {
    let made = root(Root::Cluster);
    let other = root(Root::Cluster);
    let leaf = made.make_leaf(&serving(), at(0), LEAF_VALIDITY).unwrap();
    for (secret, problem) in [
        (Secret::default(), "tls.crt"),
        (secret("nonsense", made.key()), "PEM"),
        (secret(made.certificate(), "nonsense"), "private key"),
        (secret(made.certificate(), other.key()), "does not belong"),
        (secret(leaf.certificate(), leaf.key()), "not that of an authority"),
    ] {
        for in_use in [false, true] {
            match judge_root(Some(&secret), in_use, at(0)) {
                RootState::Bad(found) => assert!(found.contains(problem), "{found}"),
                _ => panic!("{problem} was not found"),
            }
        }
    }
    let secret = made.root_secret(ObjectMeta::default());
    assert!(
        matches!(judge_root(Some(&secret), true, at(3651)), RootState::Bad(found) if found.contains("ended"))
    );
}

#[test]
fn the_service_accounts_pair_belongs_together() {
    let (one, two) = (
        Material::make_key_pair().unwrap(),
        Material::make_key_pair().unwrap(),
    );
    assert!(one.certificate().starts_with("-----BEGIN PUBLIC KEY-----"));
    good(judge_service_account(
        Some(&one.root_secret(ObjectMeta::default())),
        true,
    ));
    let mixed = secret(one.certificate(), two.key());
    assert!(matches!(
        judge_service_account(Some(&mixed), true),
        RootState::Bad(_)
    ));
}

#[test]
fn a_leaf_says_what_its_profile_says() {
    let root = root(Root::Cluster);
    let secret = leaf(&root, &serving(), at(0));
    let facts =
        Facts::read(std::str::from_utf8(&secret.data.as_ref().unwrap()["tls.crt"].0).unwrap()).unwrap();
    assert_eq!(facts.not_after, at(365).as_second());
    assert!(facts.server && !facts.client && !facts.is_authority);
    assert_eq!((facts.dns, facts.ips), (serving().names.dns, serving().names.ips));
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
}

#[test]
fn a_leaf_is_renewed_when_a_third_of_its_life_is_left() {
    let root = root(Root::Cluster);
    let secret = leaf(&root, &serving(), at(0));
    let state = |days| judge_leaf(&serving(), Some(&secret), &root, at(days), LEAF_VALIDITY).state;
    let LeafState::Good { renew_at } = state(0) else {
        panic!("not good")
    };
    let two_thirds = at(0).as_second() + 365 * 24 * 3600 * 2 / 3;
    assert!((renew_at - two_thirds).abs() < 3600, "{renew_at} {two_thirds}");
    assert_eq!(state(243), LeafState::Good { renew_at });
    assert_eq!(state(244), LeafState::Due);
    assert_eq!(state(364), LeafState::Due);
    assert_eq!(state(365), LeafState::Ended);
    // From the next day of a clock that was behind, and from the day before.
    assert_eq!(state(-1), LeafState::Good { renew_at });
}

#[test]
fn a_leaf_is_made_anew_for_other_names_another_root_or_when_it_can_not_be_read() {
    let (one, two) = (root(Root::Cluster), root(Root::Cluster));
    let present = leaf(&one, &serving(), at(0));
    let judge = |profile: &Profile, secret: Option<&Secret>, root| {
        judge_leaf(profile, secret, root, at(1), LEAF_VALIDITY).state
    };
    assert_eq!(judge(&serving(), None, &one), LeafState::Absent);
    assert_eq!(judge(&serving(), Some(&present), &two), LeafState::OtherRoot);
    assert_eq!(
        judge(&serving(), Some(&Secret::default()), &one),
        LeafState::Unreadable
    );
    let mut names = serving().names;
    names.add("new.example");
    assert_eq!(
        judge(&Leaf::ApiServer.profile(names), Some(&present), &one),
        LeafState::Differs
    );
    let admin = Leaf::Admin.profile(serving().names);
    assert_eq!(judge(&admin, Some(&present), &one), LeafState::Differs);
    let other = leaf(&one, &serving(), at(0));
    let mixed = Pair::of(&present).unwrap().certificate;
    let mixed = secret(&mixed, &Pair::of(&other).unwrap().key);
    assert_eq!(judge(&serving(), Some(&mixed), &one), LeafState::Unreadable);
}

#[test]
fn a_leaf_ends_no_later_than_its_root_and_is_not_renewed_in_a_circle_for_that() {
    let root = root(Root::Cluster);
    let secret = leaf(&root, &serving(), at(3600));
    let judged = judge_leaf(&serving(), Some(&secret), &root, at(3601), LEAF_VALIDITY);
    assert!(
        matches!(judged.state, LeafState::Good { .. }),
        "{:?}",
        judged.state
    );
}

#[test]
fn a_renewal_keeps_all_of_the_secret_but_the_pair() {
    let root = root(Root::Cluster);
    let mut present = leaf(&root, &serving(), at(0));
    present.metadata.resource_version = Some("7".to_owned());
    let renewed = root
        .make_leaf(&serving(), at(300), LEAF_VALIDITY)
        .unwrap()
        .leaf_secret(ObjectMeta::default(), Some(&present));
    assert_eq!(renewed.metadata, present.metadata);
    assert_ne!(renewed.data, present.data);
}

#[test]
fn a_leaf_that_a_clock_ahead_made_holds_at_once() {
    let root = root(Root::Cluster);
    let facts = |secret: &Secret| {
        Facts::read(std::str::from_utf8(&secret.data.as_ref().unwrap()["tls.crt"].0).unwrap()).unwrap()
    };
    let ahead = facts(&leaf(&root, &serving(), at(30)));
    assert!(ahead.not_before < at(0).as_second());
    // Where the clock is behind the one that made the root, too.
    let behind = facts(&leaf(&root, &serving(), at(-1)));
    assert!(behind.not_before < at(-1).as_second());
}

#[test]
fn the_life_of_a_leaf_is_what_was_asked_for_and_its_last_third_is_for_renewal() {
    let root = root(Root::Cluster);
    let life = SHORTEST_LEAF_VALIDITY;
    let made = root.make_leaf(&serving(), at(0), life).unwrap();
    let secret = made.leaf_secret(ObjectMeta::default(), None);
    let state = |minutes| {
        let now = at(0) + SignedDuration::from_mins(minutes);
        judge_leaf(&serving(), Some(&secret), &root, now, life).state
    };
    let renew_at = at(0).as_second() + 20 * 60;
    assert_eq!(state(0), LeafState::Good { renew_at });
    assert_eq!(state(19), LeafState::Good { renew_at });
    assert_eq!(state(20), LeafState::Due);
    assert_eq!(state(30), LeafState::Ended);
}

#[test]
fn serial_numbers_differ() {
    let root = root(Root::Cluster);
    let serial = |secret: &Secret| {
        let pem = &secret.data.as_ref().unwrap()["tls.crt"].0;
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).unwrap();
        block.parse_x509().unwrap().serial.clone()
    };
    let (one, two) = (leaf(&root, &serving(), at(0)), leaf(&root, &serving(), at(0)));
    assert_ne!(serial(&one), serial(&two));
}
