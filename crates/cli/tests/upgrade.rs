//! A hosted control plane of real programs that is scaled, upgraded, given what it can't run, set right and deleted,
//! while its users write.

#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use clusterwright_api::{HostedControlPlane, meta};
use clusterwright_testkit::{require, tools};
use common::control_plane::{Management, condition};
use common::hosted::{COMES_BACK, PAUSE, Writer};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, ResourceExt};
use serde_json::{Value, json};
use tokio::time::sleep;

const OLD: &str = "v1.35.4";
const NEW: &str = "v1.36.3";
/// The etcd of [`NEW`].
const NEW_ETCD: &str = "3.6.8-0";
const NAME: &str = "grows";
const FOLLOWERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// The pods of the control plane at one time.
struct Pods(Vec<Pod>);

impl Pods {
    /// Those of a component, also those that go.
    fn of(&self, component: &str) -> Vec<&Pod> {
        let is_of = |pod: &&Pod| {
            pod.labels()
                .get(meta::COMPONENT_LABEL)
                .is_some_and(|name| name == component)
        };
        self.0.iter().filter(is_of).collect()
    }

    /// Those of a component that are ready and stay.
    fn ready(&self, component: &str) -> Vec<&Pod> {
        let mut pods = self.of(component);
        pods.retain(|pod| clusterwright_hosted::rollout::is_ready(pod));
        pods
    }

    async fn now(management: &Management) -> Self {
        let of_cluster = ListParams::default().labels(&format!("{}={NAME}", meta::CLUSTER_NAME_LABEL));
        Self(management.api::<Pod>().list(&of_cluster).await.unwrap().items)
    }

    fn uids(&self) -> BTreeSet<String> {
        self.0.iter().filter_map(ResourceExt::uid).collect()
    }
}

/// The tag of the image of a pod's program.
fn tag(pod: &Pod) -> &str {
    let image = pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap();
    image.rsplit_once(':').unwrap().1
}

fn all_are(pods: &[&Pod], wanted: &str) -> bool {
    pods.iter().all(|pod| tag(pod) == wanted)
}

/// What has to hold at each moment of an upgrade: etcd, then API servers one by one, then the others.
#[derive(Default)]
struct Order {
    api_servers_began: bool,
    followers_began: bool,
    /// The version of each pod that was ever seen.
    versions: BTreeMap<String, String>,
}

impl Order {
    fn look(&mut self, pods: &Pods) {
        for pod in &pods.0 {
            self.versions.insert(pod.name_any(), tag(pod).to_owned());
        }
        let (etcd, api_servers) = (pods.of("etcd"), pods.of("kube-apiserver"));
        let began = !api_servers.iter().all(|pod| tag(pod) == OLD);
        if began && !self.api_servers_began {
            assert!(
                all_are(&etcd, NEW_ETCD) && pods.ready("etcd").len() == 3,
                "an API server is new before etcd is"
            );
            self.api_servers_began = true;
        }
        if began {
            let stay = api_servers
                .iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .count();
            let ready = pods.ready("kube-apiserver").len();
            assert!(ready >= 3 && stay <= 4, "{ready} of {stay} API servers are ready");
        }
        let followers = || FOLLOWERS.into_iter().flat_map(|component| pods.of(component));
        if !followers().all(|pod| tag(pod) == OLD) && !self.followers_began {
            assert!(
                all_are(&api_servers, NEW),
                "others are new before all API servers are"
            );
            self.followers_began = true;
        }
    }
}

