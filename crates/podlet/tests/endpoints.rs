//! Logs, commands in containers and forwarded ports, as stock kubectl gets them through API servers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;
#[path = "common/kubelet.rs"]
mod kubelet;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use clusterwright_apiserver::{ApiServer, KubeletClient};
use clusterwright_testkit::{ControlPlane, require, tools};
use common::machines;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kubelet::{Kubectl, Kubelet, Running, blocking, text};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Everything that kubectl does with a kubelet.
async fn everything(kubectl: &Kubectl, kubelet: &Kubelet) {
    let patience = Duration::from_secs(60);
    let steps: [(&str, BoxFuture<'_, ()>); 6] = [
        ("logs", Box::pin(logs(kubectl, kubelet))),
        ("commands", Box::pin(commands(kubectl))),
        ("a terminal", Box::pin(terminal(kubectl))),
        ("files", Box::pin(files(kubectl, kubelet.machine.folder.path()))),
        ("ports", Box::pin(ports(kubectl))),
        ("ports by WebSocket", Box::pin(ports_by_websocket(kubectl))),
    ];
    for (what, step) in steps {
        // What hangs fails.
        let done = tokio::time::timeout(patience, step).await;
        done.unwrap_or_else(|_| panic!("{what} take more than a minute"));
    }
}

const PODS: [&str; 3] = ["talker", "server", "again"];
const TALKER: &str = "echo one; echo two >&2; echo three; read line </tmp/go; echo $line; exit 0";

/// Starts the pods that kubectl is tried with.
async fn start(kubelet: &Kubelet) {
    let talker = format!("mkfifo /tmp/go; {TALKER}");
    kubelet.run("talker", 2, 0, &talker).await;
    kubelet
        .run("server", 3, 0, "exec /test-program echo 127.0.0.1:6443 hello")
        .await;
    kubelet.run("again", 4, 0, "echo the first").await;
    kubelet.run("again", 5, 1, "echo the second; sleep 1000").await;
}

async fn logs(kubectl: &Kubectl, kubelet: &Kubelet) {
    // Streams come apart on their way: only the order within one is sure.
    let all = loop {
        let all = kubectl.says(&["logs", "talker"]).await;
        if all.lines().count() == 3 {
            break all;
        }
    };
    assert!(
        all.find("one") < all.find("three") && all.contains("two\n"),
        "{all}"
    );
    let last = kubectl.says(&["logs", "talker", "--tail=1"]).await;
    assert!(all.ends_with(&last) && last.lines().count() == 1);
    let times = kubectl.says(&["logs", "talker", "--timestamps"]).await;
    for line in times.lines() {
        assert!(
            line.split_once(' ').unwrap().0.parse::<Timestamp>().is_ok(),
            "{line}"
        );
    }
    assert_eq!(
        kubectl.says(&["logs", "talker", "--limit-bytes=2"]).await,
        all[..2]
    );
    assert_eq!(
        kubectl
            .says(&["logs", "talker", "--since-time=2999-01-01T00:00:00Z"])
            .await,
        ""
    );
    assert_eq!(kubectl.says(&["logs", "talker", "--since=1h"]).await, all);
    assert_eq!(kubectl.says(&["logs", "again"]).await, "the second\n");
    assert_eq!(kubectl.says(&["logs", "again", "-p"]).await, "the first\n");
    let none = kubectl.fails(&["logs", "talker", "-p"]).await;
    assert!(
        none.contains("previous terminated container \"main\" in pod \"talker\" not found"),
        "{none}"
    );

    // What comes later comes at once, and the end of the container is the end of it.
    let mut following = Running(
        kubectl
            .command(&["logs", "-f", "--tail=1", "talker"])
            .spawn()
            .unwrap(),
    );
    let mut attached = Running(kubectl.command(&["attach", "talker"]).spawn().unwrap());
    let mut lines = BufReader::new(following.0.stdout.take().unwrap());
    let mut line = String::new();
    let first = blocking(move || {
        lines.read_line(&mut line).unwrap();
        (lines, line)
    });
    let (mut lines, line) = first.await;
    assert_eq!(line, last);
    // The other one says nothing until there is something to say, so that it is given time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The end of the container may take the command along before it has told its own end.
    kubectl
        .run(&["exec", "talker", "--", "sh", "-c", "echo four >/tmp/go"])
        .await;
    let rest = blocking(move || {
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert!(following.0.wait().unwrap().success());
        let mut said = String::new();
        attached
            .0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(said, "four\n");
        rest
    });
    assert_eq!(rest.await, "four\n");
    let gone = kubectl.fails(&["exec", "talker", "--", "true"]).await;
    assert!(gone.contains("not running"), "{gone}");
    // For the next one who tries.
    kubelet
        .run("talker", 2, 0, &format!("mkfifo /tmp/go; {TALKER}"))
        .await;
}

async fn commands(kubectl: &Kubectl) {
    let script = "echo out; echo err >&2; hostname; exit 7";
    let output = kubectl.run(&["exec", "server", "--", "sh", "-c", script]).await;
    assert_eq!(text(&output.stdout), "out\nserver\n");
    let said = text(&output.stderr);
    assert!(
        said.starts_with("err\n") && said.contains("exit code 7"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(kubectl.says(&["exec", "server", "--", "true"]).await, "");
    // More than any buffer holds, both ways, and its end.
    let long: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let output = kubectl
        .run_with(&["exec", "-i", "server", "--", "cat"], &long)
        .await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stdout == long);
    let unknown = kubectl.fails(&["exec", "server", "--", "/no/such/program"]).await;
    assert!(
        unknown.contains("error executing command in container"),
        "{unknown}"
    );
    assert!(unknown.contains("/no/such/program"), "{unknown}");
}

async fn terminal(kubectl: &Kubectl) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
    let size = rustix::termios::Winsize {
        ws_row: 33,
        ws_col: 111,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&theirs, size).unwrap();
    let mut command = kubectl.command(&["exec", "-it", "server", "--", "bash", "--norc", "-i"]);
    command
        .stdin(theirs.try_clone().unwrap())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs);
    let mut child = Running(command.spawn().unwrap());
    drop(command);
    let session = blocking(move || {
        let mut screen = std::fs::File::from(ours);
        let mut keyboard = screen.try_clone().unwrap();
        let mut shown = String::new();
        let mut expect = |what: &str| {
            let mut piece = [0; 4096];
            while !shown.contains(what) {
                let length = screen.read(&mut piece).unwrap();
                shown.push_str(&text(&piece[..length]));
            }
            shown.drain(..shown.find(what).unwrap() + what.len());
        };
        // The size that it has is told at once.
        keyboard
            .write_all(b"until [ \"$(stty size)\" = '33 111' ]; do :; done; echo si''zed\n")
            .unwrap();
        expect("sized");
        // Keys that interrupt reach the program in front, and not the shell.
        keyboard.write_all(b"echo sle''eps; sleep 1000\n").unwrap();
        expect("sleeps");
        std::thread::sleep(Duration::from_millis(100));
        keyboard.write_all(b"\x03").unwrap();
        keyboard.write_all(b"echo code $?; exit 5\n").unwrap();
        expect("code 130");
        child.0.wait().unwrap().code()
    });
    assert_eq!(session.await, Some(5));
}

