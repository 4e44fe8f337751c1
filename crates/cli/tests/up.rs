//! The binary as a user runs it: `up`, and what it says of bad input.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod common;

use common::Running;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn clusterwright(args: &[&str]) -> Output {
    common::clusterwright(args).output().unwrap()
}

/// Applies these texts, each a file, and expects that it is refused; gives what is said.
fn refused(texts: &[&str], more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut args = vec![
        "up".to_owned(),
        "--pods".to_owned(),
        "simulated".to_owned(),
        "--once".to_owned(),
        "--timeout".to_owned(),
        "60s".to_owned(),
    ];
    args.extend(more.iter().map(ToString::to_string));
    for (index, text) in texts.iter().enumerate() {
        let path = folder.path().join(format!("{index}.yaml"));
        std::fs::write(&path, text).unwrap();
        args.extend(["-f".to_owned(), path.display().to_string()]);
    }
    let output = clusterwright(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    // Nothing had been started, so nothing was applied.
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{said}");
    said
}

#[test]
fn the_example_becomes_ready_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let output = common::clusterwright(&["up", "--pods", "simulated", "--once", "--timeout", "60s"])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let (said, told) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(output.status.code(), Some(0), "{said}{told}");
    assert!(said.starts_with("export KUBECONFIG="), "{said}");
    for line in [
        "simulated",
        "✓ Cluster/example -n default",
        "✓ HostedControlPlane/example -n default",
        "All is ready",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_signal_ends_it_at_any_time_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let start = |args: &[&str]| {
        let mut command = common::clusterwright(args);
        command.env("TMPDIR", folder.path());
        Running::start(command)
    };
    let empty = || std::fs::read_dir(folder.path()).unwrap().count() == 0;
    for name in ["INT", "TERM", "HUP"] {
        // As soon as there is something to leave behind.
        let mut up = start(&["up", "--pods", "simulated", "--once"]);
        up.line("export KUBECONFIG=");
        up.signal(name);
        let (status, said) = up.end();
        assert_eq!(status.code(), Some(130), "{name}: {said}");
        assert!(empty(), "{name}");
    }
    // When all is ready, an end is what was asked for.
    let mut up = start(&["up", "--pods", "simulated"]);
    up.line("All was ready");
    up.signal("INT");
    let (status, said) = up.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(empty());
}

#[test]
fn what_is_not_ready_in_time_is_reported_with_a_status_of_its_own() {
    let output = clusterwright(&["up", "--pods", "simulated", "--once", "--timeout", "1ms"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.starts_with("not ready after 1ms:\n"), "{told}");
}

#[test]
fn what_is_not_yaml_is_refused() {
    let said = refused(&["kind: [unclosed"], &[]);
    assert!(said.contains("0.yaml: failed to parse as YAML"), "{said}");
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let said = refused(&[&control_plane("v1.33.0", "replica: 3")], &[]);
    assert!(
        said.contains("replica") && said.contains("0.yaml, document 1"),
        "{said}"
    );
}

#[test]
fn a_wrong_type_is_refused() {
    let said = refused(&[&control_plane("v1.33.0", "replicas: three")], &[]);
    assert!(
        said.contains("spec.replicas") && said.contains("got string"),
        "{said}"
    );
}

#[test]
fn an_unsupported_version_is_refused() {
    let said = refused(&[&control_plane("v1.20.0", "replicas: 3")], &[]);
    assert!(said.contains("spec.version") && said.contains("1.33"), "{said}");
}

#[test]
fn an_unserved_api_version_names_the_one_that_is() {
    let text = control_plane("v1.33.0", "replicas: 3").replace("v1alpha1", "v9");
    let said = refused(&[&text], &[]);
    assert!(
        said.contains("it has it in controlplane.cluster.x-k8s.io/v1alpha1"),
        "{said}"
    );
}

#[test]
fn a_fault_in_the_second_document_applies_nothing() {
    let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n";
    let bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NOT_A_NAME}\n";
    let said = refused(&[&format!("{good}---\n{bad}")], &[]);
    assert!(
        said.contains("document 2") && said.contains("NOT_A_NAME"),
        "{said}"
    );
}

#[test]
fn an_object_that_is_too_large_is_refused() {
    let data = "x".repeat(1_600_000);
    let said = refused(
        &[&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata: {{a: {data}}}\n"
        )],
        &[],
    );
    assert!(said.to_lowercase().contains("too l"), "{said}");
}

#[test]
fn an_old_cluster_is_shown_as_it_should_be() {
    let old = "apiVersion: cluster.x-k8s.io/v1beta1\nkind: Cluster\nmetadata: {name: c}\nspec: {controlPlaneRef: \
               {apiVersion: controlplane.cluster.x-k8s.io/v1alpha1, kind: HostedControlPlane, name: c}}\n";
    assert!(refused(&[old], &[]).contains("apiGroup: controlplane.cluster.x-k8s.io"));
}

#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = clusterwright(&["up", "--pods", "simulated", "--once", "--port", &port]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&port) && said.contains("--port"), "{said}");
}

/// A definition of ours by name, in another shape.
const OTHER_SHAPE: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: hostedcontrolplanes.controlplane.cluster.x-k8s.io}
spec:
  group: controlplane.cluster.x-k8s.io
  names: {kind: HostedControlPlane, plural: hostedcontrolplanes, singular: hostedcontrolplane, listKind: HostedControlPlaneList}
  scope: Namespaced
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

#[test]
fn a_definition_in_another_shape_is_not_overwritten_unless_forced() {
    let said = refused(&[OTHER_SHAPE], &[]);
    for part in [
        "hostedcontrolplanes.controlplane.cluster.x-k8s.io",
        "differs in",
        "--force",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crd.yaml");
    std::fs::write(&path, OTHER_SHAPE).unwrap();
    let output = clusterwright(&[
        "up",
        "--pods",
        "simulated",
        "--once",
        "--force",
        "-f",
        path.to_str().unwrap(),
    ]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn standard_input_is_read() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_clusterwright"))
        .args(["up", "--pods", "simulated", "--once", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: piped}\n";
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("ConfigMap/piped")
    );
}

#[test]
fn a_kubeconfig_that_points_nowhere_is_named() {
    let missing = clusterwright(&["manager", "--kubeconfig", "/nonexistent/kubeconfig"]);
    assert!(
        String::from_utf8(missing.stderr)
            .unwrap()
            .contains("/nonexistent/kubeconfig")
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    // The port was free a moment ago, and nobody listens.
    let port = clusterwright_testkit::process::free_port().unwrap();
    std::fs::write(&path, kubeconfig(port)).unwrap();
    let output = clusterwright(&["manager", "--kubeconfig", path.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!(
            "failed to reach the API server https://127.0.0.1:{port}"
        )),
        "{said}"
    );
}

#[test]
fn committed_manifests_are_what_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let output = clusterwright(&["manifests", "--output-dir", folder.path().to_str().unwrap()]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/install.yaml");
    let (made, committed) = (
        std::fs::read_to_string(folder.path().join("install.yaml")),
        std::fs::read_to_string(committed),
    );
    assert_eq!(made.unwrap(), committed.unwrap());
}

fn control_plane(version: &str, more: &str) -> String {
    format!(
        "apiVersion: controlplane.cluster.x-k8s.io/v1alpha1\nkind: HostedControlPlane\nmetadata: {{name: c}}\nspec:\n  \
         version: {version}\n  {more}\n"
    )
}

fn kubeconfig(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}', \
         insecure-skip-tls-verify: true}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\ncontexts: [{{name: c, context: \
         {{cluster: c, user: u}}}}]\ncurrent-context: c\n"
    )
}
