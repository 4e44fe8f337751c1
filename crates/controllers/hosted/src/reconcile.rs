//! What happens to one control plane when something has changed.

use std::time::Duration;

use clusterwright_api::conditions::HostedControlPlaneCondition as Type;
use clusterwright_api::hosted::HostedControlPlaneStatus;
use clusterwright_api::reasons::Reason;
use clusterwright_api::{Cluster, HostedControlPlane};
use clusterwright_runtime::conditions;
use clusterwright_runtime::object::ObjectKey;
use clusterwright_runtime::reconcile::{Context, Outcome, Reconciler, Request};
use kube::core::ObjectMeta;

use crate::error::Error;
use crate::inputs::{InputError, Inputs};
use crate::names::Names;
use crate::pass::{Notice, Pass};
use crate::snapshot::{Read, Snapshot, owner_cluster, paused_by};
use crate::status::{self, Conditions, Observed};
use crate::unsupported::unsupported;
use crate::{Options, deletion};

/// How long a deletion waits before it looks again by itself. What it waits for is watched; this is for what is not.
const DELETION_RETRY: Duration = Duration::from_secs(30);

/// Brings about what `HostedControlPlane`s ask for.
pub struct HostedControlPlanes {
    pub(crate) options: Options,
}

impl HostedControlPlanes {
    async fn work(&self, cx: &Context, read: Read) -> Result<Outcome, Error> {
        let now = cx.clock().now();
        let first_look = read
            .object
            .status
            .as_ref()
            .and_then(|status| status.observed_generation)
            != read.object.metadata.generation;
        let mut pass = Pass::new(cx.client(), &self.options, now, read);
        pass.run().await;

        // As it is after this pass's writes, which the cache shows.
        let inputs = &pass.read.inputs;
        let snapshot = Snapshot::read(cx.client(), &inputs.namespace, &inputs.names)?;
        let fields = unsupported(&inputs.spec, pass.volume_differs());
        let status = status::status(&Observed {
            object: &pass.read.object,
            names: &inputs.names,
            snapshot: &snapshot,
            verdicts: &pass.verdicts,
            exposure: &pass.exposure,
            unsupported: &fields,
            now,
        });
        // Of what a spec says, once per spec; of what happens, each time.
        let once = |notice: &Notice| notice.reason != Reason::ArgumentOverridden || first_look;
        for notice in pass.notices.iter().filter(|notice| once(notice)) {
            tell(cx, &pass.read.object, notice);
        }
        if first_look && !fields.is_empty() {
            tell(
                cx,
                &pass.read.object,
                &Notice {
                    warning: true,
                    reason: Reason::FieldsNotSupported,
                    action: "Reconcile",
                    note: status::unsupported_message(&fields),
                },
            );
        }
        write_status(cx, &pass.read.object, status).await?;
        let wake = pass.wake();
        match first_to_retry(pass.errors) {
            Some(error) => Err(error),
            None => Ok(wake.map_or(Outcome::Done, Outcome::RequeueAfter)),
        }
    }
}

fn tell(cx: &Context, object: &HostedControlPlane, notice: &Notice) {
    let (reason, note) = (notice.reason.as_str(), notice.note.as_str());
    if notice.warning {
        cx.recorder().warning(object, reason, notice.action, note);
    } else {
        cx.recorder().normal(object, reason, notice.action, note);
    }
}

/// What can be mended by trying again comes before what can't.
fn first_to_retry(errors: Vec<Error>) -> Option<Error> {
    use clusterwright_runtime::reconcile::ReconcileError as _;
    let (terminal, other): (Vec<_>, Vec<_>) = errors.into_iter().partition(Error::is_terminal);
    other.into_iter().chain(terminal).next()
}

impl Reconciler for HostedControlPlanes {
    type Object = HostedControlPlane;
    type Error = Error;

