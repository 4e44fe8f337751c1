//! One rule of a role: what it allows, and which other rules it covers.

use super::{Attributes, Target};
use serde_json::Value;
use std::fmt;

/// A rule, as `rbac.authorization.k8s.io/v1` describes one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) verbs: Vec<String>,
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|item| item == text)
}

fn has_or_all(list: &[String], text: &str) -> bool {
    list.iter().any(|item| item == "*" || item == text)
}

/// Whether a pattern of paths (one star, at its end) is this path or stands for it.
fn path_covers(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*'))
}

impl Rule {
    /// Reads a rule of a role.
    pub(crate) fn read(rule: &Value) -> Self {
        let list = |field: &str| {
            let items = rule[field].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            groups: list("apiGroups"),
            resources: list("resources"),
            paths: list("nonResourceURLs"),
            names: list("resourceNames"),
            verbs: list("verbs"),
        }
    }

    /// The rules that allow everything.
    pub(crate) fn everything() -> [Self; 2] {
        let star = || vec!["*".to_owned()];
        let resources = Self {
            groups: star(),
            resources: star(),
            verbs: star(),
            ..Self::default()
        };
        let paths = Self {
            paths: star(),
            verbs: star(),
            ..Self::default()
        };
        [resources, paths]
    }

    /// Whether it allows what is asked.
    pub(crate) fn allows(&self, asked: &Attributes<'_>) -> bool {
        has_or_all(&self.verbs, asked.verb)
            && match asked.target {
                Target::Path(path) => self.paths.iter().any(|pattern| path_covers(pattern, path)),
                Target::Resource {
                    group,
                    resource,
                    subresource,
                    name,
                    ..
                } => {
                    has_or_all(&self.groups, group)
                        && self.is_for(resource, subresource)
                        && (self.names.is_empty() || has(&self.names, name))
                }
            }
    }

    /// `*` is everything, `pods/log` is one subresource and `*/log` that of everything.
    fn is_for(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|said| match said.split_once('/') {
            _ if said == "*" => true,
            Some((of, sub)) => sub == subresource && !sub.is_empty() && (of == "*" || of == resource),
            None => subresource.is_empty() && said == resource,
        })
    }

    /// The rules of one verb on one thing that come to the same.
    pub(crate) fn atoms(&self) -> Vec<Self> {
        let mut atoms = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let atom = Self {
                        groups: one(group),
                        resources: one(resource),
                        verbs: one(verb),
                        ..Self::default()
                    };
                    if self.names.is_empty() {
                        atoms.push(atom);
                        continue;
                    }
                    atoms.extend(self.names.iter().map(|name| Self {
                        names: one(name),
                        ..atom.clone()
                    }));
                }
            }
        }
        for path in &self.paths {
            atoms.extend(self.verbs.iter().map(|verb| Self {
                paths: one(path),
                verbs: one(verb),
                ..Self::default()
            }));
        }
        atoms
    }

    /// Whether it allows all that an atom does.
    pub(crate) fn covers(&self, atom: &Self) -> bool {
        let all =
            |mine: &[String], theirs: &[String]| has(mine, "*") || theirs.iter().all(|text| has(mine, text));
        let resource = |said: &String| {
            has_or_all(&self.resources, said)
                || said
                    .split_once('/')
                    .is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
        };
        let path = |said: &String| self.paths.iter().any(|pattern| path_covers(pattern, said));
        let names = self.names.is_empty()
            || !atom.names.is_empty() && atom.names.iter().all(|name| has(&self.names, name));
        all(&self.verbs, &atom.verbs)
            && all(&self.groups, &atom.groups)
            && atom.resources.iter().all(resource)
            && atom.paths.iter().all(path)
            && names
    }

    /// Puts the verbs of atoms together that are for the same resource.
    pub(crate) fn compact(atoms: Vec<Self>) -> Vec<Self> {
        let mut rules: Vec<Self> = Vec::new();
        for atom in atoms {
            let same = |rule: &&mut Self| {
                atom.paths.is_empty()
                    && (&rule.groups, &rule.resources, &rule.names, &rule.paths)
                        == (&atom.groups, &atom.resources, &atom.names, &atom.paths)
            };
            match rules.iter_mut().find(same) {
                Some(rule) => rule.verbs.extend(atom.verbs),
                None => rules.push(atom),
            }
        }
        rules
    }
}

/// As refusals of escalation show it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let said: Vec<String> = parts
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name}:{}", crate::auth::quoted(list)))
            .collect();
        write!(f, "{{{}}}", said.join(", "))
    }
}
