use super::*;
use proptest::prelude::*;
use serde_json::json;

fn user(name: &str, groups: &[&str]) -> User {
    User::new(name, groups.iter().copied())
}

/// `get pods/log in ns named x`, or `get /path`.
fn asked<'a>(user: &'a User, text: &'a str) -> Attributes<'a> {
    let mut words = text.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (verb, what) = (next(), next());
    if what.starts_with('/') {
        return Attributes {
            user,
            verb,
            target: Target::Path(what),
        };
    }
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let (mut namespace, mut name) = ("", "");
    while let (word @ ("in" | "named"), value) = (next(), next()) {
        *if word == "in" { &mut namespace } else { &mut name } = value;
    }
    let target = Target::Resource {
        group,
        resource,
        subresource,
        namespace,
        name,
    };
    Attributes { user, verb, target }
}

fn rule(value: &Value) -> Rule {
    Rule::read(value)
}

#[test]
fn a_rule_allows_what_it_names() {
    let eve = user("eve", &[]);
    let resources = |groups: &[&str], resources: &[&str], verbs: &[&str], names: &[&str]| json!({"apiGroups": groups, "resources": resources, "verbs": verbs, "resourceNames": names});
    let paths = |paths: &[&str]| json!({"nonResourceURLs": paths, "verbs": ["get"]});
    let table = [
        (
            resources(&[""], &["pods"], &["get"], &[]),
            "get pods in a named x",
            true,
        ),
        (
            resources(&[""], &["pods"], &["get"], &[]),
            "list pods in a",
            false,
        ),
        (resources(&[""], &["pods"], &["get"], &[]), "get pods.apps", false),
        (resources(&[""], &["pods"], &["get"], &[]), "get pods/log", false),
        (
            resources(&[""], &["pods/log"], &["get"], &[]),
            "get pods/log",
            true,
        ),
        (resources(&[""], &["pods/log"], &["get"], &[]), "get pods", false),
        (resources(&[""], &["*/log"], &["get"], &[]), "get pods/log", true),
        (
            resources(&[""], &["*/log"], &["get"], &[]),
            "get pods/logs",
            false,
        ),
        (
            resources(&[""], &["pods/*"], &["get"], &[]),
            "get pods/log",
            false,
        ),
        (resources(&[""], &["*"], &["get"], &[]), "get pods/log", true),
        (
            resources(&["*"], &["*"], &["*"], &[]),
            "escalate roles.rbac named x",
            true,
        ),
        (resources(&["*"], &["*"], &["*"], &[]), "get /healthz", false),
        (
            resources(&[""], &["pods"], &["get"], &["x"]),
            "get pods named x",
            true,
        ),
        (
            resources(&[""], &["pods"], &["get"], &["x"]),
            "get pods named y",
            false,
        ),
        (resources(&[""], &["pods"], &["list"], &["x"]), "list pods", false),
        (
            resources(&[""], &["pods"], &["get"], &["*"]),
            "get pods named y",
            false,
        ),
        (paths(&["/healthz"]), "get /healthz", true),
        (paths(&["/healthz"]), "get /healthz/", false),
        (paths(&["/healthz/*"]), "get /healthz/log", true),
        (paths(&["/healthz/*"]), "get /healthz", false),
        (paths(&["*"]), "get /anything", true),
        (paths(&["*"]), "post /anything", false),
        (paths(&["*"]), "get pods", false),
    ];
    for (value, text, allowed) in table {
        assert_eq!(
            rule(&value).allows(&asked(&eve, text)),
            allowed,
            "{text} by {value}"
        );
    }
}

