//! Pods' namespaces, with real processes in them.

mod common;

use std::os::unix::fs::symlink;

use clusterwright_podlet::isolation::{Ending, Entry, Error, Process, Signal};
use common::{Machine, first_line, machines, output_of, piped, process, sh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ADDRESS: &str = "10.244.0.2";

#[tokio::test]
async fn a_program_is_the_first_of_a_machine_of_its_own() {
    for machine in machines!() {
        let script = "echo $$; hostname; echo /*; echo /dev/*; ls /proc | grep -c '^[0-9]'";
        let (ending, output) = sh(&machine, ADDRESS, script).await;
        assert_eq!(ending, Ending::Exited(0), "{output}");
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..2], ["1", "pod-name"]);
        // Nothing of the machine's but what was asked for.
        assert!(lines[2].contains("/dev /etc /lib"), "{output}");
        assert!(
            !lines[2].contains("/home") && !lines[2].contains("/root"),
            "{output}"
        );
        assert!(!lines[3].contains("vda") && !lines[3].contains("mem"), "{output}");
        // The shell, ls and grep.
        assert_eq!(lines[4], "3", "{output}");
        for device in [
            "null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "stdout",
        ] {
            assert!(lines[3].contains(&format!("/dev/{device}")), "{output}");
        }
    }
}

#[tokio::test]
async fn containers_of_a_pod_share_its_loopback_and_no_other_pod_does() {
    for machine in machines!() {
        let pod = machine.pod(ADDRESS).await;
        let (_greeter, mut output) = machine
            .run(&pod, process(&["/test-program", "greet", "127.0.0.1:80"]))
            .await;
        assert_eq!(first_line(&mut output), "listening");
        let ask = process(&["/test-program", "ask", "127.0.0.1:80"]);
        let (_, output) = machine.run(&pod, ask.clone()).await;
        assert_eq!(output_of(output).await, "127.0.0.1\n");
        let other = machine.pod("10.244.0.3").await;
        let (mut asked, output) = machine.run(&other, ask).await;
        assert!(output_of(output).await.contains("refused"));
        assert_eq!(asked.ended().await.unwrap(), Ending::Exited(1));
    }
}

#[tokio::test]
async fn pods_and_the_podlet_reach_each_other_by_their_own_addresses() {
    for machine in machines!() {
        let pod = machine.pod(ADDRESS).await;
        let (_greeter, mut output) = machine
            .run(&pod, process(&["/test-program", "greet", "0.0.0.0:80"]))
            .await;
        assert_eq!(first_line(&mut output), "listening");

        let other = machine.pod("10.244.7.9").await;
        let ask = |address: &str| process(&["/test-program", "ask", address]);
        let (_, output) = machine.run(&other, ask("10.244.0.2:80")).await;
        assert_eq!(output_of(output).await, "10.244.7.9\n");

        let mut said = String::new();
        let mut stream = machine
            .isolation
            .connect("10.244.0.2:80".parse().unwrap())
            .await
            .unwrap();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "10.244.0.1");

        let listener = machine
            .isolation
            .listen("10.244.0.1:443".parse().unwrap())
            .await
            .unwrap();
        let (_, output) = machine.run(&other, ask("10.244.0.1:443")).await;
        let (mut stream, peer) = listener.accept().await.unwrap();
        stream.write_all(peer.ip().to_string().as_bytes()).await.unwrap();
        drop(stream);
        assert_eq!(output_of(output).await, "10.244.7.9\n");

        let nobody = machine.isolation.connect("10.244.0.2:81".parse().unwrap()).await;
        assert!(matches!(nobody, Err(Error::Connect { .. })), "{nobody:?}");
    }
}

