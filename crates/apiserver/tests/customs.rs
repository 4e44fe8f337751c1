//! Custom resources from their definition to their end.
#![allow(clippy::unwrap_used)]

use clusterwright_apiserver::ApiServer;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

fn definition() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "default": 3, "minimum": 1}
                    }},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }}},
            }],
        },
    }))
    .unwrap()
}

fn widgets(server: &ApiServer) -> Api<DynamicObject> {
    let kind = kube::core::GroupVersionKind::gvk("example.com", "v1", "Widget");
    Api::namespaced_with(server.client(), "default", &ApiResource::from_gvk(&kind))
}

fn widget(name: &str, spec: &serde_json::Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec,
    }))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_definition_is_served_at_once_and_takes_its_objects_with_it() {
    let server = ApiServer::new();
    let definitions: Api<CustomResourceDefinition> = Api::all(server.client());
    let api = widgets(&server);
    let missing = api.list(&ListParams::default()).await;
    assert!(matches!(missing, Err(kube::Error::Api(status)) if status.code == 404));

    definitions
        .create(&PostParams::default(), &definition())
        .await
        .unwrap();
    let made = api
        .create(&PostParams::default(), &widget("a", &json!({"colour": "red"})))
        .await
        .unwrap();
    assert_eq!(made.data["spec"], json!({"size": 3}));
    assert_eq!(made.metadata.generation, Some(1));
    let refused = api
        .create(&PostParams::default(), &widget("b", &json!({"size": 0})))
        .await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 422));

    let config = json!({"apiVersion": "example.com/v1", "kind": "Widget", "status": {"ready": true}});
    let params = PatchParams::apply("test");
    let applied = api
        .patch_status("a", &params, &Patch::Apply(&config))
        .await
        .unwrap();
    assert_eq!(applied.data["status"], json!({"ready": true}));

    definitions
        .delete("widgets.example.com", &DeleteParams::default())
        .await
        .unwrap();
    assert!(
        definitions
            .get_opt("widgets.example.com")
            .await
            .unwrap()
            .is_none()
    );
    let gone = api.list(&ListParams::default()).await;
    assert!(matches!(gone, Err(kube::Error::Api(status)) if status.code == 404));

    // A definition of the same name starts with nothing.
    definitions
        .create(&PostParams::default(), &definition())
        .await
        .unwrap();
    assert!(api.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_object_with_a_finalizer_holds_its_definition() {
    let server = ApiServer::new();
    let definitions: Api<CustomResourceDefinition> = Api::all(server.client());
    let api = widgets(&server);
    definitions
        .create(&PostParams::default(), &definition())
        .await
        .unwrap();
    let mut held = widget("a", &json!({}));
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    api.create(&PostParams::default(), &held).await.unwrap();
    definitions
        .delete("widgets.example.com", &DeleteParams::default())
        .await
        .unwrap();
    let going = api.get("a").await.unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    let refused = api.create(&PostParams::default(), &widget("b", &json!({}))).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 405));

    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert!(
        definitions
            .get_opt("widgets.example.com")
            .await
            .unwrap()
            .is_none()
    );
}
