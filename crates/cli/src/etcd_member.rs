//! `clusterwright etcd-member`: what the first container of a pod of etcd runs.

use clusterwright_hosted::etcd::{book::MEMBERS_VARIABLE, start};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The member's name
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The folder of the member's volume
    #[arg(long, value_name = "DIR")]
    volume: PathBuf,
    /// How all members stand, as JSON
    #[arg(long, value_name = "JSON", env = MEMBERS_VARIABLE)]
    members: String,
}

pub fn run(args: &Args) -> ExitCode {
    match start::prepare(&args.name, &args.members, &args.volume) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            let status = refusal.exit_status();
            eprintln!("error: {}", crate::describe(&refusal.into()));
            ExitCode::from(status)
        }
    }
}
