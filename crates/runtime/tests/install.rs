//! CRDs, Events and manifests on an API server that checks them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests are tests"
)]

use std::collections::BTreeSet;

use clusterwright_apiserver::ApiServer;
use clusterwright_apiserver::faults::{Fault, Rule};
use clusterwright_clock::Clock;
use clusterwright_runtime::audit::Audit;
use clusterwright_runtime::crd::{CrdError, Definition, InstallOptions, install};
use clusterwright_runtime::events::Recorder;
use clusterwright_runtime::leader::LeaderElection;
use clusterwright_runtime::manager::{Manager, Options};
use clusterwright_runtime::manifests;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

fn widget(size: &str) -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": size, "nullable": false}}},
                }}},
            }],
        },
    }))
    .unwrap()
}

async fn stored(server: &ApiServer) -> CustomResourceDefinition {
    let api: Api<CustomResourceDefinition> = Api::all(server.client());
    api.get("widgets.example.com").await.unwrap()
}

fn size(crd: &CustomResourceDefinition) -> String {
    let crd = serde_json::to_value(crd).unwrap();
    let pointer = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/type";
    crd.pointer(pointer)
        .and_then(|value| value.as_str())
        .unwrap()
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_definition_is_created_kept_and_brought_up_to_date() {
    let server = ApiServer::new();
    let options = InstallOptions::new("clusterwright");
    let own = |size| [Definition::own(widget(size))];
    install(&server.client(), &own("integer"), &options)
        .await
        .unwrap();
    assert_eq!(size(&stored(&server).await), "integer");
    // It is served now.
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
    let widgets: Api<DynamicObject> = Api::default_namespaced_with(server.client(), &resource);
    assert_eq!(widgets.list(&ListParams::default()).await.unwrap().items.len(), 0);

    let before = stored(&server).await.metadata.resource_version;
    install(&server.client(), &own("integer"), &options)
        .await
        .unwrap();
    assert_eq!(stored(&server).await.metadata.resource_version, before);

    install(&server.client(), &own("string"), &options).await.unwrap();
    assert_eq!(size(&stored(&server).await), "string");
}

#[tokio::test(start_paused = true)]
async fn anothers_definition_is_never_overwritten() {
    let server = ApiServer::new();
    let api: Api<CustomResourceDefinition> = Api::all(server.client());
    api.create(&PostParams::default(), &widget("string"))
        .await
        .unwrap();
    let other = |name: &str| {
        let mut crd = serde_json::to_value(widget("integer")).unwrap();
        crd["metadata"]["name"] = json!(format!("{name}s.example.com"));
        crd["spec"]["names"] = json!({"kind": name, "plural": format!("{name}s")});
        Definition::own(serde_json::from_value(crd).unwrap())
    };
    // The same shape is fine, and stays the other's.
    let options = InstallOptions::new("clusterwright");
    install(&server.client(), &[Definition::own(widget("string"))], &options)
        .await
        .unwrap();

    let before = stored(&server).await;
    let definitions = [other("gadget"), Definition::own(widget("integer"))];
    let error = install(&server.client(), &definitions, &options)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to install the definition widgets.example.com: another of that name is there and differs in \
         spec.versions[v1].schema.openAPIV3Schema.properties.spec.properties.size.type; --force takes it over"
    );
    assert_eq!(stored(&server).await, before);
    // Nor was anything else written.
    assert!(api.get_opt("gadgets.example.com").await.unwrap().is_none());

    let foreign = [Definition::foreign(widget("integer"))];
    let force = InstallOptions {
        force: true,
        ..options
    };
    install(&server.client(), &foreign, &force).await.unwrap();
    assert_eq!(stored(&server).await, before);

    install(&server.client(), &definitions, &force).await.unwrap();
    assert_eq!(size(&stored(&server).await), "integer");
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_named() {
    let server = ApiServer::new();
    let crds = "customresourcedefinitions.apiextensions.k8s.io";
    server.faults().add(Rule::on("create", crds, Fault::Internal));
    let options = InstallOptions::new("clusterwright");
    let definitions = [Definition::own(widget("string"))];
    let error = install(&server.client(), &definitions, &options)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to create the definition widgets.example.com"
    );
    assert!(matches!(error, CrdError::Call { .. }));
}

