//! Requests in the name of somebody else.
//!
//! Since 1.36 the real server asks for narrow rights first: to impersonate in a mode (`impersonate:user-info`, …) and to
//! do in that mode what the request does (`impersonate-on:user-info:list`). Where they are not there, the plain verb
//! `impersonate` decides; where that is not there either, it is the narrow right that the refusal names.

use super::{User, account_groups};
use crate::access::{Access, Attributes, Target, forbidden};
use crate::metadata::names;
use crate::status::{ApiError, ApiResult};
use http::{HeaderMap, HeaderName};
use std::collections::BTreeMap;
use std::sync::Arc;

const GROUP: &str = "authentication.k8s.io";
const EXTRA: &str = "impersonate-extra-";
/// From so many groups or extras on, one right to all of them is asked for first.
const MANY: usize = 4;
const MASTERS: &str = "system:masters";

/// The user that a request is handled for: whom its headers ask for, where `attributes.user` may act as that one.
pub(crate) fn impersonate(
    access: &Access,
    headers: &HeaderMap,
    attributes: &Attributes<'_>,
) -> ApiResult<Option<Arc<User>>> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(None);
    };
    let mut first = None;
    for mode in MODES {
        if !mode.fits(&wanted, attributes.user) {
            continue;
        }
        let check = Check {
            access,
            attributes,
            wanted: &wanted,
            mode,
        };
        match check.run() {
            Ok(user) => return Ok(Some(Arc::new(user))),
            Err(refusal) => first = first.or(Some(refusal)),
        }
    }
    Err(first.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
}

/// The user that the headers ask for.
fn wanted(headers: &HeaderMap) -> ApiResult<Option<User>> {
    let asks = |name: &HeaderName| name.as_str().starts_with("impersonate-");
    if !headers.keys().any(asks) {
        return Ok(None);
    }
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect()
    };
    let first = |name| all(name).into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let key = crate::request::query::decode(&key.replace('+', "%2B"));
            extra.entry(key).or_default().extend(all(name.as_str()));
        }
    }
    let user = User {
        name: first("impersonate-user"),
        uid: first("impersonate-uid"),
        groups: all("impersonate-group"),
        extra,
    };
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user == User::default() {
        return Ok(None);
    }
    Err(ApiError::bad_request(format!(
        "requested {} without impersonating a user name",
        shown(&user)
    )))
}

/// A user as Go prints the struct.
fn shown(user: &User) -> String {
    let strings = |list: &[String]| {
        if list.is_empty() {
            return "[]string(nil)".to_owned();
        }
        let list: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
        format!("[]string{{{}}}", list.join(", "))
    };
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let pairs = user.extra.iter();
        let pairs: Vec<String> = pairs
            .map(|(key, values)| format!("{key:?}:{}", strings(values)))
            .collect();
        format!("map[string][]string{{{}}}", pairs.join(", "))
    };
    format!(
        "&user.DefaultInfo{{Name:\"\", UID:{:?}, Groups:{}, Extra:{extra}}}",
        user.uid,
        strings(&user.groups)
    )
}

/// The node that a user name is of.
fn node_of(name: &str) -> Option<&str> {
    name.strip_prefix("system:node:").filter(|node| !node.is_empty())
}

/// Namespace and name of the service account that a user name is of.
fn account_of(name: &str) -> Option<(&str, &str)> {
    let (namespace, account) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let valid = names::label_1123(namespace).is_empty() && names::subdomain(account).is_empty();
    valid.then_some((namespace, account))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

const MODES: [Mode; 5] = [
    Mode::AssociatedNode,
    Mode::ArbitraryNode,
    Mode::ServiceAccount,
    Mode::UserInfo,
    Mode::Legacy,
];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    fn verb(self) -> String {
        match self {
            Self::Legacy => "impersonate".to_owned(),
            mode => format!("impersonate:{}", mode.name()),
        }
    }

    /// Whether the mode is for this user, asked for by that one.
    fn fits(self, wanted: &User, requestor: &User) -> bool {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let (node, account) = (node_of(&wanted.name), account_of(&wanted.name));
        match self {
            Self::AssociatedNode => {
                let own = requestor.extra.get("authentication.kubernetes.io/node-name");
                let own = own.and_then(|names| names.first()).map(String::as_str);
                only_name && node.is_some() && node == own && account_of(&requestor.name).is_some()
            }
            Self::ArbitraryNode => only_name && node.is_some(),
            Self::ServiceAccount => only_name && account.is_some(),
            Self::UserInfo => node.is_none() && account.is_none(),
            Self::Legacy => true,
        }
    }
}

/// One mode tried.
struct Check<'a> {
    access: &'a Access,
    attributes: &'a Attributes<'a>,
    wanted: &'a User,
    mode: Mode,
}

