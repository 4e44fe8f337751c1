use super::*;
use crate::builtin;

fn get(path: &str, query: &str) -> (StatusCode, Value) {
    let response = answer(path, query, "", &builtin::resources(), None).expect("a path of OpenAPI");
    let body = serde_json::from_slice(response.body()).unwrap_or_default();
    (response.status(), body)
}

#[test]
fn the_index_leads_to_every_document() {
    let (_, index) = get("/openapi/v3", "");
    let paths = index["paths"].as_object().expect("paths");
    assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
    for (name, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().expect("a URL");
        let (path, query) = url.split_once('?').expect("a hash");
        let (code, document) = get(path, query);
        assert_eq!(code, StatusCode::OK, "{name}");
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let end = reference.find('"').expect("an end");
            assert!(
                schemas.contains_key(&reference[..end]),
                "{name} lacks {}",
                &reference[..end]
            );
        }
    }
}

#[test]
fn operations_say_their_kind_and_parameters() {
    let (_, document) = get("/openapi/v3/apis/apps/v1", "");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let names: Vec<&Value> = patch["parameters"]
        .as_array()
        .expect("parameters")
        .iter()
        .map(|p| &p["name"])
        .collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    let kinds = &document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"];
    assert_eq!(
        *kinds,
        json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
    );
}

#[test]
fn an_old_hash_leads_to_the_new_one() {
    let all = builtin::resources();
    let response = answer("/openapi/v3/apis/apps/v1", "hash=zz", "", &all, None).expect("a path of OpenAPI");
    assert_eq!(response.status(), StatusCode::MOVED_PERMANENTLY);
    assert!(response.headers().contains_key(LOCATION));
    let (code, _) = get("/openapi/v3/apis/nope/v1", "");
    assert_eq!(code, StatusCode::NOT_FOUND);
    assert!(answer("/openapi/v1", "", "", &all, None).is_none());
}

#[test]
fn the_older_version_has_the_definitions() {
    let (_, document) = get("/openapi/v2", "");
    let definitions = &document["definitions"];
    let pod = &definitions["io.k8s.api.core.v1.Pod"];
    assert_eq!(
        pod["properties"]["spec"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.PodSpec"
    );
    assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
    let port = &definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
    assert_eq!(*port, json!({"type": "string", "format": "int-or-string"}));
    let text = document.to_string();
    // A schema has a field of that name too, but no list.
    assert!(!text.contains(r#""allOf":["#) && !text.contains("#/components"));
}

#[test]
fn the_older_version_is_protobuf_for_who_asks() {
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let response = answer("/openapi/v2", "", accept, &builtin::resources(), None).expect("a path of OpenAPI");
    assert_eq!(
        response.headers()[CONTENT_TYPE],
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    assert!(response.body().starts_with(b"\x0a\x032.0\x12"));
}
