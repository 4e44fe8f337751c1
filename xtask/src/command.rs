//! Starting other programs.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the workspace: where cargo runs us from, as checkouts that share a target folder share this program.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package)
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The folder where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs us, in the workspace. It does not inherit what cargo told us of our own package: build scripts
/// (that of `ring`) run again when these variables change, and all that stands on them is compiled anew.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
            command.env_remove(&name);
        }
    }
    command.current_dir(root());
    command
}

/// A program of the workspace, built. It is built as for the tests, whose dependencies have features of their own, so
/// that `cargo test` finds what is compiled here and the other way round; with `--package` each would compile it anew.
pub fn built(name: &str) -> Result<Command> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--workspace", "--bin", name, "--examples"]);
    if !run(&mut build)? {
        bail!("failed to build {name}");
    }
    let mut program = Command::new(target().join("debug").join(name));
    program.current_dir(root());
    Ok(program)
}

/// Runs to the end; true when it succeeded.
pub fn run(command: &mut Command) -> Result<bool> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("failed to start {program}"))?;
    Ok(status.success())
}

/// Runs to the end and returns what it wrote to stdout; fails when it fails.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("failed to start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
