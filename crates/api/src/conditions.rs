//! Types of conditions. A word here is part of the API: users wait for it and build alerts on it.

use crate::words::words;

words! {
    /// A condition of a `HostedControlPlane`.
    HostedControlPlaneCondition {
        /// The control plane answers requests and works: endpoint, etcd's quorum and at least one of each of API
        /// server, controller manager and scheduler. Mirrored by Cluster API to the Cluster's
        /// `ControlPlaneAvailable`.
        Available = "Available",
        /// Everything that the spec asks for is there and up to date.
        Ready = "Ready",
        /// The roots, the service account's key pair and every leaf certificate are there and valid.
        CertificatesAvailable = "CertificatesAvailable",
        /// The address of the API server is known and in `spec.controlPlaneEndpoint`.
        EndpointReady = "EndpointReady",
        /// etcd has its quorum.
        EtcdClusterAvailable = "EtcdClusterAvailable",
        /// Every API server runs the wanted version and is ready.
        APIServerReady = "APIServerReady",
        /// The controller manager runs the wanted version and is ready.
        ControllerManagerReady = "ControllerManagerReady",
        /// The scheduler runs the wanted version and is ready.
        SchedulerReady = "SchedulerReady",
        /// The Secret with the administrator's kubeconfig is there and up to date.
        KubeconfigReady = "KubeconfigReady",
        /// Pods are being replaced.
        RollingOut = "RollingOut",
        /// There are fewer API servers than wanted.
        ScalingUp = "ScalingUp",
        /// There are more API servers than wanted.
        ScalingDown = "ScalingDown",
        /// Fields of the spec are set that this release keeps but does not act on; the message names them.
        FieldsNotSupported = "FieldsNotSupported",
        /// The annotation `clusterctl.cluster.x-k8s.io/block-move` keeps `clusterctl move` from deleting what runs
        /// here.
        MoveBlocked = "MoveBlocked",
        /// Reconciliation is stopped by the Cluster's `spec.paused` or the annotation.
        Paused = "Paused",
        /// The control plane is being deleted; the message says what is waited for.
        Deleting = "Deleting",
    }
}

words! {
    /// A condition of a `Cluster` that a controller of this project sets where Cluster API's core manager does
    /// not run.
    ClusterCondition {
        /// The whole cluster is usable.
        Available = "Available",
        /// The control plane has answered its first request.
        ControlPlaneInitialized = "ControlPlaneInitialized",
        /// The control plane's own `Available`.
        ControlPlaneAvailable = "ControlPlaneAvailable",
        /// Reconciliation is stopped.
        Paused = "Paused",
        /// The cluster is being deleted.
        Deleting = "Deleting",
    }
}