#[tokio::test(start_paused = true)]
async fn events_are_stored_and_counted() {
    let clock = Clock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let server = ApiServer::builder().clock(clock).build();
    let mut manager = Manager::new(server.client(), Options::default()).unwrap();
    let (recorder, worker) = Recorder::new(manager.client(), "hosted", "pod-1", clock);
    manager.add(worker).unwrap();
    let shutdown = CancellationToken::new();
    let run = tokio::spawn(manager.run(shutdown.clone()));

    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    let object = serde_json::from_value(json!({"metadata": {"name": "settings"}})).unwrap();
    let object = api.create(&PostParams::default(), &object).await.unwrap();
    for _ in 0..3 {
        recorder.warning(&object, "Refused", "Reconcile", "no");
        sleep(SECOND).await;
    }
    recorder.normal(&object, "Accepted", "Reconcile", "yes");
    shutdown.cancel();
    run.await.unwrap().unwrap();

    let events: Api<Event> = Api::default_namespaced(server.client());
    let mut events = events.list(&ListParams::default()).await.unwrap().items;
    events.sort_by_key(|event| event.event_time.clone());
    let facts: Vec<_> = events
        .iter()
        .map(|event| {
            let series = event.series.as_ref().map(|series| series.count);
            (
                event.reason.as_deref().unwrap(),
                event.type_.as_deref().unwrap(),
                series,
            )
        })
        .collect();
    assert_eq!(
        facts,
        [("Refused", "Warning", Some(3)), ("Accepted", "Normal", None)]
    );
    assert_eq!(events[0].regarding.as_ref().unwrap().uid, object.metadata.uid);
}

#[tokio::test(start_paused = true)]
async fn manifests_can_be_applied_in_their_order() {
    let server = ApiServer::new();
    let options = manifests::InstallOptions::new("widgets", "widgets-system", "example.com/widgets:v1");
    let objects = manifests::install(&options, &[widget("string")], &[]).unwrap();
    for object in objects {
        let types: TypeMeta = serde_json::from_value(object.clone()).unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(server.client(), namespace, &resource),
            None => Api::all_with(server.client(), &resource),
        };
        let mut parameters = PatchParams::apply("test");
        parameters.field_validation = Some(kube::api::ValidationDirective::Strict);
        let name = object.metadata.name.clone().unwrap();
        api.patch(&name, &parameters, &Patch::Apply(&object))
            .await
            .unwrap();
    }
}

/// The framework's own rules are what it needs, no less and no more.
#[tokio::test(start_paused = true)]
async fn the_frameworks_own_rules_are_exact() {
    let server = ApiServer::new();
    let audit = Audit::new();
    let options = Options {
        leader_election: Some(LeaderElection::new("widgets", "default")),
        ..Options::default()
    };
    let mut manager = Manager::new(audit.wrap(&server.client()), options).unwrap();
    let (recorder, worker) = Recorder::new(manager.client(), "hosted", "pod-1", manager.clock());
    manager.add(worker).unwrap();
    let shutdown = CancellationToken::new();
    let run = tokio::spawn(manager.run(shutdown.clone()));
    sleep(SECOND).await;
    let object: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "settings", "namespace": "default"}})).unwrap();
    for _ in 0..2 {
        recorder.normal(&object, "Accepted", "Reconcile", "yes");
        sleep(5 * SECOND).await;
    }
    shutdown.cancel();
    run.await.unwrap().unwrap();
    let rules = [manifests::cluster_rules(), manifests::lease_rules("widgets")].concat();
    audit.check(&rules).unwrap();
    let verbs: BTreeSet<_> = audit.accesses().iter().map(ToString::to_string).collect();
    assert_eq!(
        verbs.iter().map(String::as_str).collect::<Vec<_>>(),
        [
            "create events.events.k8s.io",
            "create leases.coordination.k8s.io",
            "get leases.coordination.k8s.io",
            "patch events.events.k8s.io",
            "update leases.coordination.k8s.io",
        ]
    );
}
