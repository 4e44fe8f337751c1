//! A node's pods and their endpoints without the node, and kubectl.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use clusterwright_clock::Clock;
use clusterwright_podlet::endpoints::{Access, Endpoints, Identity, Served};
use clusterwright_podlet::isolation::Streams;
use clusterwright_podlet::pod::{ContainerState, Log, PodState, State, Stream, Terminated};
use clusterwright_podlet::registry::{Entry, Registry};
use clusterwright_testkit::{Authority, Pair};
use jiff::Timestamp;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use crate::common::{Machine, process};

const NODE: &str = "node";

/// A node's pods and their endpoints, without the node.
pub struct Kubelet {
    pub machine: Machine,
    pub registry: Registry,
    pub endpoints: Endpoints,
    /// What the API server shows.
    pub client: Pair,
}

impl Kubelet {
    pub async fn start(machine: Machine) -> Self {
        let authority = Authority::new().unwrap();
        let registry = Registry::default();
        let served = Served {
            registry: registry.clone(),
            isolation: machine.isolation.clone(),
            clock: Clock::system(),
        };
        let identity = Identity::self_signed(NODE, &[IpAddr::V4(Ipv4Addr::LOCALHOST)]).unwrap();
        let access = Access::new(NODE.to_owned(), None);
        let address = "127.0.0.1:0".parse().unwrap();
        let certificate = authority.certificate();
        let endpoints = Endpoints::start(address, identity, Some(&certificate), access, served);
        Self {
            endpoints: endpoints.await.unwrap(),
            client: authority.client("kube-apiserver", &["system:masters"]).unwrap(),
            machine,
            registry,
        }
    }

    /// Runs a script in a pod, as the run of its container after `restarts` restarts. It is the pod's only container.
    pub async fn run(&self, name: &str, last: u8, restarts: u32, script: &str) {
        let address = Ipv4Addr::new(10, 244, 0, last);
        let pod = self.machine.isolation.namespaces(name, address).await.unwrap();
        let (output, output_end) = std::io::pipe().unwrap();
        let (error, error_end) = std::io::pipe().unwrap();
        let streams = Streams {
            output: output_end.into(),
            error: error_end.into(),
            ..Streams::null().unwrap()
        };
        let process = process(&["bash", "-c", script]);
        let isolation = self.machine.isolation.clone();
        let running = isolation.container(&pod, self.machine.root(), process.clone(), streams);
        let mut running = running.await.unwrap();
        let logs = self.machine.volatile().join("logs").join(name);
        if restarts == 0 {
            // Of a pod of this name before.
            let _ = std::fs::remove_dir_all(&logs);
        }
        let log = Arc::new(Log::create(&logs.join("main"), restarts, Clock::system()).unwrap());
        let now = Timestamp::now();
        let ended = Terminated {
            code: 0,
            signal: None,
            reason: "Completed",
            message: String::new(),
            started: now,
            finished: now,
        };
        let container = ContainerState {
            name: "main".to_owned(),
            state: State::Running { started: now },
            last: (restarts > 0).then(|| ended.clone()),
            restarts,
            started: true,
            ready: true,
            unhealthy: None,
            hook_failed: None,
            handle: Some(running.handle()),
            process: Some(Arc::new(process)),
        };
        let (publish, state) = watch::channel(PodState {
            started: now,
            init: Vec::new(),
            containers: vec![container],
            ended: false,
        });
        tokio::spawn(async move {
            let output = log.copy(Stream::Output, Receiver::from_owned_fd(output.into()).unwrap());
            let error = log.copy(Stream::Error, Receiver::from_owned_fd(error.into()).unwrap());
            tokio::join!(output, error);
            // Or all is gone, at the end of the test.
            let _ = running.ended().await;
            publish.send_modify(|state| {
                state.containers[0].state = State::Terminated(ended);
                state.containers[0].handle = None;
            });
            // Until nobody looks any more.
            publish.closed().await;
        });
        self.registry.add(Entry {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            address,
            logs,
            state,
        });
    }
}

/// kubectl as an administrator.
#[derive(Clone)]
pub struct Kubectl {
    pub program: PathBuf,
    pub kubeconfig: PathBuf,
}

impl Kubectl {
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).args(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub async fn run_with(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        let input = input.to_vec();
        let run = move || {
            let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let writer = std::thread::spawn(move || stdin.write_all(&input));
            let output = child.wait_with_output().unwrap();
            // What it did not read it did not need.
            let _ = writer.join().unwrap();
            output
        };
        blocking(run).await
    }

    pub async fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, b"").await
    }

    /// What it says when all is well.
    pub async fn says(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let error = text(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        text(&output.stdout)
    }

    /// What it complains of.
    pub async fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(!output.status.success(), "{args:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// The node, and pods on it.
    pub async fn prepare(&self, port: u16, features: &str, pods: &[&str]) {
        let node = format!(r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{NODE}"}}}}"#);
        let account =
            r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default"}}"#.to_owned();
        let mut objects = vec![node, account];
        objects.extend(pods.iter().map(|pod| {
            format!(
                r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{pod}"}},"spec":{{"nodeName":"{NODE}",
                "containers":[{{"name":"main","image":"none"}}]}}}}"#
            )
        }));
        for object in objects {
            let output = self.run_with(&["apply", "-f", "-"], object.as_bytes()).await;
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
        let status = format!(
            r#"{{"status":{{"addresses":[{{"type":"InternalIP","address":"127.0.0.1"}}],"declaredFeatures":[{features}],
            "daemonEndpoints":{{"kubeletEndpoint":{{"Port":{port}}}}}}}}}"#
        );
        self.says(&[
            "patch",
            "node",
            NODE,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ])
        .await;
        for pod in pods {
            // kubectl forwards ports of pods only that run.
            let status = r#"{"status":{"phase":"Running"}}"#;
            self.says(&[
                "patch",
                "pod",
                pod,
                "--subresource=status",
                "--type=merge",
                "-p",
                status,
            ])
            .await;
        }
    }
}

/// Does what blocks, on a thread that nobody waits for if the test fails.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || done.send(work()).is_ok());
    result.await.unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