/// Files to pods and back, which is `tar` in a command.
async fn files(kubectl: &Kubectl, folder: &Path) {
    let (there, back) = (folder.join("there"), folder.join("back"));
    let content = "content\n".repeat(100_000);
    std::fs::write(&there, &content).unwrap();
    kubectl
        .says(&["cp", there.to_str().unwrap(), "server:/tmp/file"])
        .await;
    kubectl
        .says(&["cp", "server:/tmp/file", back.to_str().unwrap()])
        .await;
    assert!(std::fs::read_to_string(&back).unwrap() == content);
}

/// As clients do that speak WebSocket from end to end.
async fn ports_by_websocket(kubectl: &Kubectl) {
    let kubeconfig = Kubeconfig::read_from(&kubectl.kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let client = kube::Client::try_from(config.unwrap()).unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut forwarder = pods.portforward("server", &[6443, 81]).await.unwrap();
    let failed = forwarder.take_error(81).unwrap();
    let mut stream = forwarder.take_stream(6443).unwrap();
    let long = vec![7; 200_000];
    let mut heard = vec![0; 6 + long.len()];
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let (read, written) = tokio::join!(from.read_exact(&mut heard), to.write_all(&long));
    read.unwrap();
    written.unwrap();
    assert!(heard.strip_prefix(b"hello\n").unwrap() == long);
    let why = failed.await.unwrap();
    assert!(
        why.contains("error forwarding port to pod server") && why.contains("127.0.0.1:81"),
        "{why}"
    );
}

async fn ports(kubectl: &Kubectl) {
    let mut forwarding = kubectl.command(&["port-forward", "pod/server", ":6443", ":81"]);
    let mut forwarding = Running(forwarding.spawn().unwrap());
    let mut said = BufReader::new(forwarding.0.stdout.take().unwrap());
    let mut complaints = BufReader::new(forwarding.0.stderr.take().unwrap());
    let session = blocking(move || {
        // Both families of addresses are told, where the machine has both.
        let mut port_of = |inner: &str| loop {
            let mut line = String::new();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "{:?}", complaints.buffer());
            let line = line.trim_end();
            if let Some((place, _)) = line.split_once(&format!(" -> {inner}"))
                && let Some(port) = place.strip_prefix("Forwarding from 127.0.0.1:")
            {
                break port.parse::<u16>().unwrap();
            }
        };
        let (open, closed) = (port_of("6443"), port_of("81"));
        // Some at once, with more than buffers hold.
        let talks: Vec<_> = (0..4_u8)
            .map(|number| {
                std::thread::spawn(move || {
                    let mut stream = TcpStream::connect(("127.0.0.1", open)).unwrap();
                    let long = vec![number; 200_000];
                    let mut expected = b"hello\n".to_vec();
                    expected.extend_from_slice(&long);
                    let mut writing = stream.try_clone().unwrap();
                    let writer = std::thread::spawn(move || {
                        writing.write_all(&long).unwrap();
                        writing.shutdown(std::net::Shutdown::Write).unwrap();
                    });
                    let mut heard = vec![0; expected.len()];
                    stream.read_exact(&mut heard).unwrap();
                    assert!(heard == expected);
                    writer.join().unwrap();
                    let mut rest = String::new();
                    stream.read_to_string(&mut rest).unwrap();
                    assert_eq!(rest, "end\n");
                })
            })
            .collect();
        for talk in talks {
            talk.join().unwrap();
        }
        let mut nobody = TcpStream::connect(("127.0.0.1", closed)).unwrap();
        let mut nothing = Vec::new();
        // It may end in either way.
        let _ = nobody.read_to_end(&mut nothing);
        assert!(nothing.is_empty());
        loop {
            let mut line = String::new();
            assert_ne!(complaints.read_line(&mut line).unwrap(), 0);
            if line.contains("error forwarding port") && line.contains("127.0.0.1:81") {
                break;
            }
        }
    });
    session.await;
    drop(forwarding);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_server_in_this_process() {
    let program = require!(tools::find("kubectl"));
    for machine in machines!() {
        let kubelet = Kubelet::start(machine).await;
        start(&kubelet).await;
        let client = &kubelet.client;
        let client = KubeletClient::new(Some((&client.certificate, &client.key)), None).unwrap();
        let server = ApiServer::builder().kubelets(client).build();
        let serving = server.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let kubeconfig = kubelet.machine.folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, serving.kubeconfig().unwrap()).unwrap();
        let program = program.clone();
        let kubectl = Kubectl { program, kubeconfig };
        kubectl
            .prepare(kubelet.endpoints.address().port(), "", &PODS)
            .await;
        everything(&kubectl, &kubelet).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_real_server() {
    let program = require!(tools::find("kubectl"));
    require!(tools::find("kube-apiserver"));
    for machine in machines!().into_iter().rev().take(1) {
        let kubelet = Kubelet::start(machine).await;
        start(&kubelet).await;
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let certificate = file("client.crt", &kubelet.client.certificate);
        let key = file("client.key", &kubelet.client.key);
        let builder = ControlPlane::builder()
            .api_server_flag(format!("--kubelet-client-certificate={certificate}"))
            .api_server_flag(format!("--kubelet-client-key={key}"));
        let control_plane = blocking(move || builder.start().unwrap()).await;
        let kubeconfig = control_plane.kubeconfig();
        let kubectl = Kubectl {
            program: program.clone(),
            kubeconfig,
        };
        let port = kubelet.endpoints.address().port();
        // As it talks to kubelets that know no WebSocket: by SPDY.
        kubectl.prepare(port, "", &PODS).await;
        everything(&kubectl, &kubelet).await;
        // And to those that say that they do.
        kubectl
            .prepare(port, r#""ExtendWebSocketsToKubelet""#, &PODS)
            .await;
        everything(&kubectl, &kubelet).await;
        blocking(move || drop(control_plane)).await;
    }
}
