//! Roles by their name, and bindings by whom they bind.

use super::{Attributes, Rule, Rules, not_found};
use crate::auth::{User, account_name};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// What the roles and bindings of a cluster come to.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// By namespace; that of the cluster is empty.
    scopes: HashMap<String, Scope>,
}

/// The roles and bindings of a namespace, or of the cluster.
#[derive(Debug, Default)]
struct Scope {
    roles: HashMap<String, Vec<Rule>>,
    bindings: HashMap<String, Arc<Binding>>,
    users: HashMap<String, Vec<Arc<Binding>>>,
    groups: HashMap<String, Vec<Arc<Binding>>>,
}

/// Whom a binding binds.
#[derive(Debug, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
    Account { namespace: String, name: String },
}

/// A binding.
#[derive(Debug)]
pub(crate) struct Binding {
    namespace: String,
    name: String,
    /// Whether the role is one of the cluster.
    cluster_role: bool,
    role: String,
    subjects: Vec<Subject>,
}

/// Whether something is granted.
#[derive(Debug)]
pub(crate) enum Granted {
    /// By this binding.
    By(Arc<Binding>),
    /// By none; these roles are bound but missing.
    No(Vec<String>),
}

impl Subject {
    fn read(subject: &Value, namespace: &str) -> Option<Self> {
        let text = |field: &str| subject[field].as_str().unwrap_or_default();
        let name = text("name").to_owned();
        match text("kind") {
            "User" => Some(Self::User(name)),
            "Group" => Some(Self::Group(name)),
            "ServiceAccount" => {
                let said = text("namespace");
                let namespace = if said.is_empty() { namespace } else { said };
                (!namespace.is_empty()).then(|| Self::Account {
                    namespace: namespace.to_owned(),
                    name,
                })
            }
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::User(name) => *name == user.name,
            Self::Group(name) => user.groups.contains(name),
            Self::Account { namespace, name } => account_name(namespace, name) == user.name,
        }
    }
}

impl Binding {
    fn read(binding: &Value, namespace: &str, name: &str) -> Self {
        let role = |field: &str| binding["roleRef"][field].as_str().unwrap_or_default();
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            cluster_role: role("kind") == "ClusterRole",
            role: role("name").to_owned(),
            subjects: subjects
                .filter_map(|subject| Subject::read(subject, namespace))
                .collect(),
        }
    }

    /// As the reasons of reviews tell it.
    pub(crate) fn describe(&self, user: &User) -> String {
        let (kind, at) = if self.namespace.is_empty() {
            ("ClusterRoleBinding", self.name.clone())
        } else {
            ("RoleBinding", format!("{}/{}", self.name, self.namespace))
        };
        let role = if self.cluster_role { "ClusterRole" } else { "Role" };
        let subject = match self.subjects.iter().find(|subject| subject.is(user)) {
            Some(Subject::User(name)) => format!("User {name:?}"),
            Some(Subject::Group(name)) => format!("Group {name:?}"),
            Some(Subject::Account { namespace, name }) => {
                format!("ServiceAccount \"{name}/{namespace}\"")
            }
            None => String::new(),
        };
        format!("{kind} {at:?} of {role} {:?} to {subject}", self.role)
    }
}

impl Scope {
    fn remove(&mut self, name: &str) {
        let Some(gone) = self.bindings.remove(name) else {
            return;
        };
        for subject in &gone.subjects {
            let (map, key) = self.place(subject);
            if let Some(list) = map.get_mut(&key) {
                list.retain(|binding| binding.name != gone.name);
                if list.is_empty() {
                    map.remove(&key);
                }
            }
        }
    }

    fn insert(&mut self, binding: Binding) {
        let binding = Arc::new(binding);
        for subject in &binding.subjects {
            let (map, key) = self.place(subject);
            let list = map.entry(key).or_default();
            // The same may be bound twice.
            let at = list.partition_point(|other| other.name < binding.name);
            if list.get(at).is_none_or(|other| other.name != binding.name) {
                list.insert(at, binding.clone());
            }
        }
        self.bindings.insert(binding.name.clone(), binding);
    }

