//! Volumes made of objects, as containers see them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use clusterwright_podlet::isolation::{Ending, Entry, Process};
use clusterwright_podlet::volume::{self, File, Files};
use common::{first_line, machines, output_of, process};

fn files(content: &str) -> Files {
    let file = |mode, user| File {
        content: content.as_bytes().to_vec(),
        mode,
        user,
    };
    [
        ("shared".to_owned(), file(0o444, None)),
        ("own".to_owned(), file(0o600, Some(1000))),
        ("of-root".to_owned(), file(0o600, None)),
    ]
    .into()
}

#[tokio::test]
async fn a_container_sees_a_new_version_and_reads_what_is_its_own() {
    for machine in machines!() {
        let path = machine.volatile().join("volume");
        // Where there is a single user, nothing can be given to another.
        let given = |content| {
            let mut files = files(content);
            if machine.user_namespace {
                for file in files.values_mut() {
                    file.user = None;
                }
            }
            files
        };
        assert!(volume::write(&path, &given("one"), None).unwrap());
        let mut root = machine.root();
        root.entries.push(Entry::Bind {
            path: "/etc/config".to_owned(),
            source: path.clone(),
            below: None,
            read_only: true,
        });
        let script = "cd /etc/config; cat own; cat of-root || echo no; touch x || echo read-only
            echo; while [ $(cat shared) = one ]; do sleep 0.01; done; cat shared own";
        let process = Process {
            user: 1000,
            group: 1000,
            ..process(&["sh", "-c", script])
        };
        let pod = machine.pod("10.244.0.2").await;
        let (mut running, mut output) = machine.run_in(&pod, root, process).await.unwrap();
        let mut said = String::new();
        while !said.contains("read-only\n") {
            said.push_str(&first_line(&mut output));
            said.push('\n');
        }
        assert!(said.starts_with("one"), "{said}");
        assert_eq!(said.contains("no\n"), !machine.user_namespace, "{said}");
        assert!(volume::write(&path, &given("two"), None).unwrap());
        assert_eq!(output_of(output).await, "\ntwotwo");
        assert_eq!(running.ended().await.unwrap(), Ending::Exited(0));
    }
}
