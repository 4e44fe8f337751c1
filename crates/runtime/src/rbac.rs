//! What controllers may do, derived from what they say they do.
//!
//! A controller's builder knows every kind that it reads and, from the author, every kind that it writes. The rules
//! for a role come from there, so that they are neither too many nor forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{Api, PostParams};

use crate::object::Object;

/// A verb of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read one.
    Get,
    /// Read many.
    List,
    /// Follow changes.
    Watch,
    /// Make a new one. A server-side apply of an object that may not be there needs it beside [`Verb::Patch`].
    Create,
    /// Replace.
    Update,
    /// Change a part, server-side apply included.
    Patch,
    /// Remove one.
    Delete,
    /// Remove many.
    DeleteCollection,
}

impl Verb {
    /// What a cache does. [`Client::get_live`](crate::client::Client::get_live) needs [`Verb::Get`] beside.
    pub const READ: [Self; 2] = [Self::List, Self::Watch];
    /// What [`Client::apply`](crate::client::Client::apply) does to objects that may have to be created.
    pub const APPLY: [Self; 2] = [Self::Create, Self::Patch];

    /// As rules spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// What is done to which resources. Grants add up: see [`Grants::merge`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeMap<(String, String), BTreeSet<Verb>>);

impl Grants {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds verbs on a kind.
    pub fn on<K: Object>(self, verbs: impl IntoIterator<Item = Verb>) -> Self {
        self.resource(&K::group(&()), &K::plural(&()), verbs)
    }

    /// Adds verbs on a subresource of a kind, such as `status`.
    pub fn on_subresource<K: Object>(self, subresource: &str, verbs: impl IntoIterator<Item = Verb>) -> Self {
        self.resource(
            &K::group(&()),
            &format!("{}/{subresource}", K::plural(&())),
            verbs,
        )
    }

    /// Adds verbs on a resource (`pods`, `pods/status`) of an API group; the core group is empty.
    pub fn resource(mut self, group: &str, resource: &str, verbs: impl IntoIterator<Item = Verb>) -> Self {
        let key = (group.to_owned(), resource.to_owned());
        self.0.entry(key).or_default().extend(verbs);
        self
    }

    /// Adds all of another's.
    pub fn merge(mut self, other: Self) -> Self {
        for (key, verbs) in other.0 {
            self.0.entry(key).or_default().extend(verbs);
        }
        self
    }

    /// Whether a request is covered.
    pub fn allows(&self, group: &str, resource: &str, verb: Verb) -> bool {
        let key = (group.to_owned(), resource.to_owned());
        self.0.get(&key).is_some_and(|verbs| verbs.contains(&verb))
    }

    /// The rules of a role, as few as say the same: resources of a group with the same verbs share one. In order of
    /// group and resource, so that generated files are stable.
    pub fn rules(&self) -> Vec<PolicyRule> {
        let mut rules: Vec<(&str, &BTreeSet<Verb>, Vec<String>)> = Vec::new();
        for ((group, resource), verbs) in self.0.iter().filter(|(_, verbs)| !verbs.is_empty()) {
            match rules
                .iter_mut()
                .find(|(other, same, _)| other == group && *same == verbs)
            {
                Some((_, _, resources)) => resources.push(resource.clone()),
                None => rules.push((group, verbs, vec![resource.clone()])),
            }
        }
        let rule = |(group, verbs, resources): (&str, &BTreeSet<Verb>, Vec<String>)| PolicyRule {
            api_groups: Some(vec![group.to_owned()]),
            resources: Some(resources),
            verbs: verbs.iter().map(|verb| verb.as_str().to_owned()).collect(),
            ..PolicyRule::default()
        };
        rules.into_iter().map(rule).collect()
    }
}

impl Grants {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeSet::is_empty)
    }

    /// Which of these the user of `client` does not have, in a namespace or (`None`) in all of them, by the server's
    /// own word (`SelfSubjectAccessReview`).
    pub async fn denied(&self, client: &kube::Client, namespace: Option<&str>) -> Result<Self, kube::Error> {
        /// Reviews on their way at once.
        const AT_ONCE: usize = 16;
        let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let asked = self.0.iter().flat_map(|((group, resource), verbs)| {
            let ask = |verb: &Verb| (group.as_str(), resource.as_str(), *verb);
            verbs.iter().map(ask).collect::<Vec<_>>()
        });
        let answers = stream::iter(asked).map(|(group, resource, verb)| {
            let review = review(group, resource, verb, namespace);
            let reviews = &reviews;
            async move {
                let answer = reviews.create(&PostParams::default(), &review).await?;
                let denied = !answer.status.is_some_and(|status| status.allowed);
                let missing = denied.then(|| Self::new().resource(group, resource, [verb]));
                Ok::<_, kube::Error>(missing.unwrap_or_default())
            }
        });
        let denied: Vec<Self> = answers.buffered(AT_ONCE).try_collect().await?;
        Ok(denied.into_iter().collect())
    }
}

fn review(group: &str, resource: &str, verb: Verb, namespace: Option<&str>) -> SelfSubjectAccessReview {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (resource, None),
    };
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        verb: Some(verb.as_str().to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

/// As `list, watch secrets; patch deployments.apps/status`.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let granted = self.0.iter().filter(|(_, verbs)| !verbs.is_empty());
        for (position, ((group, resource), verbs)) in granted.enumerate() {
            let verbs: Vec<_> = verbs.iter().map(|verb| verb.as_str()).collect();
            let (resource, subresource) = resource.split_at(resource.find('/').unwrap_or(resource.len()));
            let (separator, dot) = (
                if position == 0 { "" } else { "; " },
                if group.is_empty() { "" } else { "." },
            );
            write!(
                f,
                "{separator}{} {resource}{dot}{group}{subresource}",
                verbs.join(", ")
            )?;
        }
        Ok(())
    }
}

impl FromIterator<Grants> for Grants {
    fn from_iter<I: IntoIterator<Item = Grants>>(grants: I) -> Self {
        grants.into_iter().fold(Self::new(), Self::merge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
    use k8s_openapi::api::core::v1::Secret;

    #[test]
    fn grants_add_up_to_few_rules() {
        let one = Grants::new()
            .on::<Deployment>(Verb::READ)
            .on::<Secret>([Verb::Get]);
        let two = Grants::new()
            .on::<StatefulSet>(Verb::READ)
            .on::<Secret>([Verb::Patch])
            .on_subresource::<Deployment>("status", [Verb::Patch]);
        let grants: Grants = [one, two].into_iter().collect();
        let lines: Vec<_> = grants
            .rules()
            .into_iter()
            .map(|rule| {
                let join = |list: Option<Vec<String>>| list.unwrap_or_default().join(",");
                format!(
                    "{}|{}|{}",
                    join(rule.api_groups),
                    join(rule.resources),
                    rule.verbs.join(",")
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "|secrets|get,patch",
                "apps|deployments,statefulsets|list,watch",
                "apps|deployments/status|patch",
            ]
        );
        assert_eq!(
            grants.to_string(),
            "get, patch secrets; list, watch deployments.apps; patch deployments.apps/status; \
             list, watch statefulsets.apps"
        );
        assert!(grants.allows("", "secrets", Verb::Patch));
        assert!(!grants.allows("", "secrets", Verb::Delete));
    }
}
