use super::*;
use crate::builtin;

fn table(plural: &str, group: &str, object: Value) -> Value {
    let all = builtin::resources();
    let resource = all
        .iter()
        .find(|r| &*r.plural == plural && &*r.group == group)
        .expect("served");
    let metadata = json!({"resourceVersion": "7"});
    let options = Options {
        version: "v1",
        include: Include::Metadata,
        headers: true,
        metadata: &metadata,
        now: "2026-01-02T00:00:00Z".parse().expect("a time"),
    };
    render(resource, &[object], &options)
}

#[test]
fn a_waiting_pod() {
    let made = table(
        "pods",
        "",
        json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-01T23:55:00Z"},
            "spec": {"containers": [{"name": "c"}], "nodeName": "n"},
            "status": {"phase": "Pending", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [
                {"restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": {"finishedAt": "2026-01-01T23:59:00Z"}}}]},
        }),
    );
    assert_eq!(
        made["rows"][0]["cells"],
        json!([
            "a",
            "0/1",
            "CrashLoopBackOff",
            "2 (60s ago)",
            "5m",
            "10.0.0.1",
            "n",
            "<none>",
            "<none>"
        ])
    );
    assert_eq!(made["columnDefinitions"][0]["format"], "name");
    assert_eq!(made["columnDefinitions"][5]["priority"], 1);
    assert_eq!(made["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}

#[test]
fn as_many_cells_as_columns() {
    let object = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T23:55:00Z"}});
    for resource in builtin::resources() {
        let made = table(&resource.plural, &resource.group, object.clone());
        assert_eq!(
            made["columnDefinitions"].as_array().map(Vec::len),
            made["rows"][0]["cells"].as_array().map(Vec::len),
            "{resource:?}"
        );
    }
}

#[test]
fn services_and_deployments() {
    let service = table(
        "services",
        "",
        json!({
            "metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.9"], "selector": {"a": "b"},
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]},
            "status": {"loadBalancer": {}},
        }),
    );
    assert_eq!(
        service["rows"][0]["cells"],
        json!([
            "s",
            "LoadBalancer",
            "10.96.0.9",
            "<pending>",
            "80:30080/TCP",
            "24h",
            "a=b"
        ])
    );
    let deployment = table(
        "deployments",
        "apps",
        json!({
            "metadata": {"name": "d", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
            "status": {"readyReplicas": 1, "updatedReplicas": 2},
        }),
    );
    assert_eq!(
        deployment["rows"][0]["cells"],
        json!(["d", "1/3", 2, 0, "24h", "c", "i", "a=b"])
    );
}