#[tokio::test]
async fn endings_are_told_and_take_every_child_along() {
    for machine in machines!() {
        let (ending, _) = sh(&machine, ADDRESS, "exit 7").await;
        assert_eq!((ending, ending.code()), (Ending::Exited(7), 7));

        let pod = machine.pod("10.244.0.3").await;
        // A hundred children that nobody waits for: the pipe closes when the last of them is gone.
        let script = "i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done; echo forked; wait";
        let (mut running, mut output) = machine.run(&pod, process(&["sh", "-c", script])).await;
        assert_eq!(first_line(&mut output), "forked");
        assert!(!running.handle().has_ended());
        // The first process of a namespace ignores what it has no handler for.
        running.handle().signal(Signal::TERM).unwrap();
        running.handle().signal(Signal::KILL).unwrap();
        let ending = running.ended().await.unwrap();
        assert_eq!((ending, ending.code()), (Ending::Killed(9), 137));
        assert_eq!(output_of(output).await, "");
        running.handle().signal(Signal::KILL).unwrap();
    }
}

#[tokio::test]
async fn a_visitor_is_in_the_container() {
    for machine in machines!() {
        let pod = machine.pod(ADDRESS).await;
        let script = "echo here > /tmp/file; echo ready; sleep 1000";
        let (running, mut output) = machine.run(&pod, process(&["sh", "-c", script])).await;
        assert_eq!(first_line(&mut output), "ready");
        let visit = Process {
            directory: "/tmp".to_owned(),
            ..process(&[
                "sh",
                "-c",
                "cat file; hostname; readlink /proc/1/exe | grep -c sh; exit 3",
            ])
        };
        let (streams, output) = piped();
        let mut visitor = machine
            .isolation
            .visit(&running.handle(), visit, streams)
            .await
            .unwrap();
        assert_eq!(output_of(output).await, "here\npod-name\n1\n");
        assert_eq!(visitor.ended().await.unwrap(), Ending::Exited(3));

        // Not in one that has ended.
        running.handle().signal(Signal::KILL).unwrap();
        let mut running = running;
        running.ended().await.unwrap();
        let (streams, _) = piped();
        let late = machine
            .isolation
            .visit(&running.handle(), process(&["true"]), streams)
            .await;
        assert!(matches!(late, Err(Error::Refused(_))), "{late:?}");
    }
}

#[tokio::test]
async fn a_process_is_who_it_is_to_be_and_may_do_no_more() {
    for machine in machines!() {
        let script =
            "id -u; id -g; grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status; touch /file || echo refused";
        let user = Process {
            user: 1000,
            group: 2000,
            no_new_privileges: true,
            capabilities: vec!["NET_BIND_SERVICE".to_owned()],
            ..process(&["sh", "-c", script])
        };
        let pod = machine.pod(ADDRESS).await;
        let (_, output) = machine.run(&pod, user).await;
        let output = output_of(output).await;
        let words: Vec<&str> = output.split_whitespace().collect();
        assert_eq!(words[..2], ["1000", "2000"], "{output}");
        assert!(output.contains("CapEff:\t0000000000000000"), "{output}");
        assert!(output.contains("CapBnd:\t0000000000000400"), "{output}");
        assert!(output.contains("NoNewPrivs:\t1"), "{output}");
        // With a single user, everything is that user's.
        assert_eq!(output.contains("refused"), !machine.user_namespace, "{output}");

        let root = Process {
            capabilities: vec!["CHOWN".to_owned()],
            ..process(&[
                "sh",
                "-c",
                "id -u; grep -E 'CapEff' /proc/self/status; mount -t tmpfs x /tmp || echo no",
            ])
        };
        let (_, output) = machine.run(&pod, root).await;
        let output = output_of(output).await;
        assert!(output.starts_with("0\nCapEff:\t0000000000000001\n"), "{output}");
        assert!(output.ends_with("no\n"), "{output}");

        let wrong = Process {
            capabilities: vec!["FLY".to_owned()],
            ..process(&["true"])
        };
        let refused = machine.run_in(&pod, machine.root(), wrong).await.unwrap_err();
        assert!(refused.to_string().contains("none named \"FLY\""), "{refused}");
    }
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    for machine in machines!() {
        let pod = machine.pod(ADDRESS).await;
        let missing = machine.run_in(&pod, machine.root(), process(&["/no/such"])).await;
        let Err(Error::Refused(failure)) = missing else {
            panic!("{missing:?}");
        };
        assert!(failure.is_not_found());
        assert_eq!(
            failure.to_string(),
            "failed to start /no/such: No such file or directory (os error 2)"
        );
        let mut root = machine.root();
        root.entries.push(Entry::Bind {
            path: "/data".to_owned(),
            source: "/no/such/source".into(),
            below: None,
            read_only: false,
        });
        let refused = machine.run_in(&pod, root, process(&["true"])).await.unwrap_err();
        assert!(refused.to_string().contains("/no/such/source"), "{refused}");
    }
}

