//! Pods that mean no good and machines that fail: the pods end, the machine is as it was before, and what the user is
//! told names the cause.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/cluster.rs"]
mod cluster;
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use clusterwright_podlet::PodletError;
use clusterwright_podlet::image::{Catalogue, Image};
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, LogParams};

use cluster::{Cluster, IMAGE, NODE, Running, condition, container, is_ready};
use common::{PROGRAM, until, until_async};

/// A podlet of the cluster, or the test is skipped.
macro_rules! podlet {
    ($cluster:expr) => {
        match $cluster.podlet().await {
            Ok(podlet) => podlet,
            Err(error) if cluster::refused(&error) => clusterwright_testkit::skip!("{error}"),
            Err(error) => panic!("{error}"),
        }
    };
}

/// A pod of one container that runs a script, with more in its spec and in its container's.
fn pod(name: &str, script: &str, spec: &str, more: &str) -> String {
    format!(
        "
        metadata: {{name: {name}}}
        spec:
          automountServiceAccountToken: false
          terminationGracePeriodSeconds: 1
          {spec}
          containers:
          - {{name: main, image: '{IMAGE}', command: [sh, -c, {script:?}], {more}}}
        "
    )
}

/// A word by which a test finds its processes among all of this machine's.
fn word(test: u32) -> String {
    format!("{}.7", std::process::id() + test * 10_000_000)
}

/// How many processes have this word on their command line.
fn processes(word: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| line.split('\0').any(|part| part == word))
        .count()
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// The ends of pods' links in the podlet's network, as its spawner sees them.
fn links(cluster: &Cluster) -> usize {
    let record = fs::read_to_string(cluster.state_dir().join("helper")).unwrap();
    let entrance = record.split(' ').next().unwrap().to_owned();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let parent = |path: &Path| {
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        let rest = stat.rsplit(") ").next()?.to_owned();
        rest.split(' ').nth(1).map(str::to_owned)
    };
    let spawner = all
        .map(|entry| entry.path())
        .find(|path| parent(path).as_deref() == Some(&entrance))
        .unwrap();
    let devices = fs::read_to_string(spawner.join("net/dev")).unwrap();
    // Two lines of heading, the loopback and the bridge.
    devices.lines().count() - 4
}