    async fn reconcile(&self, cx: &Context, request: Request<HostedControlPlane>) -> Result<Outcome, Error> {
        let Some(object) = cx.get(&request)? else {
            return Ok(Outcome::Done);
        };
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let name = owner_cluster(&object).map(str::to_owned);
        let cluster: Option<Cluster> = match &name {
            Some(name) => cx
                .client()
                .get(&ObjectKey::namespaced(namespace.as_str(), name.as_str()))?,
            None => None,
        };
        if let Some(by) = paused_by(&object, cluster.as_ref()) {
            return pause(cx, &object, by).await;
        }
        let (Some(name), Some(cluster)) = (name, cluster) else {
            let message = "no Cluster that is there names this object in spec.controlPlaneRef and owns it";
            return hold(cx, &object, Reason::WaitingForCluster, message).await;
        };
        let inputs = match Inputs::new(&object, &name, &cluster) {
            Ok(inputs) => inputs,
            Err(error) => {
                let reason = match error {
                    InputError::Version(_) => Reason::InvalidSpec,
                    _ => Reason::InvalidCluster,
                };
                return hold(cx, &object, reason, &error.line()).await;
            }
        };
        let snapshot = Snapshot::read(cx.client(), &namespace, &inputs.names)?;
        let read = Read {
            object,
            cluster,
            inputs,
            snapshot,
        };
        Box::pin(self.work(cx, read)).await
    }

    async fn finalize(&self, cx: &Context, request: Request<HostedControlPlane>) -> Result<Outcome, Error> {
        let Some(object) = cx.get(&request)? else {
            return Ok(Outcome::Done);
        };
        // Without an owner nothing was ever made.
        let Some(name) = owner_cluster(&object).map(str::to_owned) else {
            return Ok(Outcome::Done);
        };
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let cluster: Option<Cluster> = cx
            .client()
            .get(&ObjectKey::namespaced(namespace, name.as_str()))?;
        if let Some(by) = paused_by(&object, cluster.as_ref()) {
            pause(cx, &object, by).await?;
            return Ok(Outcome::RequeueAfter(DELETION_RETRY));
        }
        let Some(left) = deletion::step(cx.client(), &object, &Names::new(name)).await? else {
            return Ok(Outcome::Done);
        };
        let mut status = object.status.clone().unwrap_or_default();
        let now = cx.clock().now();
        let mut conditions = Conditions::of(&mut status, object.metadata.generation, now);
        conditions.set(Type::Deleting, true, left.reason, left.message.clone());
        conditions.set(Type::Paused, false, Reason::NotPaused, "");
        for kind in [Type::Available, Type::Ready] {
            conditions.set(kind, false, left.reason, "the control plane is being deleted");
        }
        write_status(cx, &object, status).await?;
        Ok(Outcome::RequeueAfter(DELETION_RETRY))
    }
}

/// Says that reconciliation is stopped, and does nothing else.
async fn pause(cx: &Context, object: &HostedControlPlane, by: &str) -> Result<Outcome, Error> {
    let mut status = object.status.clone().unwrap_or_default();
    let mut conditions = Conditions::of(&mut status, object.metadata.generation, cx.clock().now());
    conditions.set(Type::Paused, true, Reason::Paused, by);
    write_status(cx, object, status).await?;
    Ok(Outcome::Done)
}

/// Says why the object can't be worked on, by an Event once. What runs already is left as it is, and is said to be as
/// it was.
async fn hold(
    cx: &Context,
    object: &HostedControlPlane,
    reason: Reason,
    message: &str,
) -> Result<Outcome, Error> {
    let mut status = object.status.clone().unwrap_or_default();
    let unknown = conditions::get(&status.conditions, Type::Available.as_str()).is_none();
    let said = conditions::get(&status.conditions, Type::Ready.as_str());
    if reason != Reason::WaitingForCluster && said.is_none_or(|said| said.message != message) {
        let notice = Notice {
            warning: true,
            reason,
            action: "Reconcile",
            note: message.to_owned(),
        };
        tell(cx, object, &notice);
    }
    let mut conditions = Conditions::of(&mut status, object.metadata.generation, cx.clock().now());
    if unknown {
        conditions.set(Type::Available, false, reason, message);
    }
    conditions.set(Type::Ready, false, reason, message);
    conditions.set(Type::Paused, false, Reason::NotPaused, "");
    write_status(cx, object, status).await?;
    Ok(Outcome::Done)
}

async fn write_status(
    cx: &Context,
    object: &HostedControlPlane,
    status: HostedControlPlaneStatus,
) -> Result<(), Error> {
    let config = HostedControlPlane {
        metadata: ObjectMeta {
            name: object.metadata.name.clone(),
            namespace: object.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        status: Some(status),
        ..HostedControlPlane::default()
    };
    cx.client().apply_status(&config).await?;
    Ok(())
}