    fn place(&mut self, subject: &Subject) -> (&mut HashMap<String, Vec<Arc<Binding>>>, String) {
        match subject {
            Subject::User(name) => (&mut self.users, name.clone()),
            Subject::Account { namespace, name } => (&mut self.users, account_name(namespace, name)),
            Subject::Group(name) => (&mut self.groups, name.clone()),
        }
    }

    /// The bindings of a user; one that binds more than one of its groups comes more than once.
    fn of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Arc<Binding>> {
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        self.users.get(&user.name).into_iter().chain(groups).flatten()
    }
}

impl Policy {
    /// Learns what an object is now (none: it is gone). `plural` is that of a kind of the group of roles.
    pub(super) fn set(&mut self, plural: &str, namespace: &str, name: &str, object: Option<&Value>) {
        if object.is_none() && !self.scopes.contains_key(namespace) {
            return;
        }
        let scope = self.scopes.entry(namespace.to_owned()).or_default();
        match (plural, object) {
            ("roles" | "clusterroles", Some(role)) => {
                let rules = role["rules"].as_array().into_iter().flatten();
                scope
                    .roles
                    .insert(name.to_owned(), rules.map(Rule::read).collect());
            }
            ("roles" | "clusterroles", None) => {
                scope.roles.remove(name);
            }
            (_, binding) => {
                scope.remove(name);
                if let Some(binding) = binding {
                    scope.insert(Binding::read(binding, namespace, name));
                }
            }
        }
        if scope.roles.is_empty() && scope.bindings.is_empty() {
            self.scopes.remove(namespace);
        }
    }

    /// The rules of a role, or that it is missing. `namespace` is that of the binding.
    pub(super) fn role(&self, cluster: bool, namespace: &str, name: &str) -> Result<&[Rule], String> {
        let (scope, kind) = if cluster {
            ("", "clusterrole")
        } else {
            (namespace, "role")
        };
        let role = self.scopes.get(scope).and_then(|scope| scope.roles.get(name));
        role.map(Vec::as_slice).ok_or_else(|| not_found(kind, name))
    }

    fn bindings<'a>(&'a self, user: &'a User, namespace: &str) -> impl Iterator<Item = &'a Arc<Binding>> {
        let local = Some(namespace).filter(|namespace| !namespace.is_empty());
        let scopes = [Some(""), local].into_iter().flatten();
        let scopes: [Option<&Scope>; 2] = {
            let mut found = scopes.map(|scope| self.scopes.get(scope));
            [found.next().flatten(), found.next().flatten()]
        };
        scopes.into_iter().flatten().flat_map(|scope| scope.of(user))
    }

    fn rules(&self, binding: &Binding) -> Result<&[Rule], String> {
        self.role(binding.cluster_role, &binding.namespace, &binding.role)
    }

    /// Looks for a binding that grants what is asked.
    pub(super) fn find(&self, asked: &Attributes<'_>) -> Granted {
        let mut missing = Vec::new();
        for binding in self.bindings(asked.user, asked.target.namespace()) {
            match self.rules(binding) {
                Ok(rules) if rules.iter().any(|rule| rule.allows(asked)) => {
                    return Granted::By(binding.clone());
                }
                Ok(_) => {}
                Err(error) => missing.push(error),
            }
        }
        Granted::No(missing)
    }

    /// All rules of a user in a namespace.
    pub(super) fn rules_of(&self, user: &User, namespace: &str) -> Rules {
        let mut all = Rules::default();
        let mut seen: Vec<&Arc<Binding>> = Vec::new();
        for binding in self.bindings(user, namespace) {
            if seen.iter().any(|other| Arc::ptr_eq(other, binding)) {
                continue;
            }
            seen.push(binding);
            match self.rules(binding) {
                Ok(rules) => all.rules.extend_from_slice(rules),
                Err(error) => all.errors.push(error),
            }
        }
        all
    }
}
