//! Every flag that is generated, for each minor, is one that the real programs know, with a value that they can read.
//!
//! With `--help` at the end, a program reads all flags before it, refuses what it does not know, and does nothing
//! else.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod common;

use std::path::Path;
use std::process::Command;

use clusterwright_hosted::components::{self, Desired, Settings};
use clusterwright_hosted::inputs::Inputs;
use clusterwright_testkit::tools;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::json;

/// Whether the program reads these flags; its output if not.
fn reads(program: &Path, args: &[String]) -> Result<(), String> {
    let output = Command::new(program)
        .args(args)
        .arg("--help")
        .env_clear()
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&text)
        .lines()
        .filter(|line| line.contains("rror") || line.contains("flag"))
        .take(5)
        .collect())
}

/// The arguments as the kubelet hands them over.
fn args(template: &PodTemplateSpec) -> Vec<String> {
    let container = &template.spec.as_ref().unwrap().containers[0];
    let args = container.args.clone().unwrap();
    args.into_iter()
        .map(|arg| arg.replace("$(POD_NAME)", "demo-etcd-0"))
        .collect()
}

/// A small and a full one of each minor.
fn examples() -> Vec<Inputs> {
    let (mut control_plane, cluster) = common::everything();
    let mut examples = Vec::new();
    for version in ["v1.33.13", "v1.34.4", "v1.35.4", "v1.36.3"] {
        control_plane["version"] = json!(version);
        examples.push(common::inputs(&json!({"version": version}), &json!({})));
        examples.push(common::inputs(&control_plane, &cluster));
    }
    examples
}

fn check(program: &Path, make: impl Fn(&Inputs, &Settings) -> Desired) {
    for inputs in examples() {
        let settings = Settings {
            version: inputs.version.clone(),
            rollout: None,
        };
        let args = args(&make(&inputs, &settings).deployment.spec.unwrap().template);
        assert_eq!(reads(program, &args), Ok(()), "{args:#?}");
        let unknown = [args, vec!["--no-such-flag=1".to_owned()]].concat();
        assert!(
            reads(program, &unknown).is_err(),
            "the program would have taken any flag"
        );
    }
}

#[test]
fn kube_apiserver_reads_its_flags() {
    let program = clusterwright_testkit::require!(tools::find("kube-apiserver"));
    check(&program, |inputs, settings| {
        components::api_server(inputs, settings, Some([192, 0, 2, 1].into()))
    });
}

#[test]
fn kube_controller_manager_reads_its_flags() {
    let program = clusterwright_testkit::require!(tools::find("kube-controller-manager"));
    check(&program, components::controller_manager);
}

#[test]
fn kube_scheduler_reads_its_flags() {
    let program = clusterwright_testkit::require!(tools::find("kube-scheduler"));
    check(&program, components::scheduler);
}

#[test]
fn etcd_reads_its_flags() {
    let program = clusterwright_testkit::require!(tools::find("etcd"));
    for inputs in examples() {
        let desired = common::etcd(&inputs, &inputs.version);
        let args = args(&desired.stateful_set.spec.unwrap().template);
        assert_eq!(reads(&program, &args), Ok(()), "{args:#?}");
        let unknown = [args, vec!["--no-such-flag=1".to_owned()]].concat();
        assert!(
            reads(&program, &unknown).is_err(),
            "the program would have taken any flag"
        );
    }
}