/// Who has led, by the Leases of the hosted cluster: each change is noted.
async fn leaders(client: Client, component: &'static str, until: impl Fn(&str) -> bool) -> Vec<String> {
    let leases: Api<Lease> = Api::namespaced(client, "kube-system");
    let (mut seen, start): (Vec<String>, _) = (Vec::new(), Instant::now());
    loop {
        let lease = leases.get(component).await.ok();
        let holder = lease.and_then(|lease| lease.spec?.holder_identity);
        // The holder is called after its pod.
        if let Some(pod) = holder
            .as_deref()
            .and_then(|holder| Some(holder.rsplit_once('_')?.0))
            && seen.last().is_none_or(|last| last != pod)
        {
            seen.push(pod.to_owned());
            if until(pod) {
                return seen;
            }
        }
        assert!(
            start.elapsed() < COMES_BACK * 3,
            "{component} was led by {seen:?} only"
        );
        sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hosted_cluster_is_upgraded_in_order_and_what_can_not_run_stops_at_the_first_pod() {
    for (name, old) in [
        ("etcd", "3.6.6"),
        ("kube-apiserver", "1.35.4"),
        ("kube-controller-manager", "1.35.4"),
        ("kube-scheduler", "1.35.4"),
    ] {
        require!(tools::find(name));
        require!(tools::find_version(name, old));
    }
    require!(tools::find("kubectl"));
    let temporary = tempfile::tempdir().unwrap();
    let (running, management, hosted) = Management::up(
        temporary.path(),
        NAME,
        &format!("{{version: {OLD}, replicas: 1}}"),
    )
    .await;
    let writer = Writer::start(hosted.clone());
    writer.goes_on("the start").await;

    management.patch(json!({"spec": {"replicas": 3}})).await;
    management.until_ready("three API servers", async || {}).await;
    writer.goes_on("there are three API servers").await;

    upgrade(&management, &hosted).await;
    writer.goes_on("the upgrade").await;
    what_can_not_run(&management, &writer).await;

    management.patch(json!({"spec": {"replicas": 1}})).await;
    management.until_ready("one API server", async || {}).await;
    assert_eq!(Pods::now(&management).await.ready("kube-apiserver").len(), 1);
    writer.goes_on("there is one API server").await;

    // Deleted while its pods are replaced.
    drop(writer);
    let before = Pods::now(&management).await.uids();
    management
        .patch(json!({"spec": {"deployment": {"apiServer": {"args": {"v": "1"}}}}}))
        .await;
    while Pods::now(&management).await.uids() == before {
        sleep(PAUSE).await;
    }
    let objects = management.api::<HostedControlPlane>();
    objects.delete(NAME, &DeleteParams::default()).await.unwrap();
    let start = Instant::now();
    while objects.get_opt(NAME).await.unwrap().is_some() {
        assert!(start.elapsed() < COMES_BACK, "it does not go");
        sleep(PAUSE).await;
    }
    assert_eq!(Pods::now(&management).await.uids(), BTreeSet::new());

    running.signal("TERM");
    let (status, said) = running.end();
    assert!(status.success(), "{said}");
}

async fn upgrade(management: &Management, hosted: &Client) {
    let before: BTreeSet<String> = Pods::now(management)
        .await
        .0
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    let watched = FOLLOWERS.map(|component| {
        let before = before.clone();
        tokio::spawn(leaders(hosted.clone(), component, move |pod| {
            !before.contains(pod)
        }))
    });
    let mut order = Order::default();
    management.patch(json!({"spec": {"version": NEW}})).await;
    let object = management
        .until_ready("the upgrade", async || order.look(&Pods::now(management).await))
        .await;
    assert!(order.api_servers_began && order.followers_began);
    assert_eq!(object["status"]["version"], NEW);
    assert_eq!(
        object["status"]["versions"],
        json!([{"version": NEW, "replicas": 3}])
    );
    assert_eq!(hosted.apiserver_version().await.unwrap().git_version, NEW);
    // The lead goes to the new ones once and for all.
    for leaders in watched {
        let leaders = leaders.await.unwrap();
        let versions: Vec<&str> = leaders.iter().map(|pod| order.versions[pod].as_str()).collect();
        assert_eq!(versions, [OLD, NEW], "{leaders:?}");
    }
}

/// A version that is not there and an argument that is not known: what runs goes on, the user is told why, and the way
/// back restarts nothing.
async fn what_can_not_run(management: &Management, writer: &Writer) {
    let good = Pods::now(management).await.uids();
    for (bad, back, reason, told) in [
        (
            json!({"version": "v1.36.99"}),
            json!({"version": NEW}),
            "ImagePullFailed",
            [
                "image registry.k8s.io/kube-apiserver:v1.36.99",
                "cargo xtask tools kube-apiserver-1.36.99",
                "set spec.version or spec.deployment.apiServer.image to one that there is",
            ],
        ),
        (
            json!({"deployment": {"apiServer": {"args": {"no-such-flag": "1"}}}}),
            json!({"deployment": {"apiServer": {"args": {"no-such-flag": null}}}}),
            "ContainerFailed",
            [
                "ended with exit code 1",
                "unknown flag: --no-such-flag",
                "correct spec.deployment.apiServer.args",
            ],
        ),
    ] {
        management.patch(json!({"spec": bad})).await;
        let is_told = |object: &Value| condition(object, "APIServerReady")["reason"] == reason;
        let object = management.until(reason, is_told, async || {}).await;
        assert_eq!(condition(&object, "Available")["status"], "True");
        assert_eq!(object["status"]["version"], NEW);
        let described = management.described();
        for words in told {
            assert!(described.contains(words), "{words:?} is not in {described}");
        }
        writer.goes_on(reason).await;
        let pods = Pods::now(management).await;
        assert!(good.is_subset(&pods.uids()), "{reason}: what ran was touched");
        assert_eq!(pods.of("kube-apiserver").len(), 4, "{reason}");
        assert_eq!(pods.0.len(), good.len() + 1, "{reason}");

        management.patch(json!({"spec": back})).await;
        management.until_ready("the way back", async || {}).await;
        let gone = |pods: &Pods| pods.uids() == good;
        let start = Instant::now();
        while !gone(&Pods::now(management).await) {
            assert!(
                start.elapsed() < COMES_BACK,
                "{reason}: the way back restarted something"
            );
            sleep(PAUSE).await;
        }
        writer.goes_on("the way back").await;
    }
}
