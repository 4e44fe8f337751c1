use super::*;
use crate::builtin::definitions::schema;

fn defaulted(name: &str, mut object: Value) -> Value {
    apply(&schema(name), &mut object);
    object
}

#[test]
fn pods_get_what_the_real_server_gives() {
    let pod = defaulted(
        "io.k8s.api.core.v1.Pod",
        json!({"metadata": {"name": "a"}, "spec": {
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}],
            "containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"port": 80}},
                "resources": {"limits": {"cpu": "1"}}}],
        }}),
    );
    let spec = &pod["spec"];
    assert_eq!(spec["dnsPolicy"], "ClusterFirst");
    assert_eq!(spec["securityContext"], json!({}));
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["enableServiceLinks"], true);
    assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
    assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
    let container = &spec["containers"][0];
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(
        container["livenessProbe"],
        json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
    );
    assert_eq!(container["resources"]["requests"]["cpu"], "1");
    assert_eq!(quality_of_service(spec), "Burstable");
}

#[test]
fn workloads_get_theirs_and_their_templates_too() {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}});
    let deployment = defaulted(
        "io.k8s.api.apps.v1.Deployment",
        json!({"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template.clone()}}),
    );
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    assert_eq!(deployment["spec"]["progressDeadlineSeconds"], 600);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(pod["containers"][0]["resources"], json!({}));
    assert_eq!(pod.get("enableServiceLinks"), None);
    let set = defaulted(
        "io.k8s.api.apps.v1.StatefulSet",
        json!({"metadata": {"name": "a"}, "spec": {"template": template, "volumeClaimTemplates": [{"metadata": {"name": "d"}}]}}),
    );
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    );
    let claim = &set["spec"]["volumeClaimTemplates"][0];
    assert_eq!(claim["kind"], "PersistentVolumeClaim");
    assert_eq!(claim["spec"]["volumeMode"], "Filesystem");
    assert_eq!(claim["status"]["phase"], "Pending");
}

#[test]
fn services_target_their_own_port() {
    let service = defaulted(
        "io.k8s.api.core.v1.Service",
        json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}),
    );
    assert_eq!(
        service,
        json!({"metadata": {"name": "a"}, "spec": {"type": "ClusterIP", "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]},
            "status": {"loadBalancer": {}}})
    );
}
