//! Workloads that come to life on the server in this process, under a paused clock.

use crate::ApiServer;
use crate::companions::Stages;
use crate::companions::tests::{eventually, start};
use crate::faults::{Fault, Rule};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::time::Duration;

async fn create<K>(client: &Client, object: Value) -> K
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), "default");
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap()
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn deployment(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("a")},
    })
}

async fn is_complete(api: &Api<Deployment>) -> bool {
    let deployment = api.get("web").await.unwrap();
    let generation = deployment.metadata.generation;
    let wanted = deployment.spec.as_ref().unwrap().replicas;
    let status = deployment.status.unwrap();
    let reason = |kind: &str| {
        let conditions = status.conditions.iter().flatten();
        let found = conditions.into_iter().find(|condition| condition.type_ == kind);
        found
            .and_then(|condition| condition.reason.clone())
            .unwrap_or_default()
    };
    status.observed_generation == generation
        && status.replicas == wanted
        && status.updated_replicas == wanted
        && status.available_replicas == wanted
        && reason("Available") == "MinimumReplicasAvailable"
        && reason("Progressing") == "NewReplicaSetAvailable"
}

async fn pods(client: &Client) -> Vec<Pod> {
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    api.list(&ListParams::default()).await.unwrap().items
}

#[tokio::test(start_paused = true)]
async fn a_deployment_gets_available_and_rolls() {
    let server = ApiServer::new();
    let client = server.client();
    let _running = start(&server, |companions| companions.stages(Some(Stages::default())));
    create::<Deployment>(&client, deployment(3)).await;
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    eventually("three pods are available", async || is_complete(&api).await).await;
    let running = pods(&client).await;
    assert_eq!(running.len(), 3);
    for pod in running {
        let status = pod.status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert!(status.pod_ip.is_some());
        assert!(status.container_statuses.unwrap()[0].ready);
        assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some("simulated"));
    }

    let patch = Patch::Strategic(
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "b"}]}}}}),
    );
    api.patch("web", &PatchParams::default(), &patch).await.unwrap();
    let rolled = async || {
        let images: Vec<String> = pods(&client)
            .await
            .into_iter()
            .filter_map(|pod| pod.spec?.containers.remove(0).image)
            .collect();
        images == ["b", "b", "b"] && is_complete(&api).await
    };
    eventually("three new pods and no other", rolled).await;
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), "default");
    let mut sizes: Vec<(String, Option<i32>)> = Vec::new();
    for set in sets.list(&ListParams::default()).await.unwrap() {
        let revision = set.annotations()["deployment.kubernetes.io/revision"].clone();
        sizes.push((revision, set.spec.unwrap().replicas));
    }
    sizes.sort();
    assert_eq!(sizes, [("1".to_owned(), Some(0)), ("2".to_owned(), Some(3))]);
    let deployment = api.get("web").await.unwrap();
    assert_eq!(deployment.annotations()["deployment.kubernetes.io/revision"], "2");

    api.delete("web", &DeleteParams::default()).await.unwrap();
    eventually("all of it is gone", async || pods(&client).await.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_scaled_and_a_lost_pod_replaced() {
    let server = ApiServer::new();
    let client = server.client();
    let running = start(&server, |companions| companions.stages(Some(Stages::default())));
    create::<Deployment>(&client, deployment(1)).await;
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    eventually("one pod is available", async || is_complete(&api).await).await;
    // Stages that start anew go on from what is there.
    drop(running);
    let patch = Patch::Merge(json!({"spec": {"replicas": 4}}));
    api.patch("web", &PatchParams::default(), &patch).await.unwrap();
    let _running = start(&server, |companions| companions.stages(Some(Stages::default())));
    eventually("four pods are available", async || is_complete(&api).await).await;
    let lost = pods(&client).await.remove(0).name_any();
    let all: Api<Pod> = Api::namespaced(client.clone(), "default");
    all.delete(&lost, &DeleteParams::default()).await.unwrap();
    eventually("the pod is gone", async || {
        all.get_opt(&lost).await.unwrap().is_none()
    })
    .await;
    eventually("there are four again", async || {
        is_complete(&api).await && pods(&client).await.len() == 4
    })
    .await;
}

fn stateful_set(policy: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {
            "replicas": 3, "serviceName": "db", "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": "web"}}, "template": template("a"),
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    })
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_comes_up_rolls_and_shrinks() {
    for policy in ["OrderedReady", "Parallel"] {
        let server = ApiServer::new();
        let client = server.client();
        let _running = start(&server, |companions| companions.stages(Some(Stages::default())));
        create::<StatefulSet>(&client, stateful_set(policy)).await;
        let api: Api<StatefulSet> = Api::namespaced(client.clone(), "default");
        let settled = async |replicas: i32| {
            let set = api.get("db").await.unwrap();
            let generation = set.metadata.generation;
            let status = set.status.unwrap();
            status.observed_generation == generation
                && status.replicas == replicas
                && status.ready_replicas == Some(replicas)
                && status.updated_replicas == Some(replicas)
                && status.current_revision == status.update_revision
        };
        eventually("three replicas are ready", async || settled(3).await).await;
        let names: Vec<String> = pods(&client).await.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["db-0", "db-1", "db-2"]);
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), "default");
        let claim = claims.get("data-db-0").await.unwrap();
        assert_eq!(claim.status.unwrap().phase.as_deref(), Some("Bound"));

        let patch = Patch::Merge(json!({"spec": {"template": template("b")}}));
        api.patch("db", &PatchParams::default(), &patch).await.unwrap();
        let rolled = async || {
            let all = pods(&client).await;
            let new = all
                .iter()
                .filter(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("b"));
            new.count() == 3 && settled(3).await
        };
        eventually("all replicas are new", rolled).await;

        let patch = Patch::Merge(json!({"spec": {"replicas": 1}}));
        api.patch("db", &PatchParams::default(), &patch).await.unwrap();
        let shrunk = async || {
            let left = claims.list(&ListParams::default()).await.unwrap().items;
            settled(1).await && left.len() == 1
        };
        eventually("one replica and its claim are left", shrunk).await;
        api.delete("db", &DeleteParams::default()).await.unwrap();
        let gone = async || {
            claims
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .is_empty()
        };
        eventually("the claims went with the set", gone).await;
    }
}