#[tokio::test]
async fn volumes_are_written_and_roots_only_where_they_may_be() {
    for machine in machines!() {
        let pod = machine.pod(ADDRESS).await;
        let volume = machine.folder.path().join("volume");
        std::fs::create_dir_all(volume.join("inner")).unwrap();
        let bind = |path: &str, below: Option<&str>, read_only| Entry::Bind {
            path: path.to_owned(),
            source: volume.clone(),
            below: below.map(str::to_owned),
            read_only,
        };
        let mut root = machine.root();
        root.read_only = true;
        root.entries.extend([
            bind("/data", None, false),
            bind("/again", None, true),
            bind("/deep/er", Some("inner"), false),
        ]);
        let script = "touch /x /tmp/x /again/x /usr/x; touch /data/a /deep/er/b; ls /again /again/inner";
        let (mut running, output) = machine
            .run_in(&pod, root, process(&["sh", "-c", script]))
            .await
            .unwrap();
        let output = output_of(output).await;
        assert_eq!(running.ended().await.unwrap(), Ending::Exited(0));
        assert_eq!(output.matches("Read-only file system").count(), 4, "{output}");
        assert!(
            output.ends_with("/again:\na\ninner\n\n/again/inner:\nb\n"),
            "{output}"
        );
        assert!(volume.join("inner/b").exists());

        let mut small = machine.root();
        small.size = 1 << 20;
        let script = "head -c 4000000 /dev/zero > /file";
        let (_, output) = machine
            .run_in(&pod, small, process(&["sh", "-c", script]))
            .await
            .unwrap();
        assert!(output_of(output).await.contains("No space left"));
    }
}

#[tokio::test]
async fn links_in_a_volume_do_not_lead_out_of_it() {
    for machine in machines!() {
        let pod = machine.pod(ADDRESS).await;
        let volume = machine.folder.path().join("volume");
        let secret = machine.folder.path().join("secret");
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::create_dir_all(&secret).unwrap();
        std::fs::write(secret.join("file"), "of the machine").unwrap();
        symlink(&secret, volume.join("out")).unwrap();
        let bind = |path: &str, below: Option<&str>| Entry::Bind {
            path: path.to_owned(),
            source: volume.clone(),
            below: below.map(str::to_owned),
            read_only: false,
        };
        let mut root = machine.root();
        root.entries.push(bind("/data", Some("out")));
        let refused = machine.run_in(&pod, root, process(&["true"])).await.unwrap_err();
        assert!(matches!(refused, Error::Refused(_)), "{refused}");
        // Nor does a mount over such a link.
        let mut root = machine.root();
        root.entries
            .extend([bind("/data", None), bind("/data/out/inner", None)]);
        let refused = machine.run_in(&pod, root, process(&["true"])).await.unwrap_err();
        assert!(refused.to_string().contains("/data/out"), "{refused}");
        assert_eq!(std::fs::read_dir(&secret).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn everything_ends_with_the_helper() {
    for machine in machines!() {
        let pod = machine.pod(ADDRESS).await;
        let (mut running, output) = machine.run(&pod, process(&["sleep", "1000"])).await;
        let Machine {
            isolation, folder, ..
        } = machine;
        drop(isolation);
        assert_eq!(output_of(output).await, "");
        // The spawner told before it ended, or could not any more.
        if let Ok(ending) = running.ended().await {
            assert_eq!(ending, Ending::Killed(9));
        }
        common::until(|| !folder.path().join("volatile").exists()).await;
    }
}
