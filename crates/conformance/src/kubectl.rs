//! Calls of the stock kubectl.

use crate::scenario::Options;
use anyhow::{Context, bail};
use clusterwright_testkit::tools;
use serde_json::{Value, json};
use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// The kubectl of one scenario: one version, one namespace, a home of its own.
pub struct Calls {
    version: Option<String>,
    namespace: String,
    home: Option<TempDir>,
    open: BTreeMap<String, (Child, Lines<BufReader<ChildStdout>>)>,
}

impl Calls {
    pub fn new(version: Option<String>, namespace: String) -> Self {
        Self {
            version,
            namespace,
            home: None,
            open: BTreeMap::new(),
        }
    }

    fn home(&mut self) -> anyhow::Result<&Path> {
        if self.home.is_none() {
            self.home = Some(tempfile::tempdir()?);
        }
        Ok(self.home.as_ref().context("no home")?.path())
    }

    /// Calls kubectl and waits for its end, unless the step leaves it open.
    pub async fn call(
        &mut self,
        kubeconfig: &Path,
        args: &str,
        input: String,
        options: &Options,
    ) -> anyhow::Result<Value> {
        let version = self.version.clone().context("not a scenario of kubectl")?;
        let program = tools::find_version("kubectl", &version)?;
        let namespace = self.namespace.clone();
        let home = self.home()?;
        let editor = home.join("editor");
        std::fs::write(&editor, "#!/bin/sh\nexec sed -i \"$SCRIPT\" \"$1\"\n")?;
        std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755))?;
        let mut command = Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--namespace", &namespace])
            .args(split(args)?)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("TMPDIR", home)
            .env("KUBE_EDITOR", &editor)
            .env("SCRIPT", options.editor.as_deref().unwrap_or_default())
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().context("failed to start kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(input.as_bytes())
                .await
                .context("failed to write to kubectl")?;
        }
        if let Some(name) = &options.open {
            let stdout = child.stdout.take().context("no standard output")?;
            self.open
                .insert(name.clone(), (child, BufReader::new(stdout).lines()));
            return Ok(json!({}));
        }
        let output = timeout(PATIENCE, child.wait_with_output())
            .await
            .context("kubectl did not end in time")??;
        let mut entry = json!({"exit": output.status.code()});
        for (key, text) in [("stdout", output.stdout), ("stderr", output.stderr)] {
            let text = String::from_utf8_lossy(&text).into_owned();
            if !text.is_empty() {
                entry[key] = text.lines().collect();
            }
        }
        Ok(entry)
    }

    /// Reads `count` lines of a call that was left open under `name`; none when there is no such call.
    pub async fn read(&mut self, name: &str, count: Option<usize>) -> anyhow::Result<Option<Value>> {
        let Some((_, lines)) = self.open.get_mut(name) else {
            return Ok(None);
        };
        let mut read = Vec::new();
        while read.len() < count.unwrap_or(1) {
            match timeout(PATIENCE, lines.next_line()).await {
                Err(_) => bail!("waited in vain for lines; so far: {read:?}"),
                Ok(line) => match line? {
                    Some(line) => read.push(line),
                    None => return Ok(Some(json!({"stdout": read, "end": "closed"}))),
                },
            }
        }
        Ok(Some(json!({"stdout": read})))
    }
}

/// Splits arguments at spaces, with single quotes around what holds some.
fn split(args: &str) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in args.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quoted {
        bail!("a quote is not closed in {args}");
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(
            split("patch cm a -p '{\"a\": 1}' ''").unwrap(),
            ["patch", "cm", "a", "-p", "{\"a\": 1}", ""]
        );
        assert!(split("a 'b").is_err());
    }
}
