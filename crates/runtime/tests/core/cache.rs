//! The cache: what it holds, and that nothing that happens is missed.

use std::borrow::Cow;
use std::time::Duration;

use clusterwright_apiserver::ApiServer;
use clusterwright_apiserver::faults::{Fault, Rule};
use clusterwright_runtime::cache::{CacheOptions, Scope};
use clusterwright_runtime::client::List;
use clusterwright_runtime::controller::Controller;
use clusterwright_runtime::manager::{RunContext, Runnable};
use clusterwright_runtime::reconcile::Outcome;
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use kube::core::PartialObjectMeta;
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

use super::harness::{Func, Log, World, config_map, eventually, key};

/// Logs the names of what it is called for.
fn names(log: &Log) -> Func {
    let log = log.clone();
    Func::new(move |_, key| {
        log.add(key.name());
        std::future::ready(Ok(Outcome::Done))
    })
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_is_taken_up_where_it_ended() {
    let mut world = World::new();
    let rule = Rule::on("watch", "configmaps", Fault::DropWatch(Duration::from_secs(10)));
    world.server.faults().add(rule.always());
    world.cache.informer::<ConfigMap>();
    world.start([]).await;
    for number in 0..20 {
        world.create(&format!("c{number}")).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let all = || async { world.client.list::<ConfigMap>(&List::all()).unwrap().len() == 20 };
    eventually("all seen", all).await;
    assert_eq!(world.calls("list", "configmaps"), 0);
    assert!(world.calls("watch", "configmaps") > 3);
}

#[tokio::test(start_paused = true)]
async fn what_happened_unseen_shows_after_the_history_is_gone() {
    let mut world = World::new();
    let log = Log::new();
    let controller = Controller::builder("names", names(&log)).build(&world.environment);
    world.create("stays").await;
    world.create("goes").await;
    world.create("changes").await;
    let rule = Rule::on("watch", "configmaps", Fault::StaleWatch(Duration::from_secs(100)));
    world.server.faults().add(rule);
    let drop = Rule::on("watch", "configmaps", Fault::DropWatch(Duration::from_secs(50)));
    world.server.faults().add(drop);
    world.start([controller]).await;
    log.until("changes", 1).await;
    world.delete::<ConfigMap>("goes").await;
    world.set("changes", "k", "v").await;
    world.create("comes").await;
    world.server.compact();
    log.until("comes", 1).await;
    log.until("goes", 2).await;
    log.until("changes", 2).await;
    assert_eq!(log.count("stays"), 1, "what did not change is no news");
    assert_eq!(world.client.get::<ConfigMap>(&key("goes")).unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_server_are_retried_until_the_list_is_in() {
    for fault in [
        Fault::Internal,
        Fault::Unavailable,
        Fault::TooManyRequests(3),
        Fault::Cut,
    ] {
        let mut world = World::new();
        world
            .server
            .faults()
            .add(Rule::on("watch", "configmaps", fault).times(3));
        world.create("a").await;
        let informer = world.cache.informer::<ConfigMap>();
        world.start([]).await;
        assert!(informer.has_synced());
        assert_eq!(informer.len(), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_streams_no_lists_is_asked_for_pages() {
    let server = ApiServer::new();
    let service = server.service();
    let old = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let service = service.clone();
        async move {
            if request
                .uri()
                .query()
                .is_some_and(|query| query.contains("sendInitialEvents=true"))
            {
                let status = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",
                    "message":"sendInitialEvents is forbidden","reason":"Invalid","code":422}"#;
                let body = Full::from(status).map_err(tower::BoxError::from).boxed_unsync();
                return Ok(http::Response::builder().status(422).body(body).unwrap());
            }
            let answer = service.oneshot(request).await?;
            Ok::<_, tower::BoxError>(answer.map(|body| body.map_err(tower::BoxError::from).boxed_unsync()))
        }
    });
    let kube = kube::Client::new(old, "default");
    let mut world = World::on(server, kube, CacheOptions::default());
    world.create("a").await;
    let informer = world.cache.informer::<ConfigMap>();
    world.start([]).await;
    assert_eq!(informer.len(), 1);
    world.create("b").await;
    eventually("watched", || async { informer.len() == 2 }).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_never_comes_is_an_error_that_names_the_kind() {
    let world = World::new();
    world
        .server
        .faults()
        .add(Rule::on("watch", "secrets", Fault::Unavailable).always());
    world.cache.informer::<Secret>();
    world.cache.informer::<ConfigMap>();
    let (cx, _ready) = RunContext::detached(world.shutdown.clone());
    let error = Box::new(world.cache.runnable())
        .run(cx)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("failed to fill the cache in time: Secret ("),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_scope_narrows_what_is_cached() {
    let options = CacheOptions {
        scope: Scope::all().namespaces(["one", "two"]),
        ..CacheOptions::default()
    };
    let mut world = World::with(ApiServer::new(), options);
    let namespaces: Api<Namespace> = Api::all(world.server.client());
    for name in ["one", "two"] {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.into());
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }
    let admin = world.server.client();
    let create = async |namespace: &str, name: &str, label: &str| {
        let api: Api<ConfigMap> = Api::namespaced(admin.clone(), namespace);
        let mut object = config_map(name);
        object.metadata.namespace = Some(namespace.into());
        object.metadata.labels = Some([("l".to_owned(), label.to_owned())].into());
        api.create(&PostParams::default(), &object).await.unwrap();
    };
    for namespace in ["default", "one", "two"] {
        create(namespace, "yes", "1").await;
        create(namespace, "no", "2").await;
    }
    let selector = [("l".to_owned(), "1".to_owned())].into_iter().collect();
    assert!(world.cache.scope::<ConfigMap>(Scope::all().labels(selector)));
    world.cache.informer::<ConfigMap>();
    assert!(!world.cache.scope::<ConfigMap>(Scope::all()), "too late");
    world.start([]).await;
    let keys = async || {
        let mut keys = world.client.list_keys::<ConfigMap>(&List::all()).unwrap();
        keys.sort();
        keys.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(keys().await, ["one/yes", "two/yes"]);
    create("two", "later", "1").await;
    eventually("seen", async || keys().await.len() == 3).await;
    // What is written outside of the scope does not slip into the cache.
    let object = world.client.create(&config_map("ours")).await.unwrap();
    assert_eq!(object.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(keys().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn indexes_follow_the_objects() {
    let mut world = World::new();
    world.create("early").await;
    world.set("early", "ref", "x").await;
    let informer = world.cache.informer::<ConfigMap>();
    let of = |object: &ConfigMap| {
        object
            .data
            .iter()
            .flatten()
            .map(|(_, value)| value.clone())
            .collect()
    };
    informer.index("ref", of);
    world.start([]).await;
    let keys = |value: &str| world.client.list_keys_by::<ConfigMap>("ref", value).unwrap();
    assert_eq!(keys("x"), [key("early")]);
    world.create("late").await;
    world.set("late", "ref", "x").await;
    eventually("indexed", || async { keys("x").len() == 2 }).await;
    world.set("early", "ref", "y").await;
    eventually("moved", || async {
        keys("x") == [key("late")] && keys("y") == [key("early")]
    })
    .await;
    world.delete::<ConfigMap>("late").await;
    eventually("forgotten", || async { keys("x").is_empty() }).await;
    assert!(world.client.list_by::<ConfigMap>("none", "x").is_err());
}

#[tokio::test(start_paused = true)]
async fn metadata_alone_can_be_cached() {
    let mut world = World::new();
    world.create("a").await;
    world.set("a", "k", "v").await;
    world.cache.informer::<PartialObjectMeta<ConfigMap>>();
    world.start([]).await;
    let meta = world
        .client
        .get::<PartialObjectMeta<ConfigMap>>(&key("a"))
        .unwrap()
        .unwrap();
    assert_eq!(meta.metadata.name.as_deref(), Some("a"));
    assert_eq!(meta.metadata.managed_fields, None);
    assert!(world.client.get::<ConfigMap>(&key("a")).is_err(), "another kind");
}

#[tokio::test(start_paused = true)]
async fn everything_comes_by_again_after_the_resync_period() {
    let options = CacheOptions {
        resync: Some(Duration::from_secs(1000)),
        ..CacheOptions::default()
    };
    let mut world = World::with(ApiServer::new(), options);
    let log = Log::new();
    let controller = Controller::builder("names", names(&log)).build(&world.environment);
    world.create("a").await;
    world.start([controller]).await;
    log.until("a", 3).await;
    let times = log.times();
    assert!(
        times
            .windows(2)
            .all(|pair| (900_000..=1_101_000).contains(&(pair[1] - pair[0]))),
        "{times:?}"
    );
}

/// A ConfigMap in the eyes of somebody who expects a certain entry.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Strict {
    metadata: ObjectMeta,
    data: StrictData,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct StrictData {
    must: String,
}

impl kube::Resource for Strict {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;
    fn kind((): &()) -> Cow<'_, str> {
        "ConfigMap".into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "configmaps".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_of_another_shape_stops_nothing() {
    let mut world = World::new();
    world.create("bad").await;
    let informer = world.cache.informer::<Strict>();
    informer.index("must", |object| vec![object.data.must.clone()]);
    world.start([]).await;
    world.create("good").await;
    world.set("good", "must", "x").await;
    let found = || async { world.client.list_by::<Strict>("must", "x").unwrap().len() == 1 };
    eventually("the good one is read", found).await;
    assert_eq!(informer.len(), 2);
    assert_eq!(world.client.list::<Strict>(&List::all()).unwrap().len(), 1);
    let error = world.client.get::<Strict>(&key("bad")).unwrap_err();
    assert_eq!(error.to_string(), "failed to decode ConfigMap default/bad");
    world.set("bad", "must", "y").await;
    let mended = || async { world.client.get::<Strict>(&key("bad")).is_ok() };
    eventually("mended", mended).await;
}
