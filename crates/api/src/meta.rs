//! The names that Cluster API's contract and this project put on objects: labels, annotations, finalizers,
//! types of Secrets.

/// Label: the name of the Cluster that an object belongs to (Cluster API).
pub const CLUSTER_NAME_LABEL: &str = "cluster.x-k8s.io/cluster-name";
/// Label: which instance of a provider is to reconcile an object; compared with `--watch-filter` (Cluster API).
pub const WATCH_FILTER_LABEL: &str = "cluster.x-k8s.io/watch-filter";
/// Annotation: stops reconciliation of the object that carries it, whatever its value (Cluster API).
pub const PAUSED_ANNOTATION: &str = "cluster.x-k8s.io/paused";
/// Annotation: while an object carries it, whatever its value, `clusterctl move` moves nothing (clusterctl).
pub const BLOCK_MOVE_ANNOTATION: &str = "clusterctl.cluster.x-k8s.io/block-move";
/// Type of the Secrets of Cluster API's contract: certificates and kubeconfigs.
pub const CLUSTER_SECRET_TYPE: &str = "cluster.x-k8s.io/secret";
/// Label of CRDs: the versions of that CRD that keep Cluster API's v1beta2 contract, joined with `_`.
pub const CONTRACT_LABEL: &str = "cluster.x-k8s.io/v1beta2";
/// Label of CRDs: the provider that a CRD belongs to (clusterctl).
pub const PROVIDER_LABEL: &str = "cluster.x-k8s.io/provider";

/// Label: which part of a control plane an object is (`kube-apiserver`, `etcd`, …).
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Label: who manages an object; its value is [`MANAGER`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`] on every object that a controller of this project makes.
pub const MANAGER: &str = "clusterwright";

/// Annotation of pods: the Kubernetes version that they run, with its `v`.
pub const VERSION_ANNOTATION: &str = "clusterwright.dev/kubernetes-version";

/// Finalizer of a `HostedControlPlane`: held until nothing of the control plane is left.
pub const HOSTED_CONTROL_PLANE_FINALIZER: &str = "hcp.controlplane.cluster.x-k8s.io";
/// Annotation of pods: the `spec.rollout.after` that they were replaced for.
pub const ROLLOUT_ANNOTATION: &str = "clusterwright.dev/rollout-after";
/// Annotation of pods: a hash of the kubeconfig that they started with, which programs don't read again.
pub const KUBECONFIG_ANNOTATION: &str = "clusterwright.dev/kubeconfig-hash";
