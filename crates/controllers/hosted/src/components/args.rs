//! Command line flags.

use std::collections::BTreeMap;

/// The flags that the controller sets, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    own: Vec<(&'static str, String)>,
    elsewhere: Vec<&'static str>,
}

/// The flags of a container, and which of the spec's were not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// Every flag as `--name=value`.
    pub args: Vec<String>,
    /// Names of flags that the spec gives with another value than the controller's, which stands.
    pub overridden: Vec<String>,
}

impl Flags {
    /// Adds a flag.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) -> &mut Self {
        self.own.push((name, value.into()));
        self
    }

    /// Notes a flag that the controller sets by other means than the command line.
    pub fn elsewhere(&mut self, name: &'static str) -> &mut Self {
        self.elsewhere.push(name);
        self
    }

    /// The flags together with those of the spec: ours first, in our order, then theirs by name.
    pub fn with(&self, given: &BTreeMap<String, String>) -> Args {
        let mut args: Vec<String> = self
            .own
            .iter()
            .map(|(name, value)| format!("--{name}={value}"))
            .collect();
        let mut overridden = Vec::new();
        for (name, value) in given {
            let name = name.trim_start_matches('-');
            match self.own.iter().find(|(own, _)| *own == name) {
                None if self.elsewhere.contains(&name) => overridden.push(name.to_owned()),
                Some((_, own)) if own == value => {}
                Some(_) => overridden.push(name.to_owned()),
                None => args.push(format!("--{name}={value}")),
            }
        }
        Args { args, overridden }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controllers_flags_stand_and_the_specs_follow() {
        let mut flags = Flags::default();
        flags.set("secure-port", "6443").set("a", "1").elsewhere("b");
        let given = [
            ("v", "4"),
            ("secure-port", "1"),
            ("--a", "1"),
            ("b", "2"),
            ("--profiling", "false"),
        ];
        let given = given
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let args = flags.with(&given);
        assert_eq!(
            args.args,
            ["--secure-port=6443", "--a=1", "--profiling=false", "--v=4"]
        );
        assert_eq!(args.overridden, ["b", "secure-port"]);
    }
}