/// Eve may read pods in `a` as herself, Secrets everywhere by her group, and Ben's account in `a` may what it is told to.
fn policy() -> Policy {
    let mut policy = Policy::default();
    let role =
        |resource: &str| json!({"rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]});
    let binding = |kind: &str, role: &str, subjects: Value| json!({"roleRef": {"kind": kind, "name": role}, "subjects": subjects});
    policy.set("roles", "a", "pods", Some(&role("pods")));
    policy.set("clusterroles", "", "secrets", Some(&role("secrets")));
    policy.set(
        "rolebindings",
        "a",
        "eve",
        Some(&binding(
            "Role",
            "pods",
            json!([{"kind": "User", "name": "eve"}, {"kind": "ServiceAccount", "name": "ben"}]),
        )),
    );
    policy.set(
        "clusterrolebindings",
        "",
        "team",
        Some(&binding(
            "ClusterRole",
            "secrets",
            json!([{"kind": "Group", "name": "team"}]),
        )),
    );
    policy.set(
        "rolebindings",
        "b",
        "team",
        Some(&binding(
            "ClusterRole",
            "gone",
            json!([{"kind": "Group", "name": "team"}, {"kind": "User", "name": "eve"}]),
        )),
    );
    policy
}

fn allowed(policy: &Policy, user: &User, text: &str) -> bool {
    matches!(policy.find(&asked(user, text)), Granted::By(_))
}

#[test]
fn bindings_bind_their_subjects_in_their_scope() {
    let policy = policy();
    let (eve, mate) = (user("eve", &[]), user("mallory", &["team"]));
    let ben = user("system:serviceaccount:a:ben", &["system:serviceaccounts"]);
    let table = [
        (&eve, "get pods in a", true),
        (&eve, "get pods in b", false),
        (&eve, "get pods", false),
        (&eve, "get secrets in a", false),
        (&mate, "get secrets in a", true),
        (&mate, "get secrets", true),
        (&mate, "get pods in a", false),
        (&ben, "get pods in a", true),
        (&ben, "get secrets in a", false),
    ];
    for (user, text, expected) in table {
        assert_eq!(allowed(&policy, user, text), expected, "{} {text}", user.name);
    }
    let Granted::No(missing) = policy.find(&asked(&eve, "get pods in b")) else {
        panic!("granted")
    };
    assert_eq!(
        missing,
        [r#"clusterrole.rbac.authorization.k8s.io "gone" not found"#]
    );
    let Granted::By(binding) = policy.find(&asked(&ben, "get pods in a")) else {
        panic!("refused")
    };
    assert_eq!(
        binding.describe(&ben),
        r#"RoleBinding "eve/a" of Role "pods" to ServiceAccount "ben/a""#
    );
}

#[test]
fn what_is_changed_or_gone_counts_no_more() {
    let mut policy = policy();
    let eve = user("eve", &[]);
    let other =
        json!({"roleRef": {"kind": "Role", "name": "pods"}, "subjects": [{"kind": "User", "name": "ben"}]});
    policy.set("rolebindings", "a", "eve", Some(&other));
    assert!(!allowed(&policy, &eve, "get pods in a"));
    assert!(allowed(&policy, &user("ben", &[]), "get pods in a"));
    policy.set("roles", "a", "pods", None);
    assert!(!allowed(&policy, &user("ben", &[]), "get pods in a"));
    for (plural, namespace, name) in [
        ("rolebindings", "a", "eve"),
        ("rolebindings", "b", "team"),
        ("clusterrolebindings", "", "team"),
        ("clusterroles", "", "secrets"),
        ("roles", "never", "there"),
    ] {
        policy.set(plural, namespace, name, None);
    }
    assert!(format!("{policy:?}").ends_with("{} }"), "{policy:?}");
}

#[test]
fn rules_of_a_user_are_told_once() {
    let mut policy = policy();
    let twice = json!({"roleRef": {"kind": "ClusterRole", "name": "secrets"}, "subjects": [
        {"kind": "User", "name": "eve"}, {"kind": "Group", "name": "team"}, {"kind": "User", "name": "eve"}]});
    policy.set("clusterrolebindings", "", "twice", Some(&twice));
    let found = policy.rules_of(&user("eve", &["team"]), "b");
    assert_eq!(found.rules.len(), 2, "{found:?}");
    assert_eq!(found.errors.len(), 1);
}

#[test]
fn without_rules_whoever_is_known_may_do_all() {
    let access = Access::new(false);
    let (eve, nobody) = (user("eve", &[]), User::anonymous());
    assert!(access.decide(&asked(&eve, "delete pods in a")).allowed);
    assert!(!access.decide(&asked(&nobody, "get pods in a")).allowed);
    assert!(access.decide(&asked(&nobody, "get /readyz/ping")).allowed);
    assert!(!access.decide(&asked(&nobody, "get /api")).allowed);
}

#[test]
fn masters_need_no_rules() {
    let access = Access::new(true);
    assert!(
        access
            .require(&asked(&User::admin(), "bind clusterroles.x named y"))
            .is_ok()
    );
    assert!(access.require(&asked(&user("eve", &[]), "get pods")).is_err());
}

fn words(of: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(proptest::sample::select(of).prop_map(str::to_owned), 1..3)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let names = proptest::collection::vec(
        proptest::sample::select(vec!["x".to_owned(), "y".to_owned()]),
        0..2,
    );
    let resources = (
        words(&["", "apps", "*"]),
        words(&["pods", "pods/log", "*/log", "*"]),
        words(&["get", "list", "*"]),
        names,
    )
        .prop_map(|(groups, resources, verbs, names)| Rule {
            groups,
            resources,
            verbs,
            names,
            paths: Vec::new(),
        });
    let paths =
        (words(&["/a", "/a/*", "/a/b", "*"]), words(&["get", "post", "*"])).prop_map(|(paths, verbs)| Rule {
            paths,
            verbs,
            ..Rule::default()
        });
    prop_oneof![resources, paths]
}

const ASKED: [&str; 12] = [
    "get pods named x",
    "get pods named y",
    "get pods",
    "list pods",
    "get pods.apps named x",
    "watch pods.apps",
    "get pods/log named x",
    "get services/log named y",
    "get /a",
    "get /a/b",
    "post /a/b",
    "get /c",
];

proptest! {
    /// Rules in their atoms allow what they allow in one, and cover themselves.
    #[test]
    fn atoms_come_to_the_same(rule in any_rule()) {
        let eve = user("eve", &[]);
        let atoms = rule.atoms();
        for text in ASKED {
            let asked = asked(&eve, text);
            prop_assert_eq!(rule.allows(&asked), atoms.iter().any(|atom| atom.allows(&asked)), "{}", text);
        }
        prop_assert!(atoms.iter().all(|atom| rule.covers(atom)), "{} does not cover itself", rule);
        let compact = Rule::compact(atoms.clone());
        for text in ASKED {
            let asked = asked(&eve, text);
            prop_assert_eq!(rule.allows(&asked), compact.iter().any(|rule| rule.allows(&asked)), "{}", text);
        }
    }

    /// Whoever covers a rule may do whatever the rule allows: nobody grants more than they hold.
    #[test]
    fn what_covers_allows(owner in any_rule(), granted in any_rule()) {
        let eve = user("eve", &[]);
        for atom in granted.atoms() {
            if owner.covers(&atom) {
                for text in ASKED {
                    let asked = asked(&eve, text);
                    prop_assert!(!atom.allows(&asked) || owner.allows(&asked), "{} grants {} of {}", owner, text, atom);
                }
            }
        }
    }
}
