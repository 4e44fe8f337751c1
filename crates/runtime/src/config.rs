//! Settings from flags and the environment.
//!
//! Each module declares its own flags beside what they set; this one holds what has no other place, the types that
//! they share, and all of them together for a program that wants the usual set.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

/// Where the service account's files say which namespace a pod runs in.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The flags of a manager as most programs have them.
#[derive(Args, Clone, Debug)]
pub struct ManagerArgs {
    /// The namespace to watch [default: all]
    #[arg(long, env = "WATCH_NAMESPACE", value_name = "NAMESPACE", value_parser = parse_optional_namespace)]
    pub namespace: Option<Namespace>,

    /// The namespace that this program runs in [default: the pod's]
    #[arg(long, env = "CONTROLLER_NAMESPACE", value_name = "NAMESPACE", value_parser = parse_optional_namespace)]
    pub controller_namespace: Option<Namespace>,

    /// How many objects a controller reconciles at once [default: each controller's own]
    #[arg(long, env = "MAX_CONCURRENT_RECONCILES", value_name = "NUMBER", value_parser = parse_concurrency)]
    pub max_concurrent_reconciles: Option<NonZeroUsize>,

    /// How long to wait for work in progress at shutdown
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub shutdown_timeout: Duration,

    /// Leader election.
    #[command(flatten)]
    pub leader_election: crate::leader::LeaderElectionArgs,

    /// Probes.
    #[command(flatten)]
    pub health: crate::health::HealthArgs,

    /// Metrics.
    #[command(flatten)]
    pub metrics: crate::metrics::MetricsArgs,
}

impl ManagerArgs {
    /// The namespace to watch, or `None` for all.
    pub fn watch_namespace(&self) -> Option<&str> {
        self.namespace.as_ref().and_then(Namespace::name)
    }

    /// The namespace that this program runs in: the flag's, else the pod's, else none is known.
    pub fn own_namespace(&self) -> Option<String> {
        let named = self.controller_namespace.as_ref().and_then(Namespace::name);
        named.map(str::to_owned).or_else(|| {
            let namespace = std::fs::read_to_string(NAMESPACE_FILE).ok()?;
            Some(namespace.trim().to_owned()).filter(|namespace| !namespace.is_empty())
        })
    }
}

/// A namespace's name, or none where the variable is set but empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(Option<String>);

impl Namespace {
    /// The name, unless empty.
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

fn parse_optional_namespace(text: &str) -> Result<Namespace, ConfigError> {
    if text.is_empty() {
        return Ok(Namespace(None));
    }
    // A DNS label of RFC 1123, as a Namespace's name is.
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let valid = bytes.len() <= 63
        && bytes.iter().all(|byte| alphanumeric(*byte) || *byte == b'-')
        && bytes.first().copied().is_some_and(alphanumeric)
        && bytes.last().copied().is_some_and(alphanumeric);
    if valid {
        Ok(Namespace(Some(text.to_owned())))
    } else {
        Err(ConfigError::Namespace(text.to_owned()))
    }
}

fn parse_concurrency(text: &str) -> Result<NonZeroUsize, ConfigError> {
    text.parse()
        .map_err(|_| ConfigError::Concurrency(text.to_owned()))
}

/// Reads a duration such as `15s`, `1m30s` or `500ms`.
pub fn parse_duration(text: &str) -> Result<Duration, ConfigError> {
    let invalid = || ConfigError::Duration(text.to_owned());
    let duration: jiff::SignedDuration = text.trim().parse().map_err(|_| invalid())?;
    Duration::try_from(duration).map_err(|_| invalid())
}

/// Where a server listens: `HOST:PORT`, `:PORT` for all addresses, or `0` for nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress(Option<SocketAddr>);

impl BindAddress {
    /// The address, or `None` if the server is off.
    pub fn address(self) -> Option<SocketAddr> {
        self.0
    }
}

impl FromStr for BindAddress {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let address = match text.strip_prefix(':') {
            _ if text == "0" => return Ok(Self(None)),
            Some(port) => port
                .parse()
                .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
                .ok(),
            None => text.parse().ok(),
        };
        address
            .map(|address| Self(Some(address)))
            .ok_or_else(|| ConfigError::Address(text.to_owned()))
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(formatter),
            None => formatter.write_str("0"),
        }
    }
}