impl Check<'_> {
    fn run(&self) -> ApiResult<User> {
        let constrained = self.mode != Mode::Legacy;
        if constrained {
            let verb = format!("impersonate-on:{}:{}", self.mode.name(), self.attributes.verb);
            self.access.require(&Attributes {
                verb: &verb,
                ..*self.attributes
            })?;
        }
        let mut user = self.wanted.clone();
        let group = if constrained { GROUP } else { "" };
        match (node_of(&user.name), account_of(&user.name)) {
            (Some(node), _) if constrained => {
                let node = if self.mode == Mode::AssociatedNode {
                    "*"
                } else {
                    node
                };
                self.ask(group, "nodes", "", "", node)?;
                user.groups = vec!["system:nodes".to_owned()];
            }
            (_, Some((namespace, account))) => {
                self.ask(group, "serviceaccounts", "", namespace, account)?;
                if user.groups.is_empty() {
                    user.groups = account_groups(namespace);
                }
            }
            _ => self.ask(group, "users", "", "", &user.name)?,
        }
        if !user.uid.is_empty() {
            self.ask(GROUP, "uids", "", "", &user.uid)?;
        }
        self.groups(group, constrained)?;
        self.extra(constrained)?;
        let has = |group: &str| user.groups.iter().any(|has| has == group);
        let (unknown, known) = ("system:unauthenticated", "system:authenticated");
        if user.is_anonymous() {
            if !has(unknown) {
                user.groups.push(unknown.to_owned());
            }
        } else if !has(unknown) && !has(known) {
            user.groups.push(known.to_owned());
        }
        Ok(user)
    }

    fn groups(&self, group: &str, constrained: bool) -> ApiResult<()> {
        let groups = &self.wanted.groups;
        if constrained {
            let refused = [
                ("", "impersonating the empty string group is not allowed"),
                (MASTERS, "impersonating the system:masters group is not allowed"),
            ];
            for (name, why) in refused {
                if groups.iter().any(|group| group == name) {
                    return Err(self.refuse(group, "groups", "", name, why));
                }
            }
            if groups.len() >= MANY && self.ask(group, "groups", "", "", "*").is_ok() {
                return Ok(());
            }
        }
        groups
            .iter()
            .try_for_each(|name| self.ask(group, "groups", "", "", name))
    }

    fn extra(&self, constrained: bool) -> ApiResult<()> {
        let extra = &self.wanted.extra;
        if constrained {
            for (key, values) in extra {
                let why = if key.is_empty() {
                    "impersonating the empty string key in extra is not allowed".to_owned()
                } else if !is_prefixed_path(key) {
                    format!(
                        "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: must be a domain-prefixed path (such as \"acme.io/foo\")"
                    )
                } else if values.iter().any(String::is_empty) {
                    "impersonating the empty string value in extra is not allowed".to_owned()
                } else {
                    continue;
                };
                return Err(self.refuse(GROUP, "userextras", "", "", &why));
            }
            let values: usize = extra.values().map(Vec::len).sum();
            if values >= MANY && self.ask(GROUP, "userextras", "*", "", "*").is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                self.ask(GROUP, "userextras", key, "", value)?;
            }
        }
        Ok(())
    }

    fn ask(&self, group: &str, resource: &str, sub: &str, namespace: &str, name: &str) -> ApiResult<()> {
        let verb = self.mode.verb();
        self.access
            .require(&self.attributes(&verb, group, resource, sub, namespace, name))
    }

    fn refuse(&self, group: &str, resource: &str, sub: &str, name: &str, why: &str) -> ApiError {
        let verb = self.mode.verb();
        forbidden(&self.attributes(&verb, group, resource, sub, "", name), why)
    }

    fn attributes<'b>(
        &'b self,
        verb: &'b str,
        group: &'b str,
        resource: &'b str,
        subresource: &'b str,
        namespace: &'b str,
        name: &'b str,
    ) -> Attributes<'b> {
        Attributes {
            user: self.attributes.user,
            verb,
            target: Target::Resource {
                group,
                resource,
                subresource,
                namespace,
                name,
            },
        }
    }
}

