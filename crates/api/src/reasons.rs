//! Reasons. One word stands in three places: the reason of the condition, the reason of the Event and the label
//! of the metric that counts the error.

use crate::words::words;

words! {
    /// Why a condition of a `HostedControlPlane` is as it is, or why an Event was sent.
    Reason {
        // Positive and neutral.
        /// The control plane works.
        Available = "Available",
        /// The part is as the spec wants it.
        Ready = "Ready",
        /// Nothing is being replaced.
        NotRollingOut = "NotRollingOut",
        /// Pods are being replaced.
        RollingOut = "RollingOut",
        /// There are as many API servers as wanted, or more.
        NotScalingUp = "NotScalingUp",
        /// API servers are being added.
        ScalingUp = "ScalingUp",
        /// There are as many API servers as wanted, or fewer.
        NotScalingDown = "NotScalingDown",
        /// API servers are being taken away.
        ScalingDown = "ScalingDown",
        /// The control plane's pods and volumes are in this management cluster, and would be deleted by a move.
        PodsInManagementCluster = "PodsInManagementCluster",
        /// Reconciliation goes on.
        NotPaused = "NotPaused",
        /// Reconciliation is stopped.
        Paused = "Paused",
        /// The object is not being deleted.
        NotDeleting = "NotDeleting",
        /// No field is set that this release does not act on.
        AllFieldsSupported = "AllFieldsSupported",
        /// Fields are set that this release keeps but does not act on.
        FieldsNotSupported = "FieldsNotSupported",

        // Waiting.
        /// The part waits for another one that is not ready.
        WaitingForDependency = "WaitingForDependency",
        /// No Cluster has taken the object as its own yet.
        WaitingForCluster = "WaitingForCluster",
        /// The load balancer has no address yet.
        WaitingForLoadBalancer = "WaitingForLoadBalancer",
        /// Members of etcd are not ready yet.
        WaitingForEtcdMembers = "WaitingForEtcdMembers",
        /// Members of etcd are being added or removed.
        EtcdMembersChanging = "EtcdMembersChanging",
        /// Replicas are not ready yet.
        WaitingForReplicas = "WaitingForReplicas",
        /// The version waits until every API server runs the new one.
        WaitingForAPIServers = "WaitingForAPIServers",
        /// The next version waits until the change to the one before is complete.
        WaitingForRollout = "WaitingForRollout",
        /// Something that the control plane needs is missing; the message names it.
        NotAvailable = "NotAvailable",

        // What keeps pods from starting.
        /// A pod does not get its image; the message names both.
        ImagePullFailed = "ImagePullFailed",
        /// A program ended, or can't be started; the message has its last words.
        ContainerFailed = "ContainerFailed",
        /// No node takes a pod; the message says what nodes lack.
        PodUnschedulable = "PodUnschedulable",
        /// A pod that worked runs on but is not ready any more.
        PodUnhealthy = "PodUnhealthy",
        /// A member of etcd was added, got its vote, handed over the lead or was removed.
        EtcdMembersChanged = "EtcdMembersChanged",

        // Deletion, in its order.
        /// Controller manager, scheduler and API servers are going.
        DeletingAPIServers = "DeletingAPIServers",
        /// etcd is going.
        DeletingEtcd = "DeletingEtcd",
        /// Volume claims, Secrets and Services are going.
        DeletingStorageAndSecrets = "DeletingStorageAndSecrets",

        // Errors.
        /// A root or a key that the cluster depends on has gone; making a new one would cut the cluster off.
        CertificateAuthorityMissing = "CertificateAuthorityMissing",
        /// A Secret of the PKI holds no usable certificate or key.
        CertificateInvalid = "CertificateInvalid",
        /// A certificate could not be made.
        CertificateFailed = "CertificateFailed",
        /// A leaf certificate was made anew before its end, or for other names.
        CertificateRenewed = "CertificateRenewed",
        /// The data of a majority of etcd's members is gone, or etcd has members that are none of ours.
        EtcdQuorumLost = "EtcdQuorumLost",
        /// A running etcd could not be asked for its members.
        EtcdUnreachable = "EtcdUnreachable",
        /// An argument given in the spec is one that the controller sets itself.
        ArgumentOverridden = "ArgumentOverridden",
        /// The spec holds a value that can't be acted on; the message names it.
        InvalidSpec = "InvalidSpec",
        /// The Cluster holds a value that can't be acted on; the message names it.
        InvalidCluster = "InvalidCluster",
        /// An object of the needed name is controlled by another.
        AlreadyOwned = "AlreadyOwned",
        /// The management cluster's API refused or failed a request.
        RequestFailed = "RequestFailed",
    }
}