/// A setting can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Not a duration.
    #[error("failed to read the duration {0:?}: write a number and a unit, as in 15s, 1m30s or 500ms")]
    Duration(String),
    /// Not an address to listen on.
    #[error("failed to read the address {0:?}: write IP:PORT, :PORT for all addresses, or 0 for nowhere")]
    Address(String),
    /// Not a namespace's name.
    #[error(
        "failed to read the namespace {0:?}: a name is at most 63 lower case letters, digits and '-', and starts \
         and ends with a letter or digit"
    )]
    Namespace(String),
    /// Not a number of reconciles.
    #[error("failed to read the concurrency {0:?}: write a number of 1 or more")]
    Concurrency(String),
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        manager: ManagerArgs,
    }

    fn parse(flags: &[&str]) -> Result<ManagerArgs, String> {
        Cli::try_parse_from([&["x"], flags].concat())
            .map(|cli| cli.manager)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn reads_durations() {
        for (text, milliseconds) in [
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("0s", 0),
            ("1h", 3_600_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in ["", "15", "-1s", "soon", "1 year", "5xs"] {
            assert_eq!(parse_duration(text), Err(ConfigError::Duration(text.to_owned())));
        }
    }

    #[test]
    fn reads_addresses() {
        for (text, address) in [
            (":8080", Some("0.0.0.0:8080")),
            ("127.0.0.1:1", Some("127.0.0.1:1")),
            ("[::1]:80", Some("[::1]:80")),
            ("0", None),
        ] {
            let read = text.parse::<BindAddress>().unwrap().address();
            assert_eq!(read, address.map(|address| address.parse().unwrap()), "{text}");
        }
        for text in ["", "8080", ":", ":99999", "localhost", "1.2.3.4"] {
            assert_eq!(
                text.parse::<BindAddress>(),
                Err(ConfigError::Address(text.to_owned()))
            );
        }
    }

    #[test]
    fn the_defaults() {
        Cli::command().debug_assert();
        let args = parse(&[]).unwrap();
        assert_eq!(args.watch_namespace(), None);
        assert_eq!(args.max_concurrent_reconciles, None);
        assert_eq!(args.shutdown_timeout, Duration::from_secs(30));
        assert_eq!(args.metrics.metrics_bind_address.to_string(), "0.0.0.0:8080");
        assert_eq!(args.health.health_probe_bind_address.to_string(), "0.0.0.0:8081");
        assert!(args.leader_election.leader_elect);
    }

    #[test]
    fn each_variable_has_its_flag() {
        let command = Cli::command();
        let variables: Vec<_> = command
            .get_arguments()
            .filter_map(|arg| arg.get_env()?.to_str())
            .collect();
        for variable in [
            "LEADER_ELECTION",
            "MAX_CONCURRENT_RECONCILES",
            "WATCH_NAMESPACE",
            "CONTROLLER_NAMESPACE",
        ] {
            assert!(
                variables.contains(&variable),
                "{variable} is not in {variables:?}"
            );
        }
    }

    #[test]
    fn reads_names_and_numbers() {
        let args = parse(&[
            "--namespace=a-1",
            "--controller-namespace=",
            "--max-concurrent-reconciles=7",
        ])
        .unwrap();
        assert_eq!(args.watch_namespace(), Some("a-1"));
        assert_eq!(args.controller_namespace, Some(Namespace(None)));
        assert_eq!(args.max_concurrent_reconciles, NonZeroUsize::new(7));
        for (flag, message) in [
            ("--namespace=Team", "failed to read the namespace \"Team\""),
            ("--namespace=a,b", "failed to read the namespace \"a,b\""),
            (
                "--max-concurrent-reconciles=0",
                "failed to read the concurrency \"0\"",
            ),
            (
                "--max-concurrent-reconciles=-1",
                "failed to read the concurrency \"-1\"",
            ),
            ("--metrics-bind-address=x", "failed to read the address \"x\""),
            ("--shutdown-timeout=5", "failed to read the duration \"5\""),
        ] {
            let error = parse(&[flag]).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
