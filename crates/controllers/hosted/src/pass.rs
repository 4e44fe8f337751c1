//! One pass over the graph: each node in its turn plans from what is there and writes what differs.

use std::collections::BTreeMap;
use std::time::Duration;

use clusterwright_api::reasons::Reason;
use clusterwright_api::{HostedControlPlane, meta};
use clusterwright_runtime::client::Client;
use clusterwright_runtime::object::ObjectKey;
use jiff::Timestamp;
use kube::api::Patch;
use serde_json::json;

use crate::components::{self, Desired, Settings};
use crate::error::Error;
use crate::execute;
use crate::exposure::{self, Exposure};
use crate::graph::{Node, Verdict, Verdicts, Why};
use crate::names::Component;
use crate::pki::{
    Leaf, LeafNames, LeafState, Material, Root, RootState, SERVICE_ACCOUNT_PURPOSE, judge_leaf, judge_root,
    judge_service_account,
};
use crate::rollout::{self, Rollout};
use crate::snapshot::{self, Read};
use crate::trouble::trouble;
use crate::version::{Held, Targets, targets};
use crate::{Options, etcd, quantity, status};

/// Something to tell by an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A warning, or else good news.
    pub warning: bool,
    /// Why.
    pub reason: Reason,
    /// What was done or tried, in `CamelCase`.
    pub action: &'static str,
    /// For people.
    pub note: String,
}

/// One pass, and what came of it.
pub struct Pass<'a> {
    pub(crate) client: &'a Client,
    pub(crate) options: &'a Options,
    pub(crate) now: Timestamp,
    /// What was read. The control plane is brought up to date when its spec is written.
    pub read: Read,
    /// The versions to run now.
    pub targets: Targets,
    /// Where the API server is reached.
    pub exposure: Exposure,
    /// How the nodes stand.
    pub verdicts: Verdicts,
    /// What to tell.
    pub notices: Vec<Notice>,
    /// What failed.
    pub errors: Vec<Error>,
    pub(crate) roots: BTreeMap<Root, Material>,
    pub(crate) leaves: BTreeMap<Leaf, Material>,
    /// When something is due though nothing changes, in seconds of the Unix epoch.
    due: Option<i64>,
}

impl<'a> Pass<'a> {
    /// A pass that has done nothing yet.
    pub fn new(client: &'a Client, options: &'a Options, now: Timestamp, read: Read) -> Self {
        Self {
            client,
            options,
            now,
            targets: targets(&read.inputs.version, &read.snapshot.deployed()),
            read,
            exposure: Exposure::default(),
            verdicts: Verdicts::default(),
            notices: Vec::new(),
            errors: Vec::new(),
            roots: BTreeMap::new(),
            leaves: BTreeMap::new(),
            due: None,
        }
    }

    /// Works on every node whose needs are usable.
    pub async fn run(&mut self) {
        let first_start = self.read.snapshot.is_first_start(&self.read.object);
        for node in Node::ALL {
            let verdict = match self.verdicts.blocked(node, first_start) {
                Some(blocked) => blocked,
                None => match self.work(node).await {
                    Ok(verdict) => self.explained(node, verdict),
                    Err(error) => {
                        let verdict = Verdict::Failed(Why::new(error.word(), error.line()));
                        self.errors.push(error);
                        verdict
                    }
                },
            };
            self.verdicts.set(node, verdict);
        }
    }

    /// The verdict, with what the pods that are waited for say of why they do not come.
    fn explained(&self, node: Node, verdict: Verdict) -> Verdict {
        let waits = |why: &Why| {
            matches!(
                why.reason,
                Reason::WaitingForEtcdMembers | Reason::WaitingForReplicas
            )
        };
        let (Some(component), Some(progress)) = (node.component(), verdict.why().filter(|why| waits(why)))
        else {
            return verdict;
        };
        let Some(trouble) = trouble(&self.read.snapshot.pods, component) else {
            return verdict;
        };
        let why = Why::new(
            trouble.reason,
            format!("{}; {}", progress.message, trouble.message),
        );
        if verdict.is_usable() {
            Verdict::Usable(why)
        } else {
            Verdict::Waiting(why)
        }
    }