#[tokio::test(start_paused = true)]
async fn load_balancers_and_budgets() {
    let server = ApiServer::new();
    let client = server.client();
    let _running = start(&server, |companions| companions.stages(Some(Stages::default())));
    for name in ["a", "b"] {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        });
        create::<Service>(&client, service).await;
    }
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let addresses = async || {
        let mut addresses = Vec::new();
        for service in services.list(&ListParams::default()).await.unwrap() {
            let status = service
                .status
                .unwrap_or_default()
                .load_balancer
                .unwrap_or_default();
            addresses.extend(
                status
                    .ingress
                    .into_iter()
                    .flatten()
                    .filter_map(|ingress| ingress.ip),
            );
        }
        addresses.sort();
        addresses
    };
    eventually("both have an address", async || {
        addresses().await == ["198.18.0.1", "198.18.0.2"]
    })
    .await;

    create::<Deployment>(&client, deployment(3)).await;
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    });
    create::<PodDisruptionBudget>(&client, budget).await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), "default");
    let allows = async || {
        let status = budgets.get("web").await.unwrap().status.unwrap_or_default();
        let counts = [
            status.expected_pods,
            status.desired_healthy,
            status.current_healthy,
            status.disruptions_allowed,
        ];
        counts == [Some(3), Some(2), Some(3), Some(1)]
    };
    eventually("one disruption is allowed", allows).await;
}

#[tokio::test(start_paused = true)]
async fn beside_a_controller_manager_only_pods_and_balancers_are_played() {
    let server = ApiServer::new();
    let client = server.client();
    let _running = start(&server, |companions| {
        companions.stages(Some(Stages::kubelet_only()))
    });
    create::<Deployment>(&client, deployment(1)).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    create::<ServiceAccount>(&client, account).await;
    let mut pod = template("a");
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("alone");
    create::<Pod>(&client, pod).await;
    let running = async || {
        let all = pods(&client).await;
        all.len() == 1 && all[0].status.as_ref().unwrap().phase.as_deref() == Some("Running")
    };
    eventually("the pod runs, and no other is made", running).await;
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), "default");
    assert!(sets.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test(start_paused = true)]
async fn refusals_and_lost_watches_delay_and_do_not_change_the_end() {
    let server = ApiServer::new();
    let client = server.client();
    let _running = start(&server, |companions| companions.stages(Some(Stages::default())));
    let faults = server.faults();
    for resource in ["pods", "replicasets.apps"] {
        faults.add(Rule::on("create", resource, Fault::Unavailable).times(3));
        faults.add(
            Rule::on("create", resource, Fault::Cut)
                .nth(5)
                .after_it_is_applied(),
        );
        let status = format!("{resource}/status");
        faults.add(Rule::on("patch", &status, Fault::Conflict).times(3));
        faults.add(Rule::on("watch", resource, Fault::DropWatch(Duration::from_millis(300))).times(3));
    }
    create::<Deployment>(&client, deployment(3)).await;
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    eventually("three pods are available", async || is_complete(&api).await).await;
    server.compact();
    let patch = Patch::Merge(json!({"spec": {"template": template("b"), "replicas": 2}}));
    api.patch("web", &PatchParams::default(), &patch).await.unwrap();
    let rolled = async || is_complete(&api).await && pods(&client).await.len() == 2;
    eventually("two new pods and no other", rolled).await;
}

#[tokio::test(start_paused = true)]
async fn pods_are_bound_to_a_node_that_others_run() {
    let server = ApiServer::new();
    let client = server.client();
    let stages = Stages::controllers_only().bind_to("real");
    let _running = start(&server, |companions| companions.stages(Some(stages)));
    create::<Deployment>(&client, deployment(1)).await;
    eventually("the pod is bound", async || {
        let pods = pods(&client).await;
        let node = pods.first().and_then(|pod| pod.spec.as_ref()?.node_name.clone());
        node.as_deref() == Some("real")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let status = pods(&client).await.remove(0).status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_volume_goes_when_no_claim_has_it() {
    let server = ApiServer::new();
    let client = server.client();
    let _running = start(&server, |companions| {
        companions.stages(Some(Stages::controllers_only()))
    });
    let volumes: Api<PersistentVolume> = Api::all(client);
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}},
    });
    let volume = serde_json::from_value(volume).unwrap();
    volumes.create(&PostParams::default(), &volume).await.unwrap();
    let phase = async |phase: &str| {
        let patch = Patch::Merge(json!({"status": {"phase": phase}}));
        let params = PatchParams::default();
        volumes.patch_status("v", &params, &patch).await.unwrap();
    };
    phase("Bound").await;
    volumes.delete("v", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    volumes.get("v").await.unwrap();
    phase("Released").await;
    eventually("it is gone", async || {
        volumes.get_opt("v").await.unwrap().is_none()
    })
    .await;
}
