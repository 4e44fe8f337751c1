//! The binary: parses, wires, prints.

mod apiserver;
mod connect;
mod documents;
mod etcd_member;
mod files;
mod get;
mod install;
mod manager;
mod manifests;
mod operators;
#[cfg(target_os = "linux")]
mod podlet;
mod signals;
mod tools;
mod up;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Kubernetes clusters as Kubernetes objects.
///
/// Create, host, drain and retire clusters by applying objects. To see it work on this machine, with nothing
/// installed: `clusterwright up`.
#[derive(Parser)]
#[command(name = "clusterwright", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// What a command is, the help of its arguments says: a comment here would take its place.
#[derive(Subcommand)]
enum Command {
    Up(Box<up::Args>),
    /// Run the controllers against a Kubernetes cluster
    Manager(Box<manager::Args>),
    Apiserver(apiserver::Args),
    #[cfg(target_os = "linux")]
    Podlet(Box<podlet::Args>),
    /// Get what gives access to a hosted cluster
    #[command(subcommand)]
    Get(get::Command),
    Install(install::Args),
    /// Print what `install` applies, for kubectl, Helm or GitOps
    Manifests(manifests::Args),
    /// Say whether a member of etcd may start: the first container of its pods
    #[command(hide = true)]
    EtcdMember(etcd_member::Args),
}

fn main() -> ExitCode {
    // Before any thread exists: as a helper of the podlet's, this is another program.
    #[cfg(target_os = "linux")]
    if let Some(code) = clusterwright_podlet::helper::main_if_called() {
        return code;
    }
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up(args) => up::run(*args).await,
        Command::Manager(args) => manager::run(*args).await.map(|()| ExitCode::SUCCESS),
        Command::Apiserver(args) => apiserver::run(args).await,
        #[cfg(target_os = "linux")]
        Command::Podlet(args) => podlet::run(*args).await.map(|()| ExitCode::SUCCESS),
        Command::Get(command) => get::run(command).await.map(|()| ExitCode::SUCCESS),
        Command::Install(args) => install::run(args).await.map(|()| ExitCode::SUCCESS),
        Command::Manifests(args) => manifests::run(&args).map(|()| ExitCode::SUCCESS),
        Command::EtcdMember(args) => return etcd_member::run(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {}", describe(&error));
        ExitCode::FAILURE
    })
}

/// The error and its causes, down to the API server's own words: what follows those is the same again.
fn describe(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(kube::Error::Api(status)) = cause.downcast_ref() {
            parts.push(status.message.clone());
            break;
        }
        parts.push(cause.to_string());
    }
    parts.dedup();
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_ends_with_the_servers_words() {
        let status = kube::core::Status::failure("pods \"a\" is forbidden", "Forbidden");
        let error = anyhow::Error::from(kube::Error::Api(status.boxed())).context("failed to start");
        assert_eq!(describe(&error), "failed to start: pods \"a\" is forbidden");
    }

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn help_teaches() {
        use clap::CommandFactory as _;
        let cli = Cli::command();
        for path in [&["up"][..], &["apiserver"], &["install"], &["get", "kubeconfig"]] {
            let mut command = &cli;
            for name in path {
                command = command.find_subcommand(name).unwrap();
            }
            assert!(command.get_about().is_some(), "{path:?}");
            assert!(command.get_long_about().is_some(), "{path:?}");
        }
    }
}