    /// After how long to look again though nothing changes.
    pub fn wake(&self) -> Option<Duration> {
        let seconds = self.due?.saturating_sub(self.now.as_second()).max(1);
        Some(Duration::from_secs(seconds.cast_unsigned()))
    }

    async fn work(&mut self, node: Node) -> Result<Verdict, Error> {
        match node {
            Node::Roots => self.roots().await,
            Node::Endpoint => self.endpoint().await,
            Node::Certificates => self.certificates().await,
            Node::ServingCertificate => {
                let names = self.exposure.certificate_names(&self.read.inputs);
                self.leaf(Leaf::ApiServer, names).await?;
                Ok(Verdict::Ready)
            }
            Node::Kubeconfig => self.kubeconfig().await,
            Node::Etcd => self.etcd().await,
            Node::ApiServer => self.api_server().await,
            Node::ControllerManager => self.follower(Component::ControllerManager).await,
            Node::Scheduler => self.follower(Component::Scheduler).await,
        }
    }

    /// Before anything is made that a move to another management cluster would delete: `clusterctl move` makes the
    /// objects there and deletes them here, and with them the pods. The annotation is there as long as the object is:
    /// so long there may be pods.
    async fn block_move(&mut self) -> Result<(), Error> {
        if status::blocks_move(&self.read.object) {
            return Ok(());
        }
        let patch = json!({"metadata": {"annotations": {(meta::BLOCK_MOVE_ANNOTATION): ""}}});
        let key = ObjectKey::of(&self.read.object);
        self.read.object = self
            .client
            .patch::<HostedControlPlane, _>(&key, &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    async fn roots(&mut self) -> Result<Verdict, Error> {
        self.block_move().await?;
        let in_use = self.read.snapshot.roots_in_use(&self.read.object);
        for root in Root::ALL {
            let name = self.read.inputs.names.contract_secret(root.purpose());
            let state = judge_root(self.read.snapshot.secrets.get(&name), in_use, self.now);
            let material = self
                .root(name, state, in_use, |now| Material::make_root(root, now))
                .await?;
            self.roots.insert(root, material);
        }
        let name = self.read.inputs.names.contract_secret(SERVICE_ACCOUNT_PURPOSE);
        let state = judge_service_account(self.read.snapshot.secrets.get(&name), in_use);
        self.root(name, state, in_use, |_| Material::make_key_pair())
            .await?;
        Ok(Verdict::Ready)
    }

    async fn root(
        &self,
        secret: String,
        state: RootState,
        in_use: bool,
        make: impl FnOnce(Timestamp) -> Result<Material, crate::pki::CertificateError> + Send,
    ) -> Result<Material, Error> {
        match state {
            RootState::Good(material) => Ok(material),
            RootState::Absent => {
                let material = make(self.now)?;
                let metadata = self.read.inputs.metadata(secret, None);
                execute::store(self.client, &self.read.inputs, &material.root_secret(metadata)).await?;
                Ok(material)
            }
            RootState::Lost => Err(Error::Root {
                reason: Reason::CertificateAuthorityMissing,
                secret,
                problem: format!("it is gone: {RESTORE}"),
            }),
            RootState::Bad(problem) => Err(Error::Root {
                reason: Reason::CertificateInvalid,
                secret,
                problem: if in_use {
                    format!("{problem}: {RESTORE}")
                } else {
                    format!("{problem}: put it right, or delete the Secret and a new one is made")
                },
            }),
        }
    }

    async fn endpoint(&mut self) -> Result<Verdict, Error> {
        let service = execute::apply(
            self.client,
            &self.read.inputs,
            &exposure::service(&self.read.inputs),
        )
        .await?;
        let given = self.read.cluster.spec.control_plane_endpoint.as_ref();
        self.exposure = Exposure::of(&self.read.inputs, given, Some(&service));
        let field = self.exposure.to_field();
        if field.is_some() && field != self.read.inputs.spec.control_plane_endpoint {
            let patch = json!({"spec": {"controlPlaneEndpoint": field}});
            let key = ObjectKey::of(&self.read.object);
            self.read.object = self
                .client
                .patch::<HostedControlPlane, _>(&key, &Patch::Merge(patch))
                .await?;
            self.read.inputs.spec.control_plane_endpoint = field;
        }
        Ok(self.exposure.verdict())
    }

    async fn certificates(&mut self) -> Result<Verdict, Error> {
        for leaf in Leaf::ALL {
            if leaf.needs_endpoint() {
                continue;
            }
            let names = match leaf {
                Leaf::EtcdServer | Leaf::EtcdPeer => etcd::certificate_names(&self.read.inputs),
                _ => LeafNames::default(),
            };
            self.leaf(leaf, names).await?;
        }
        Ok(Verdict::Ready)
    }

    async fn leaf(&mut self, leaf: Leaf, names: LeafNames) -> Result<(), Error> {
        let profile = leaf.profile(names);
        let name = self.read.inputs.names.leaf_secret(leaf.name());
        let Some(root) = self.roots.get(&leaf.root()) else {
            return Ok(());
        };
        let present = self.read.snapshot.secrets.get(&name);
        let judged = judge_leaf(&profile, present, root, self.now, self.options.leaf_life);
        let (state, material) = match (judged.state, judged.material) {
            (LeafState::Good { renew_at }, Some(material)) => {
                self.remind(renew_at);
                self.leaves.insert(leaf, material);
                return Ok(());
            }
            (state, _) => (state, root.make_leaf(&profile, self.now, self.options.leaf_life)?),
        };
        let metadata = self.read.inputs.metadata(name.clone(), None);
        let secret = material.leaf_secret(metadata, present);
        execute::store(self.client, &self.read.inputs, &secret).await?;
        // At first there is none of any, which is no news.
        if state != LeafState::Absent || snapshot::is_initialized(&self.read.object) {
            self.notices.push(Notice {
                warning: false,
                reason: Reason::CertificateRenewed,
                action: "RenewCertificate",
                note: format!("renewed the certificate in Secret {name}: {}", cause(state)),
            });
        }
        // As the next pass will judge it.
        let next = judge_leaf(&profile, Some(&secret), root, self.now, self.options.leaf_life);
        if let LeafState::Good { renew_at } = next.state {
            self.remind(renew_at);
        }
        self.leaves.insert(leaf, material);
        Ok(())
    }

    pub(crate) fn remind(&mut self, at: i64) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    async fn kubeconfig(&mut self) -> Result<Verdict, Error> {
        let (Some((host, port)), Some(root), Some(admin)) = (
            &self.exposure.endpoint,
            self.roots.get(&Root::Cluster),
            self.leaves.get(&Leaf::Admin),
        ) else {
            return Ok(Verdict::Waiting(Why::new(
                Reason::WaitingForDependency,
                "waits for the endpoint",
            )));
        };
        let secret = components::admin_kubeconfig(&self.read.inputs, host, *port, root.certificate(), admin);
        execute::apply(self.client, &self.read.inputs, &secret).await?;
        Ok(Verdict::Ready)
    }

    async fn api_server(&mut self) -> Result<Verdict, Error> {
        let settings = self.settings(Component::ApiServer, self.targets.api_server.clone());
        let desired = components::api_server(&self.read.inputs, &settings, self.exposure.advertise());
        self.deploy(Component::ApiServer, desired, &settings).await
    }

    async fn follower(&mut self, component: Component) -> Result<Verdict, Error> {
        let version = match component {
            Component::Scheduler => self.targets.scheduler.clone(),
            _ => self.targets.controller_manager.clone(),
        };
        let settings = self.settings(component, version);
        let desired = match component {
            Component::Scheduler => components::scheduler(&self.read.inputs, &settings),
            _ => components::controller_manager(&self.read.inputs, &settings),
        };
        self.deploy(component, desired, &settings).await
    }

    fn settings(&mut self, component: Component, version: crate::version::Version) -> Settings {
        let after = self
            .read
            .inputs
            .spec
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.after.as_ref());
        let after = after.map(|after| after.0);
        if let Some(after) = after.filter(|after| *after > self.now) {
            self.remind(after.as_second().saturating_add(1));
        }
        let snapshot = &self.read.snapshot;
        let template = snapshot.deployments.get(&component).and_then(rollout::template);
        Settings {
            version,
            rollout: rollout::rollout_marker(
                after,
                template.and_then(rollout::template_rollout),
                snapshot.oldest_pod(component),
                self.now,
            ),
        }
    }

    async fn deploy(
        &mut self,
        component: Component,
        desired: Desired,
        settings: &Settings,
    ) -> Result<Verdict, Error> {
        let inputs = &self.read.inputs;
        if let Some(kubeconfig) = &desired.kubeconfig {
            execute::apply(self.client, inputs, kubeconfig).await?;
        }
        let deployment = execute::apply(self.client, inputs, &desired.deployment).await?;
        match &desired.budget {
            Some(budget) => {
                execute::apply(self.client, inputs, budget).await?;
            }
            None => execute::delete(self.client, inputs, self.read.snapshot.budgets.get(&component)).await?,
        }
        self.tell_overridden(component, desired.overridden);
        let rollout = Rollout::of_deployment(&deployment);
        let alone = rollout::all_run(&self.read.snapshot.pods, component, &settings.version);
        let why = Why::new(
            Reason::WaitingForReplicas,
            format!(
                "{} of {} replicas are updated, {} are available, there are {}",
                rollout.updated, rollout.desired, rollout.available, rollout.total
            ),
        );
        Ok(if rollout.is_complete() && alone {
            self.when_current(&settings.version, Verdict::Ready)
        } else if rollout.available >= 1 {
            Verdict::Usable(why)
        } else {
            Verdict::Waiting(why)
        })
    }

    /// The verdict, unless the version that runs is not yet the one that the spec asks for.
    pub(crate) fn when_current(&self, runs: &crate::version::Version, verdict: Verdict) -> Verdict {
        let wanted = &self.read.inputs.version;
        if runs == wanted {
            return verdict;
        }
        Verdict::Usable(match self.targets.held {
            Some(Held::Downgrade) => Why::new(
                Reason::InvalidSpec,
                format!("{runs} runs, and can't be downgraded to {wanted}"),
            ),
            Some(Held::Rollout) => Why::new(
                Reason::WaitingForRollout,
                format!("{runs} runs; {wanted} waits until that is complete everywhere"),
            ),
            None => Why::new(
                Reason::WaitingForDependency,
                format!("{runs} runs; {wanted} waits for what comes before"),
            ),
        })
    }

    pub(crate) fn tell_overridden(&mut self, component: Component, overridden: Vec<String>) {
        for name in overridden {
            self.notices.push(Notice {
                warning: true,
                reason: Reason::ArgumentOverridden,
                action: "SetArguments",
                note: format!(
                    "--{name} of {} is set by the controller; the spec's value is not used",
                    component.program()
                ),
            });
        }
    }

    /// Whether etcd's volumes have another size than the spec asks for.
    pub fn volume_differs(&self) -> bool {
        let wanted = etcd::volume_size(&self.read.inputs);
        self.read
            .snapshot
            .volume_size()
            .is_some_and(|size| quantity::units(&size) != quantity::units(&wanted))
    }
}

/// What to do about a root that is lost or spoilt.
const RESTORE: &str = "restore the Secret from a backup; the cluster would not trust a new one, so none is made, and \
                       until then no certificate is renewed";

const fn cause(state: LeafState) -> &'static str {
    match state {
        LeafState::Due => "a third of its life was left",
        LeafState::Ended => "its life was over",
        LeafState::Differs => "its names have changed",
        LeafState::OtherRoot => "its root has changed",
        LeafState::Absent => "it was gone",
        LeafState::Good { .. } | LeafState::Unreadable => "it could not be read",
    }
}
