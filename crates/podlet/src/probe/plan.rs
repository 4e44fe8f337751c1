//! What a probe asks, how often, and what its answers amount to. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::check::Outcome;

/// A container's probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Whether it has started. The others begin after that.
    pub startup: Option<Plan>,
    /// Whether it is to get connections.
    pub readiness: Option<Plan>,
    /// Whether it is to go on.
    pub liveness: Option<Plan>,
}

/// A probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is asked.
    pub means: Means,
    /// How long after the container's start it begins.
    pub delay: Duration,
    /// How often it asks.
    pub period: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How many good answers in a row count.
    pub successes: u32,
    /// How many bad answers in a row count.
    pub failures: u32,
    /// How long the container may take to end if it fails, if not as long as the pod.
    pub grace: Option<Duration>,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// A command in the container, which is to exit with 0.
    Command(Vec<String>),
    /// A request, to be answered with a status from 200 to 399.
    Http {
        /// Whether by TLS. The certificate is not looked at, as kubelets don't.
        tls: bool,
        /// The host, if not the pod.
        host: Option<String>,
        /// The port.
        port: u16,
        /// Path and query.
        path: String,
        /// Headers.
        headers: Vec<(String, String)>,
    },
    /// A connection.
    Tcp {
        /// The host, if not the pod.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// gRPC's own question for health.
    Grpc {
        /// The port.
        port: u16,
        /// The service that is asked for.
        service: String,
    },
}

impl Means {
    /// Whether asking costs so little that it may be done more often than is said: it starts no process.
    pub fn is_light(&self) -> bool {
        !matches!(self, Self::Command(_))
    }
}

impl Probes {
    /// The probes of a container. One whose port has no number never succeeds, as if nobody listened.
    pub fn of(container: &Container) -> Self {
        let plan = |probe: &Option<Probe>| probe.as_ref().and_then(|probe| Plan::of(probe, container));
        Self {
            startup: plan(&container.startup_probe),
            readiness: plan(&container.readiness_probe),
            liveness: plan(&container.liveness_probe),
        }
    }
}

impl Plan {
    fn of(probe: &Probe, container: &Container) -> Option<Self> {
        let means = if let Some(exec) = &probe.exec {
            Means::Command(exec.command.clone().unwrap_or_default())
        } else if let Some(get) = &probe.http_get {
            let path = get.path.clone().filter(|path| !path.is_empty());
            Means::Http {
                tls: get.scheme.as_deref() == Some("HTTPS"),
                host: get.host.clone().filter(|host| !host.is_empty()),
                port: port(&get.port, container),
                path: format!("/{}", path.unwrap_or_default().trim_start_matches('/')),
                headers: get
                    .http_headers
                    .iter()
                    .flatten()
                    .map(|header| (header.name.clone(), header.value.clone()))
                    .collect(),
            }
        } else if let Some(tcp) = &probe.tcp_socket {
            Means::Tcp {
                host: tcp.host.clone().filter(|host| !host.is_empty()),
                port: port(&tcp.port, container),
            }
        } else {
            let grpc = probe.grpc.as_ref()?;
            Means::Grpc {
                port: u16::try_from(grpc.port).unwrap_or_default(),
                service: grpc.service.clone().unwrap_or_default(),
            }
        };
        let seconds = |given: Option<i32>, default: u64| {
            let given = given.and_then(|seconds| u64::try_from(seconds).ok());
            Duration::from_secs(given.filter(|seconds| *seconds > 0).unwrap_or(default))
        };
        let count = |given: Option<i32>, default: u32| {
            let given = given.and_then(|count| u32::try_from(count).ok());
            given.filter(|count| *count > 0).unwrap_or(default)
        };
        Some(Self {
            means,
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
            grace: probe
                .termination_grace_period_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
        })
    }
}

/// A port by its number, or by its name among the container's.
fn port(given: &IntOrString, container: &Container) -> u16 {
    let number = match given {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_ref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .unwrap_or_default()
}

/// Counts answers in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter {
    good: bool,
    row: u32,
}

impl Counter {
    /// Adds an answer, and returns what the probe says now, if that is settled: whether it is well.
    pub fn add(&mut self, outcome: &Outcome, plan: &Plan) -> Option<bool> {
        let good = *outcome == Outcome::Good;
        self.row = if good == self.good { self.row + 1 } else { 1 };
        self.good = good;
        let enough = if good { plan.successes } else { plan.failures };
        (self.row >= enough).then_some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(text: &str) -> Probes {
        let container: Container = serde_saphyr::from_str(text).unwrap();
        Probes::of(&container)
    }

    #[test]
    fn plans_and_their_defaults() {
        let probes = probes(
            "{name: c, ports: [{name: web, containerPort: 8443}],
              startupProbe: {httpGet: {path: 'livez?a=b', port: web, scheme: HTTPS, httpHeaders: [{name: A, value: b}]},
                initialDelaySeconds: 10, periodSeconds: 5, timeoutSeconds: 15, failureThreshold: 24},
              readinessProbe: {tcpSocket: {port: '80'}, successThreshold: 2, terminationGracePeriodSeconds: 3},
              livenessProbe: {grpc: {port: 9, service: s}}}",
        );
        let plan = |means, rest: (u64, u64, u64, u32, u32), grace: Option<u64>| Plan {
            means,
            delay: Duration::from_secs(rest.0),
            period: Duration::from_secs(rest.1),
            timeout: Duration::from_secs(rest.2),
            successes: rest.3,
            failures: rest.4,
            grace: grace.map(Duration::from_secs),
        };
        let http = Means::Http {
            tls: true,
            host: None,
            port: 8443,
            path: "/livez?a=b".to_owned(),
            headers: vec![("A".to_owned(), "b".to_owned())],
        };
        assert_eq!(probes.startup, Some(plan(http, (10, 5, 15, 1, 24), None)));
        let tcp = Means::Tcp { host: None, port: 80 };
        assert_eq!(probes.readiness, Some(plan(tcp, (0, 10, 1, 2, 3), Some(3))));
        let grpc = Means::Grpc {
            port: 9,
            service: "s".to_owned(),
        };
        assert_eq!(probes.liveness, Some(plan(grpc, (0, 10, 1, 1, 3), None)));
    }

    #[test]
    fn answers_count_in_a_row() {
        let plan = probes("{name: c, readinessProbe: {tcpSocket: {port: 1}, successThreshold: 2}}");
        let plan = plan.readiness.unwrap();
        let bad = Outcome::Bad("why".to_owned());
        let mut counter = Counter::default();
        let answers = [
            &bad,
            &bad,
            &Outcome::Good,
            &bad,
            &bad,
            &bad,
            &bad,
            &Outcome::Good,
            &Outcome::Good,
        ];
        let said = answers.map(|answer| counter.add(answer, &plan));
        assert_eq!(
            said,
            [
                None,
                None,
                None,
                None,
                None,
                Some(false),
                Some(false),
                None,
                Some(true)
            ]
        );
    }
}
