//! What is left of a podlet that was killed, and what one says that can't start: nothing, and why.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use clusterwright_podlet::isolation::{Error, Signal};
use common::{Machine, PROGRAM, machines, output_of, process, until};
use rustix::process::{Pid, kill_process};

/// A podlet as a process of its own.
struct Podlet {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Podlet {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// Whose command line has this word.
fn processes(word: &str) -> Vec<String> {
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    numbers
        .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.split('\0').any(|part| part == word))
        .collect()
}

/// The network namespaces that processes of this machine are in.
fn networks() -> Vec<String> {
    let mut networks: Vec<String> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path().join("ns/net")).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    networks.sort();
    networks.dedup();
    networks
}

/// Where `/proc` shows the process with this word.
fn process_of(word: &str) -> Option<PathBuf> {
    let mut numbers = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    numbers.find(|path| {
        fs::read_to_string(path.join("cmdline")).is_ok_and(|line| line.split('\0').any(|part| part == word))
    })
}

fn network_of(word: &str) -> Option<String> {
    let network = fs::read_link(process_of(word)?.join("ns/net")).ok()?;
    Some(network.to_string_lossy().into_owned())
}

/// A word by which a test finds its process among all of this machine's.
fn word(test: u32, machine: &Machine) -> String {
    format!(
        "{}.{}",
        std::process::id() + test * 10_000_000,
        u8::from(machine.user_namespace)
    )
}

#[tokio::test]
async fn a_killed_podlet_leaves_nothing() {
    for machine in machines!() {
        let user = if machine.user_namespace { "user" } else { "root" };
        let folder = machine.folder.path().join("killed");
        let word = word(1, &machine);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["podlet", folder.to_str().unwrap(), user, "/usr/bin/sleep", &word]);
        let mut podlet = Podlet::start(command);
        assert_eq!(podlet.line(), "running");
        assert_eq!(processes(&word).len(), 2, "the podlet and its pod");
        let network = network_of(&word).unwrap();
        assert!(folder.join("root").exists());
        assert_eq!(mounts, fs::read_to_string("/proc/self/mountinfo").unwrap());

        podlet.process.kill().unwrap();
        podlet.process.wait().unwrap();
        until(|| processes(&word).is_empty()).await;
        until(|| !folder.exists()).await;
        until(|| {
            network == fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy()
                || !networks().contains(&network)
        })
        .await;
        assert_eq!(mounts, fs::read_to_string("/proc/self/mountinfo").unwrap());
    }
}

#[tokio::test]
async fn nothing_is_mounted_beneath_a_shared_mount() {
    for machine in machines!() {
        let folder = machine.folder.path().join("shared");
        fs::create_dir(&folder).unwrap();
        // In a mount namespace of the test's, where whatever is mounted shows in every other that it is shared with.
        let script = r#"
            set -e
            mount -t tmpfs shared "$1"
            mount --make-shared "$1"
            before=$(cat /proc/self/mountinfo)
            "$2" podlet "$1/volatile" user /usr/bin/sleep 1000 > "$1/out" &
            while ! grep -q running "$1/out"; do kill -0 $! && sleep 0.01; done
            [ "$before" = "$(cat /proc/self/mountinfo)" ]
            [ -z "$(ls -A "$1/volatile/root")" ]
            kill -9 $!
            while [ -e "$1/volatile" ]; do sleep 0.01; done
            [ "$before" = "$(cat /proc/self/mountinfo)" ]
            echo clean
        "#;
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .args([Path::new(&folder), Path::new(PROGRAM)])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "clean\n", "{output:?}");
    }
}

#[tokio::test]
async fn a_machine_that_refuses_namespaces_is_told_by_its_setting() {
    for machine in machines!() {
        let folder = machine.folder.path().join("refused");
        for kind in ["user", "net", "pid", "mnt"] {
            // The setting holds for what is made below this user namespace.
            let setting = format!("/proc/sys/user/max_{kind}_namespaces");
            let script = format!("echo 0 > {setting}; exec \"$1\" podlet \"$2\" user /usr/bin/sleep 1000");
            let output = Command::new("unshare")
                .args(["--user", "--map-root-user", "sh", "-c", &script, "sh", PROGRAM])
                .arg(&folder)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                said.contains("this machine refuses the namespaces that pods need")
                    && said.contains(&format!("{setting} is 0")),
                "{said}"
            );
        }
    }
}

#[tokio::test]
async fn a_killed_helper_takes_its_pods_along_and_is_noticed() {
    for machine in machines!() {
        let word = word(2, &machine);
        let pod = machine.pod("10.244.0.2").await;
        let (mut running, output) = machine.run(&pod, process(&["sleep", &word])).await;
        let stat = fs::read_to_string(process_of(&word).unwrap().join("stat")).unwrap();
        // After the name, which is in brackets: the state and the parent.
        let parent = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .nth(1)
            .unwrap();
        kill_process(Pid::from_raw(parent.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        machine.isolation.gone().await;
        assert!(machine.isolation.is_gone());
        assert_eq!(output_of(output).await, "");
        assert!(matches!(running.ended().await, Err(Error::Gone)));
        let late = machine.isolation.namespaces("pod", [10, 244, 0, 3].into()).await;
        assert!(matches!(late, Err(Error::Gone)), "{late:?}");
    }
}
