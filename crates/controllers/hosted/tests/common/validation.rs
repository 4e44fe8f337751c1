//! What the API server refuses of a control plane's spec by our CRD alone, without any controller, and what it takes.

use clusterwright_api::{HostedControlPlane, HostedControlPlaneTemplate};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::harness::{Bench, NAME};

/// A mapping of claims that does.
fn claims() -> Value {
    json!({"username": "claims.sub"})
}

/// Specs to refuse, each with words of the answer.
type Refused = Vec<(Value, &'static str)>;

fn refused() -> Refused {
    [
        general_refused(),
        etcd_refused(),
        identities_refused(),
        api_servers_refused(),
    ]
    .concat()
}

fn general_refused() -> Refused {
    vec![
        (json!({"replicas": 0}), "spec.replicas"),
        (json!({"replicas": "three"}), "spec.replicas"),
        (
            json!({"deployment": {"controllerManager": {"replicas": -1}}}),
            "spec.deployment.controllerManager.replicas",
        ),
        (
            json!({"gateway": {"namespace": "gw"}}),
            "spec.gateway.name: Required value",
        ),
        (json!({"rollout": {}}), "spec.rollout"),
        (json!({"rollout": {"after": "soon"}}), "spec.rollout.after"),
        (
            json!({"controlPlaneEndpoint": {"port": 0}}),
            "spec.controlPlaneEndpoint.port",
        ),
        (
            json!({"controlPlaneEndpoint": {"port": 65536}}),
            "spec.controlPlaneEndpoint.port",
        ),
        (json!({"version": ""}), "spec.version"),
        (json!({"version": null}), "spec.version: Required value"),
    ]
}

fn etcd_refused() -> Refused {
    let backup =
        |schedule: &str| json!({"etcd": {"backup": {"schedule": schedule, "secret": {"name": "s3"}}}});
    vec![
        (
            json!({"etcd": {"autoGrow": true, "volumeSize": "8Gi"}}),
            "volumeSize may only be given with autoGrow: false",
        ),
        (
            json!({"etcd": {"volumeSize": "8Gi"}}),
            "volumeSize may only be given with autoGrow: false",
        ),
        (
            json!({"etcd": {"autoGrow": false}}),
            "volumeSize is required with autoGrow: false",
        ),
        (
            json!({"etcd": {"autoGrow": false, "volumeSize": "plenty"}}),
            "spec.etcd.volumeSize",
        ),
        (backup("*/5 * * * *"), "spec.etcd.backup.schedule"),
        (backup("0 1-3 * * *"), "spec.etcd.backup.schedule"),
        (backup("0 3 * *"), "spec.etcd.backup.schedule"),
        (backup("@hourly"), "spec.etcd.backup.schedule"),
        (
            json!({"etcd": {"backup": {"schedule": "@daily"}}}),
            "spec.etcd.backup.secret: Required value",
        ),
        (
            json!({"etcd": {"backup": {"schedule": "@daily", "secret": {}}}}),
            "spec.etcd.backup.secret.name: Required value",
        ),
    ]
}

fn identities_refused() -> Refused {
    let issuer = |url: &str, fields: Value| json!({"oidcProviders": {url: fields}});
    vec![
        (
            issuer(
                "https://kubernetes.default.svc.cluster.local",
                json!({"audiences": ["a"], "claimMappings": claims()}),
            ),
            "is reserved for the management cluster",
        ),
        (
            issuer(
                "https://id.example",
                json!({"audiences": [], "claimMappings": claims()}),
            ),
            "should have at least 1 items",
        ),
        (
            issuer("https://id.example", json!({"claimMappings": claims()})),
            "audiences: Required value",
        ),
        (
            issuer(
                "https://id.example",
                json!({"audiences": ["a"], "claimMappings": {"groups": "claims.groups"}}),
            ),
            "claimMappings.username: Required value",
        ),
        (
            json!({"certificates": {"rootCaCertificateDuration": "24h"}}),
            "rootCaCertificateDuration may not be shorter than caCertificateDuration",
        ),
        (
            json!({"certificates": {"caCertificateDuration": "72h"}}),
            "rootCaCertificateDuration may not be shorter than caCertificateDuration",
        ),
        (
            json!({"certificates": {"rootCaCertificateDuration": "95h59m", "caCertificateDuration": "96h"}}),
            "rootCaCertificateDuration may not be shorter than caCertificateDuration",
        ),
        (
            json!({"certificates": {"rootCaCertificateDuration": "two days"}}),
            "spec.certificates.rootCaCertificateDuration",
        ),
        (
            json!({"certificates": {"caCertificateDuration": "-1h"}}),
            "spec.certificates.caCertificateDuration",
        ),
    ]
}

fn api_servers_refused() -> Refused {
    let api_server = |fields: Value| json!({"deployment": {"apiServer": fields}});
    let mount = |fields: Value| api_server(json!({"mounts": {"x": fields}}));
    let webhook =
        |targets: Value| api_server(json!({"audit": {"policy": {}, "webhook": {"targets": targets}}}));
    vec![
        (mount(json!({"path": "/x"})), "at least 2"),
        (
            mount(json!({"path": "/x", "configMap": {"name": "c"}, "secret": {"secretName": "s"}})),
            "at most 2",
        ),
        (
            mount(json!({"configMap": {"name": "c"}, "secret": {"secretName": "s"}})),
            "path: Required value",
        ),
        (
            api_server(json!({"imagePullPolicy": "Sometimes"})),
            "Unsupported value: \"Sometimes\"",
        ),
        (
            api_server(json!({"args": {"v": 4}})),
            "spec.deployment.apiServer.args.v",
        ),
        (
            api_server(json!({"audit": {"policy": {}, "mode": "slow"}})),
            "Unsupported value: \"slow\"",
        ),
        (
            api_server(json!({"audit": {"mode": "batch"}})),
            "audit.policy: Required value",
        ),
        (webhook(json!([])), "should have at least 1 items"),
        (
            webhook(json!([{"authentication": {"secretName": "s"}}])),
            "server: Required value",
        ),
    ]
}

/// Specs at the edge of those, to take.
fn accepted() -> Vec<Value> {
    vec![
        json!({"replicas": 1}),
        json!({"etcd": {"autoGrow": false, "volumeSize": "8Gi"}}),
        json!({"etcd": {"autoGrow": false, "volumeSize": 8_589_934_592_u64}}),
        json!({"etcd": {"autoGrow": true}}),
        json!({"etcd": {"backup": {"schedule": "@daily", "secret": {"name": "s3"}}}}),
        json!({"etcd": {"backup": {"schedule": "0 3 * * 1", "secret": {"name": "s3"}}}}),
        json!({"oidcProviders": {"https://id.example": {"audiences": ["a"], "claimMappings": claims()}}}),
        json!({"certificates": {"rootCaCertificateDuration": "48h"}}),
        json!({"certificates": {"rootCaCertificateDuration": "96h", "caCertificateDuration": "95h59m60s"}}),
        json!({"deployment": {"apiServer": {"mounts": {"x": {"path": "/x", "secret": {"secretName": "s"}}}}}}),
        json!({"deployment": {"controllerManager": {"replicas": 0}}}),
    ]
}

/// What no controller could do anything with is refused when it is written, by a word that tells what is wrong.
pub async fn fields_are_validated(bench: &mut Bench) {
    bench.create(&json!({})).await;
    let before = bench.get().await.unwrap();
    for (spec, words) in refused() {
        let answer = bench.patch(json!({"spec": spec})).await;
        let told = match answer {
            Err(kube::Error::Api(status)) => status,
            other => panic!("{spec} was not refused: {other:?}"),
        };
        assert_eq!(told.code, 422, "{spec}: {}", told.message);
        assert!(told.message.contains(words), "{spec}: {}", told.message);
    }
    assert_eq!(bench.get().await.unwrap(), before, "nothing was taken in part");
    let try_only = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    for spec in accepted() {
        bench
            .api::<HostedControlPlane>()
            .patch(NAME, &try_only, &Patch::Merge(json!({"spec": spec})))
            .await
            .unwrap_or_else(|error| panic!("{spec}: {error}"));
    }
    templates_are_validated(bench).await;
}

/// A template holds the same fields and is held to the same.
async fn templates_are_validated(bench: &Bench) {
    let create = async |spec: Value| {
        let template = json!({"metadata": {"name": NAME}, "spec": {"template": {"spec": spec}}});
        let template: HostedControlPlaneTemplate = serde_json::from_value(template).unwrap();
        let try_only = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        bench.api().create(&try_only, &template).await
    };
    create(json!({"etcd": {"autoGrow": false, "volumeSize": "8Gi"}}))
        .await
        .unwrap();
    let told = create(json!({"etcd": {"volumeSize": "8Gi"}})).await.unwrap_err();
    assert!(
        told.to_string().contains("volumeSize may only be given with"),
        "{told}"
    );
}

/// Volumes can't shrink, neither at once nor by way of a spec that names no size.
pub async fn volumes_do_not_shrink(bench: &mut Bench) {
    bench.start();
    bench
        .create(&json!({"etcd": {"autoGrow": false, "volumeSize": "8Gi"}}))
        .await;
    bench.until_ready().await;
    let size = bench.get().await.unwrap().status.unwrap().etcd_volume_size;
    assert_eq!(size.map(|size| size.0).as_deref(), Some("8Gi"));
    let refused = async |patch: Value, words: &str| {
        let told = bench.patch(patch).await.unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    };
    refused(
        json!({"spec": {"etcd": {"volumeSize": "8191Mi"}}}),
        "volumeSize may not decrease",
    )
    .await;
    for detour in [
        json!({"spec": {"etcd": {"autoGrow": true, "volumeSize": null}}}),
        json!({"spec": {"etcd": null}}),
    ] {
        bench.patch(detour).await.unwrap();
        let fixed = |size: Value| json!({"spec": {"etcd": {"autoGrow": false, "volumeSize": size}}});
        let words = "may not be less than the volumes' size in status.etcdVolumeSize";
        refused(fixed(json!("4Gi")), words).await;
        refused(fixed(json!(1_073_741_824)), words).await;
        bench.patch(fixed(json!("8192Mi"))).await.unwrap();
    }
    bench
        .patch(json!({"spec": {"etcd": {"volumeSize": "9Gi"}}}))
        .await
        .unwrap();
}
