//! Stock kubectl against `up`, with the kubeconfig that it prints and no special flags.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use clusterwright_testkit::{require, tools};
use common::{PATIENCE, Running, clusterwright};

/// One kubectl with a home of its own.
struct Kubectl<'a> {
    program: &'a Path,
    home: &'a Path,
    kubeconfig: &'a str,
}

impl Kubectl<'_> {
    /// What it prints; it must end well.
    fn run(&self, args: &str) -> String {
        let output = Command::new(self.program)
            .args(args.split_whitespace())
            .env("HOME", self.home)
            .env("KUBECONFIG", self.kubeconfig)
            .env("KUBE_EDITOR", "sed -i s/^..replicas:.*/\\ \\ replicas:\\ 3/")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "kubectl {args}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    fn says(&self, args: &str, words: &[&str]) {
        let said = self.run(args);
        for word in words {
            assert!(said.contains(word), "kubectl {args}: {word:?} is not in {said}");
        }
    }
}

fn walk(program: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = clusterwright(&["up", "--pods", "simulated"]);
    command.env("TMPDIR", folder.path());
    let mut up = Running::start(command);
    let kubeconfig = up.line("export KUBECONFIG=");
    up.line("All was ready");
    let kubectl = Kubectl {
        program,
        home: folder.path(),
        kubeconfig: &kubeconfig,
    };

    kubectl.says("auth whoami", &["system:masters"]);
    kubectl.says(
        "api-resources",
        &["hostedcontrolplanes", "hcp", "statefulsets", "sts"],
    );
    kubectl.says(
        "get hcp,deployments,pods",
        &["VERSION", "v1.36.3", "3/3", "example-etcd-0", "Running"],
    );
    kubectl.says(
        "describe cluster example",
        &["ControlPlaneAvailable", "Control Plane Ref", "198.18.0.1"],
    );
    kubectl.says("explain hcp.spec.replicas", &["FIELD: replicas", "integer"]);
    kubectl.says(
        "explain deployment.spec.template.spec.containers",
        &["<[]Container>", "image"],
    );
    kubectl.run("scale hcp example --replicas=1");
    kubectl.says(
        "wait hcp example --for=jsonpath={.status.readyReplicas}=1 --timeout=60s",
        &["condition met"],
    );
    kubectl.run("wait hcp example --for=condition=Available --timeout=60s");
    kubectl.says("edit hcp example", &["edited"]);
    kubectl.says("get hcp example -o jsonpath={.spec.replicas}", &["3"]);
    kubectl.run("label hcp example team=platform");
    kubectl.says("get hcp -l team=platform -o name", &["example"]);
    kubectl.run("patch hcp example --type=merge -p {\"metadata\":{\"annotations\":{\"a\":\"b\"}}}");
    kubectl.says("get hcp example -o yaml", &["a: b"]);
    kubectl.run("delete cluster example --timeout=60s");
    up.line("… Cluster/example -n default  is not there");
    // What it owned follows.
    let start = Instant::now();
    let left = || kubectl.run("get hcp,deployments,statefulsets,pods,persistentvolumeclaims,secrets -o name");
    while !left().is_empty() {
        assert!(start.elapsed() < PATIENCE, "{}", left());
    }

    up.signal("INT");
    let (status, said) = up.end();
    assert!(status.success(), "{said}");
    assert!(!Path::new(&kubeconfig).exists());
}

#[test]
fn the_newest_kubectl_works() {
    walk(&require!(tools::find_version("kubectl", "1.36.3")));
}

#[test]
fn the_oldest_kubectl_works() {
    walk(&require!(tools::find_version("kubectl", "1.32.3")));
}
