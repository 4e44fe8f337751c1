//! What a hosted control plane needs of Cluster API's core manager, for places where that does not run.
//!
//! It gives the control plane that a Cluster refers to its owner reference and label, copies its endpoint to the
//! Cluster, reports `ControlPlaneInitialized` and `ControlPlaneAvailable`, and deletes it before the Cluster goes.
//! Reasons and messages are those of the core manager, so that nobody can tell the two apart by what they write: one
//! recording of a life is compared with both (`cluster_api.rs` among the tests of the hosted controller).
//! Where the core manager runs, this controller must not.

mod plan;

use clusterwright_api::meta::CLUSTER_NAME_LABEL;
use clusterwright_api::{Cluster, HostedControlPlane};
use clusterwright_runtime::client::{Client, Error};
use clusterwright_runtime::controller::{Builder, Controller};
use clusterwright_runtime::object::ObjectKey;
use clusterwright_runtime::rbac::Verb;
use clusterwright_runtime::reconcile::{Context, Outcome, Reconciler, Request};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch};
use plan::{Plan, plan};

/// Held until the control plane is gone; the core manager's own.
pub const FINALIZER: &str = "cluster.cluster.x-k8s.io";

/// Index of Clusters by the HostedControlPlane that they refer to.
const BY_CONTROL_PLANE: &str = "controlPlaneRef";

/// The controller, to be built. `client` is the one that it will run with.
pub fn controller(client: &Client) -> Builder<Clusters, HostedControlPlane> {
    client
        .cache()
        .informer::<Cluster>()
        .index(BY_CONTROL_PLANE, |cluster| {
            plan::control_plane_name(cluster)
                .map(str::to_owned)
                .into_iter()
                .collect()
        });
    Controller::builder("cluster", Clusters)
        .finalizer(FINALIZER)
        .writes::<Cluster>([Verb::Patch])
        .writes_status::<Cluster>()
        .watches(clusters_of)
        .writes::<HostedControlPlane>([Verb::Patch, Verb::Delete])
}

fn clusters_of(control_plane: &HostedControlPlane, client: &Client) -> Vec<ObjectKey> {
    let namespace = control_plane.namespace();
    let mut keys = client
        .list_keys_by::<Cluster>(BY_CONTROL_PLANE, &control_plane.name_any())
        .unwrap_or_default();
    keys.retain(|key| key.namespace() == namespace.as_deref());
    if let Some(owner) = control_plane.labels().get(CLUSTER_NAME_LABEL) {
        keys.push(ObjectKey::beside::<Cluster>(namespace.as_deref(), owner));
    }
    keys
}

/// Reconciles Clusters.
pub struct Clusters;

impl Clusters {
    fn control_plane(cx: &Context, cluster: &Cluster) -> Result<Option<HostedControlPlane>, Error> {
        let Some(name) = plan::control_plane_name(cluster) else {
            return Ok(None);
        };
        cx.client().get(&ObjectKey::beside::<HostedControlPlane>(
            cluster.namespace().as_deref(),
            name,
        ))
    }

    async fn execute(cx: &Context, cluster: &Cluster, plan: Plan) -> Result<(), Error> {
        let key = ObjectKey::of(cluster);
        if let Some(adoption) = plan.adoption {
            cx.client()
                .patch::<HostedControlPlane, _>(&adoption.key, &Patch::Merge(adoption.patch))
                .await?;
        }
        if let Some(endpoint) = plan.endpoint {
            let patch = serde_json::json!({"spec": {"controlPlaneEndpoint": endpoint}});
            cx.client()
                .patch::<Cluster, _>(&key, &Patch::Merge(patch))
                .await?;
        }
        if let Some(status) = plan.status {
            let mut reported = Cluster::new(key.name(), clusterwright_api::cluster::ClusterSpec::default());
            reported.metadata.namespace = cluster.namespace();
            reported.status = Some(status);
            cx.client().apply_status(&reported).await?;
        }
        Ok(())
    }
}

impl Reconciler for Clusters {
    type Object = Cluster;
    type Error = Error;

    async fn reconcile(&self, cx: &Context, request: Request<Cluster>) -> Result<Outcome, Error> {
        let Some(cluster) = cx.get(&request)? else {
            return Ok(Outcome::Done);
        };
        let control_plane = Self::control_plane(cx, &cluster)?;
        let plan = plan(&cluster, control_plane.as_ref(), cx.clock().now());
        Self::execute(cx, &cluster, plan).await?;
        Ok(Outcome::Done)
    }

    async fn finalize(&self, cx: &Context, request: Request<Cluster>) -> Result<Outcome, Error> {
        let Some(cluster) = cx.get(&request)? else {
            return Ok(Outcome::Done);
        };
        let control_plane = Self::control_plane(cx, &cluster)?;
        let plan = plan(&cluster, control_plane.as_ref(), cx.clock().now());
        Self::execute(cx, &cluster, plan).await?;
        let paused = plan::is_paused(&cluster);
        if control_plane.is_none() && !paused {
            return Ok(Outcome::Done);
        }
        if let Some(control_plane) = control_plane.filter(|object| !paused && !plan::is_deleted(object)) {
            let key = ObjectKey::of(&control_plane);
            cx.client()
                .delete::<HostedControlPlane>(&key, &DeleteParams::default())
                .await?;
        }
        // Its deletion wakes us; this is for the case that we hear nothing of it.
        Ok(Outcome::RequeueAfter(std::time::Duration::from_secs(30)))
    }
}
