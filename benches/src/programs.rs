//! Programs that benchmarks measure: built as this one was, started, and ended with the benchmark.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// How long `up` may take before something is wrong with it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Builds the binary that users run, beside this one and with its profile.
pub fn clusterwright() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo told this program of its own package is not to be inherited: build scripts would run again for it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
            command.env_remove(&name);
        }
    }
    command
        .current_dir(root)
        .args(["build", "--quiet", "--package", "clusterwright"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    if !command.status().context("failed to start cargo")?.success() {
        bail!("failed to build clusterwright");
    }
    beside("clusterwright")
}

/// Builds one of the programs in `benches/peers`, with the ordinary Go client.
pub fn peer(name: &str) -> Result<PathBuf> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let binary = beside(&format!("peer-{name}"))?;
    let built = Command::new("go")
        .current_dir(&module)
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-o"])
        .arg(&binary)
        .arg(format!("./cmd/{name}"))
        .status()
        .context("failed to start go, which the peers are built with")?;
    if !built.success() {
        bail!("failed to build the peer {name}");
    }
    Ok(binary)
}

fn beside(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe().context("failed to find this program")?;
    Ok(exe.with_file_name(name))
}

/// A `clusterwright up` whose pods are processes, until it is dropped.
#[derive(Debug)]
pub struct Up {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// It goes with it.
    _folder: TempDir,
    /// The kubeconfig of the management cluster.
    pub kubeconfig: PathBuf,
}

impl Up {
    /// Starts it with these manifests, and returns when its API server answers.
    pub fn start(binary: &Path, manifests: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        let file = folder.path().join("manifests.yaml");
        std::fs::write(&file, manifests).context("failed to write the manifests")?;
        let mut child = Command::new(binary)
            .args(["up", "--pods", "process", "-f"])
            .arg(&file)
            .env("TMPDIR", folder.path())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {}", binary.display()))?;
        let stdout = child.stdout.take().context("it has no output")?;
        let (sender, lines) = mpsc::channel();
        // All of it is read, whether anybody waits for it or not: it is not to wait for us.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        let mut up = Self {
            child,
            lines,
            _folder: folder,
            kubeconfig: PathBuf::new(),
        };
        up.kubeconfig = up.line("export KUBECONFIG=")?.into();
        Ok(up)
    }

    /// The next line that it prints and that starts so, without that.
    pub fn line(&self, start: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.with_context(|| format!("clusterwright up does not say {start:?}"))?;
            if let Some(rest) = line.strip_prefix(start) {
                return Ok(rest.to_owned());
            }
        }
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it end as Ctrl-C does.
    pub fn end(mut self) -> Result<()> {
        let sent = Command::new("kill")
            .args(["-s", "INT", &self.child.id().to_string()])
            .status()
            .context("failed to start kill")?;
        let status = self.child.wait().context("failed to wait for clusterwright")?;
        if !sent.success() || !status.success() {
            bail!("clusterwright up ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