/// Whether a key is a domain, a slash and a path.
fn is_prefixed_path(key: &str) -> bool {
    key.split_once('/')
        .is_some_and(|(domain, path)| names::subdomain(domain).is_empty() && !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    type Header = (&'static str, &'static str);

    /// What comes of `eve` listing pods with these headers, under these rules for her: user and groups, or what is
    /// forbidden.
    fn act(rules: &Value, headers: &[Header]) -> Result<String, String> {
        let access = Access::with_rules("eve", rules);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let mut eve = User::new("eve", ["team"]);
        eve.extra = BTreeMap::from([(
            "authentication.kubernetes.io/node-name".to_owned(),
            vec!["n1".to_owned()],
        )]);
        let target = Target::Resource {
            group: "",
            resource: "pods",
            subresource: "",
            namespace: "ns",
            name: "",
        };
        let attributes = Attributes {
            user: &eve,
            verb: "list",
            target,
        };
        match impersonate(&access, &map, &attributes) {
            Ok(None) => Ok("herself".to_owned()),
            Ok(Some(user)) => Ok(
                format!("{} {} {:?}", user.name, user.groups.join(","), user.extra)
                    .trim_end_matches(" {}")
                    .to_owned(),
            ),
            Err(refusal) => Err(refusal.message),
        }
    }

    fn rule(group: &str, resources: &[&str], verbs: &[&str], names: &[&str]) -> Value {
        json!({"apiGroups": [group], "resources": resources, "verbs": verbs, "resourceNames": names})
    }

    #[test]
    fn the_old_verb_allows_what_it_names() {
        let rules = json!([
            rule("", &["users"], &["impersonate"], &["bob", "system:anonymous"]),
            rule(
                "",
                &["groups"],
                &["impersonate"],
                &["a", "system:unauthenticated"]
            ),
            rule("", &["serviceaccounts"], &["impersonate"], &["robot"]),
            rule(GROUP, &["userextras/scopes"], &["impersonate"], &["view"]),
        ]);
        let bob = ("impersonate-user", "bob");
        let table: [(&[Header], Option<&str>); 10] = [
            (&[], Some("herself")),
            (&[bob], Some("bob system:authenticated")),
            (
                &[bob, ("impersonate-group", "a")],
                Some("bob a,system:authenticated"),
            ),
            (
                &[bob, ("impersonate-group", "system:unauthenticated")],
                Some("bob system:unauthenticated"),
            ),
            (
                &[("impersonate-user", "system:anonymous")],
                Some("system:anonymous system:unauthenticated"),
            ),
            (
                &[("impersonate-user", "system:serviceaccount:ns:robot")],
                Some(
                    "system:serviceaccount:ns:robot system:serviceaccounts,system:serviceaccounts:ns,system:authenticated",
                ),
            ),
            (
                &[bob, ("impersonate-extra-scopes", "view")],
                Some(r#"bob system:authenticated {"scopes": ["view"]}"#),
            ),
            (
                &[
                    bob,
                    ("impersonate-extra-scopes", "view"),
                    ("impersonate-extra-scopes", "edit"),
                ],
                None,
            ),
            (
                &[bob, ("impersonate-group", "a"), ("impersonate-group", "b")],
                None,
            ),
            (&[bob, ("impersonate-uid", "7")], None),
        ];
        for (headers, expected) in table {
            assert_eq!(act(&rules, headers).ok().as_deref(), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_narrow_right_is_for_one_mode_and_one_verb() {
        let on = |mode: &str, verb: &str| {
            let verb = format!("impersonate-on:{mode}:{verb}");
            rule("", &["pods"], &[&verb], &[])
        };
        let as_user = rule(GROUP, &["users", "groups"], &["impersonate:user-info"], &[]);
        let bob = [("impersonate-user", "bob")];
        assert!(act(&json!([as_user, on("user-info", "list")]), &bob).is_ok());
        let refused = |rules: &Value, headers: &[Header]| act(rules, headers).unwrap_err();
        let verb = refused(&json!([as_user, on("user-info", "get")]), &bob);
        assert!(
            verb.contains(r#"cannot impersonate-on:user-info:list resource "pods""#),
            "{verb}"
        );
        // What would be all rights is no narrow one.
        let masters = [("impersonate-user", "bob"), ("impersonate-group", MASTERS)];
        let why = refused(&json!([as_user, on("user-info", "list")]), &masters);
        assert!(
            why.ends_with("impersonating the system:masters group is not allowed"),
            "{why}"
        );
        // Of many groups, all may be allowed at once.
        let star = rule(GROUP, &["groups"], &["impersonate:user-info"], &["*"]);
        let user = rule(GROUP, &["users"], &["impersonate:user-info"], &[]);
        let groups = ["a", "b", "c", "d"].map(|group| ("impersonate-group", group));
        let many = [&bob[..], &groups[..]].concat();
        let rules = json!([star, user, on("user-info", "list")]);
        assert!(act(&rules, &many).is_ok());
        assert!(act(&rules, &many[..4]).is_err());
        // Nodes have a mode of their own.
        let node = [("impersonate-user", "system:node:n1")];
        assert!(act(&json!([as_user, on("user-info", "list")]), &node).is_err());
        let any = rule(GROUP, &["nodes"], &["impersonate:arbitrary-node"], &["n1"]);
        assert_eq!(
            act(&json!([any, on("arbitrary-node", "list")]), &node).unwrap(),
            "system:node:n1 system:nodes,system:authenticated"
        );
    }

    #[test]
    fn who_asks_for_groups_says_whose() {
        let refused = act(
            &json!([]),
            &[("impersonate-group", "a"), ("impersonate-extra-x%2fy", "v")],
        );
        assert_eq!(
            refused.unwrap_err(),
            r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"a"}, Extra:map[string][]string{"x/y":[]string{"v"}}} without impersonating a user name"#
        );
    }
}