/// Ends a pod and sees to it that nothing of it is left.
async fn end(cluster: &Cluster, name: &str) {
    let pods = cluster.api::<Pod>();
    pods.delete(name, &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<Pod>(name).await;
}

/// Sees to it that no pod has left anything, and the podlet after it neither.
async fn nothing_is_left(cluster: &Cluster, podlet: Running, mounts_before: &str) {
    let folder = cluster.state_dir();
    until(|| fs::read_dir(folder.join("volatile/pods")).map_or(0, Iterator::count) == 0).await;
    until(|| links(cluster) == 0).await;
    podlet.stop().await;
    assert!(!folder.join("volatile").exists());
    assert_eq!(mounts(), mounts_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_children_that_do_not_listen_end_with_their_pod() {
    let cluster = Cluster::new();
    let before = mounts();
    let podlet = podlet!(cluster);
    let word = word(1);
    let script = format!(
        "trap '' TERM; for i in $(seq 100); do (setsid sleep {word} &) ; done; while :; do sleep {word}; done"
    );
    cluster.create::<Pod>(&pod("forks", &script, "", "")).await;
    until(|| processes(&word) > 100).await;
    assert_eq!(links(&cluster), 1);
    end(&cluster, "forks").await;
    assert_eq!(processes(&word), 0);
    nothing_is_left(&cluster, podlet, &before).await;
}

/// The memory of this process, which the podlet is in, in bytes.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kilobytes: u64 = line.trim().split(' ').next().unwrap().parse().unwrap();
    kilobytes << 10
}

fn bytes_in(folder: &Path) -> u64 {
    let all = fs::read_dir(folder).unwrap().flatten();
    all.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_words_is_kept_within_bounds_and_still_read() {
    let cluster = Cluster::new();
    let before = mounts();
    let serving = cluster.server.serve("127.0.0.1:0".parse().unwrap());
    let serving = serving.await.unwrap();
    let mut config = cluster.config();
    config.client_authority = Some(serving.ca_pem());
    let podlet = match Cluster::run(config).await {
        Ok(podlet) => podlet,
        Err(error) if cluster::refused(&error) => clusterwright_testkit::skip!("{error}"),
        Err(error) => panic!("{error}"),
    };
    // As fast as it goes, and more than is kept.
    let script = "yes \"$(printf %0100d 7)\" | head -c 100000000; echo; echo the end; sleep 1000";
    let flood = cluster.create::<Pod>(&pod("flood", script, "", "")).await;
    cluster.until::<Pod>("flood", is_ready).await;
    let logs = cluster
        .state_dir()
        .join("volatile/pods")
        .join(flood.metadata.uid.unwrap())
        .join("logs/main");
    let api = cluster.api::<Pod>();
    let last = LogParams {
        tail_lines: Some(1),
        ..LogParams::default()
    };
    let (started, mut most) = (memory(), 0);
    loop {
        most = most.max(memory());
        assert!(bytes_in(&logs) <= 5 * (10 << 20));
        if api
            .logs("flood", &last)
            .await
            .is_ok_and(|text| text == "the end\n")
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(fs::read_dir(&logs).unwrap().count(), 5);
    assert!(most < started + (32 << 20), "{started} {most}");
    let some = LogParams {
        tail_lines: Some(3),
        ..LogParams::default()
    };
    let some = api.logs("flood", &some).await.unwrap();
    assert!(some.starts_with("00000") && some.ends_with("the end\n"), "{some}");
    end(&cluster, "flood").await;
    nothing_is_left(&cluster, podlet, &before).await;
}

const CLAIM: &str = "
    metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
const VOLUMES: &str =
    "volumes: [{name: data, persistentVolumeClaim: {claimName: data}}, {name: scratch, emptyDir: {}}]";

#[tokio::test(flavor = "multi_thread")]
async fn links_out_of_a_volume_lead_nowhere_and_are_not_followed_when_it_goes() {
    let cluster = Cluster::new();
    let before = mounts();
    let podlet = podlet!(cluster);
    let outside = tempfile::tempdir().unwrap();
    let precious = outside.path().join("precious");
    fs::write(&precious, "kept").unwrap();
    let out = outside.path().display();
    cluster.create::<PersistentVolumeClaim>(CLAIM).await;
    let script = format!(
        "for volume in /data /scratch; do cd $volume; mkdir -p a/b; ln -s {out} out; ln -s {out}/precious file; \
         ln -s / root; ln -s ../../../../../../../../../.. a/b/up; ln -s out out-again; done; \
         cat /data/file /data/out/precious > /dev/termination-log; exit 0"
    );
    let mounts_of = "volumeMounts: [{name: data, mountPath: /data}, {name: scratch, mountPath: /scratch}]";
    let once = format!("restartPolicy: Never\n          {VOLUMES}");
    cluster
        .create::<Pod>(&pod("links", &script, &once, mounts_of))
        .await;
    let links = cluster
        .until::<Pod>("links", |pod| {
            container(pod)["state"]["terminated"]["reason"] == "Completed"
        })
        .await;
    let said = container(&links)["state"]["terminated"]["message"].clone();
    assert!(said.is_null(), "the machine's file is read: {said}");
    // Mounted by the next pod, they lead nowhere either.
    let through = "volumeMounts: [{name: data, mountPath: /data, subPath: out}]";
    let looks = pod("looks", "cat /data/precious; sleep 1000", VOLUMES, through);
    cluster.create::<Pod>(&looks).await;
    let looks = cluster
        .until::<Pod>("looks", |pod| {
            container(pod)["lastState"]["terminated"].is_object()
        })
        .await;
    let ended = container(&looks)["lastState"]["terminated"].clone();
    assert_eq!(ended["reason"], "StartError", "{ended}");

    end(&cluster, "links").await;
    end(&cluster, "looks").await;
    let claims = cluster.api::<PersistentVolumeClaim>();
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<PersistentVolumeClaim>("data").await;
    let folder = cluster.state_dir().join("claims");
    until(|| fs::read_dir(&folder).unwrap().count() == 0).await;
    assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
    nothing_is_left(&cluster, podlet, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_are_gone_or_are_none_are_named() {
    let cluster = Cluster::new();
    let before = mounts();
    let tools = cluster.folder.path().join("tools/etcd-3.6.8");
    fs::create_dir_all(&tools).unwrap();
    let program = tools.join("etcd");
    fs::copy(PROGRAM, &program).unwrap();
    let none = cluster.folder.path().join("none");
    fs::write(&none, "no program").unwrap();
    fs::set_permissions(&none, fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = cluster.config();
    let catalogue = Catalogue::new(cluster.folder.path().join("tools"));
    let image = Image {
        files: [("/none".to_owned(), none)].into(),
        entrypoint: vec!["/none".to_owned()],
        ..common::shell_image()
    };
    config.images = catalogue.with("example.com/none", image);
    let podlet = match Cluster::run(config).await {
        Ok(podlet) => podlet,
        Err(error) if cluster::refused(&error) => clusterwright_testkit::skip!("{error}"),
        Err(error) => panic!("{error}"),
    };
    let bare = |name: &str, image: &str, args: &str| {
        format!(
            "{{metadata: {{name: {name}}}, spec: {{automountServiceAccountToken: false,
              containers: [{{name: main, image: '{image}', {args}}}]}}}}"
        )
    };
    // It is in the folder of tools, and asked for again when its container is started again.
    cluster
        .create::<Pod>(&bare("gone", "registry.k8s.io/etcd:3.6.8-0", "args: [none]"))
        .await;
    cluster
        .until::<Pod>("gone", |pod| {
            container(pod)["lastState"]["terminated"].is_object()
        })
        .await;
    fs::remove_file(&program).unwrap();
    cluster
        .until_told(
            "gone",
            "Failed: Failed to pull image \"registry.k8s.io/etcd:3.6.8-0\"",
        )
        .await;
    let events = cluster.events("gone").await.join("\n");
    assert!(
        events.contains("bring it with `cargo xtask tools etcd-3.6.8`"),
        "{events}"
    );

    cluster
        .create::<Pod>(&bare("none", "example.com/none:1", "args: []"))
        .await;
    cluster.until_told("none", "Failed: Error: ").await;
    let events = cluster.events("none").await.join("\n");
    assert!(
        events.contains("/none, which is there but is no program for this machine"),
        "{events}"
    );
    end(&cluster, "gone").await;
    end(&cluster, "none").await;
    nothing_is_left(&cluster, podlet, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_podlet_whose_helper_is_killed_ends_and_the_next_one_starts_its_pods() {
    let cluster = Cluster::new();
    let before = mounts();
    let podlet = podlet!(cluster);
    let word = word(2);
    cluster
        .create::<Pod>(&pod("web", &format!("exec sleep {word}"), "", ""))
        .await;
    cluster.until::<Pod>("web", is_ready).await;
    let record = fs::read_to_string(cluster.state_dir().join("helper")).unwrap();
    let helper = record.split(' ').next().unwrap();
    assert!(
        Command::new("kill")
            .args(["-9", helper])
            .status()
            .unwrap()
            .success()
    );
    let ended = podlet.ended().await;
    assert!(matches!(ended, Err(PodletError::Manager(_))), "{ended:?}");
    until(|| processes(&word) == 0).await;
    // Nobody took the pod's death for its own.
    assert!(is_ready(&cluster.api::<Pod>().get("web").await.unwrap()));

    let podlet = podlet!(cluster);
    let restarted = |pod: &Pod| is_ready(pod) && container(pod)["restartCount"] == 1;
    cluster.until::<Pod>("web", restarted).await;
    end(&cluster, "web").await;
    nothing_is_left(&cluster, podlet, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_started_when_its_hook_has_ended_well() {
    let cluster = Cluster::new();
    let before = mounts();
    let podlet = podlet!(cluster);
    let hook =
        |script: &str| format!("lifecycle: {{postStart: {{exec: {{command: [sh, -c, '{script}']}}}}}}");
    let waits =
        "until test -e /tmp/hooked; do sleep 0.05; done; echo hooked > /dev/termination-log; sleep 1000";
    cluster
        .create::<Pod>(&pod("well", waits, "", &hook("touch /tmp/hooked")))
        .await;
    cluster.until::<Pod>("well", is_ready).await;
    cluster
        .create::<Pod>(&pod("ill", "sleep 1000", "", &hook("exit 3")))
        .await;
    cluster
        .until::<Pod>("ill", |pod| {
            container(pod)["lastState"]["terminated"]["exitCode"] == 137
        })
        .await;
    cluster
        .until_told(
            "ill",
            "FailedPostStartHook: PostStartHook failed: command 'sh -c exit 3' exited with 3",
        )
        .await;
    assert!(!is_ready(&cluster.api::<Pod>().get("ill").await.unwrap()));
    end(&cluster, "well").await;
    end(&cluster, "ill").await;
    nothing_is_left(&cluster, podlet, &before).await;
}

/// Says in the environment that this process may mount what it likes.
const APART: &str = "PODLET_TEST_APART";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_is_named_and_waited_out() {
    if std::env::var_os(APART).is_some() {
        return on_a_full_file_system().await;
    }
    let cluster = Cluster::new();
    podlet!(cluster).stop().await;
    // Again, where a mount is nobody else's.
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_full_file_system_is_named_and_waited_out",
            "--nocapture",
        ])
        .env(
            APART,
            if rustix::process::geteuid().is_root() {
                "root"
            } else {
                "user"
            },
        );
    let done = tokio::task::spawn_blocking(move || command.output().unwrap());
    let done = done.await.unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

async fn on_a_full_file_system() {
    let cluster = Cluster::new();
    let small = cluster.state_dir();
    fs::create_dir(&small).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "small"])
        .arg(&small)
        .status();
    assert!(mount.unwrap().success());
    let mut config = cluster.config();
    config.user_namespace = Some(std::env::var(APART).unwrap() == "user");
    let podlet = Cluster::run(config).await.unwrap();
    cluster.create::<PersistentVolumeClaim>(CLAIM).await;
    let fill = "test -e /data/full && exec sleep 1000; touch /data/full; cat /dev/zero > /data/filled";
    let data = "volumeMounts: [{name: data, mountPath: /data}]";
    cluster
        .create::<Pod>(&pod(
            "fills",
            fill,
            VOLUMES,
            &format!("{data}, terminationMessagePolicy: FallbackToLogsOnError"),
        ))
        .await;
    let why = format!(
        "the file system of the podlet's folder {} is full",
        small.display()
    );
    cluster.until_told("fills", &format!("DiskFull: {why}: ")).await;
    let late = pod(
        "late",
        "sleep 1000",
        "volumes: [{name: map, configMap: {name: map}}]",
        "volumeMounts: [{name: map, mountPath: /map}]",
    );
    let map = format!(
        "{{metadata: {{name: map}}, data: {{a: {}}}}}",
        "x".repeat(100_000)
    );
    cluster.create::<ConfigMap>(&map).await;
    cluster.create::<Pod>(&late).await;
    cluster
        .until_told("late", "FailedMount: MountVolume.SetUp failed for volume \"map\"")
        .await;
    let events = cluster.events("late").await.join("\n");
    assert!(
        events.contains("No space left on device") && events.contains(&why),
        "{events}"
    );
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let pressed = async || {
        let node = nodes.get(NODE).await.unwrap().status.unwrap();
        let mut all = node.conditions.into_iter().flatten();
        all.any(|one| one.type_ == "DiskPressure" && one.status == "True")
    };
    until_async(pressed).await;

    // There is room again: both go on.
    let volume = fs::read_dir(small.join("claims"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    fs::remove_file(volume.path().join("filled")).unwrap();
    cluster.until::<Pod>("late", is_ready).await;
    cluster.until::<Pod>("fills", is_ready).await;
    until_async(async || !pressed().await).await;
    assert_eq!(
        condition(&cluster.api::<Pod>().get("late").await.unwrap(), "Ready"),
        "True"
    );
    end(&cluster, "late").await;
    end(&cluster, "fills").await;
    let before = mounts();
    nothing_is_left(&cluster, podlet, &before).await;
    let unmounted = Command::new("umount").arg("--lazy").arg(&small).status();
    assert!(unmounted.unwrap().success());
}
