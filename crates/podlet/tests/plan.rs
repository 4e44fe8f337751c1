//! Plans of pods: pure, from spec to processes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use clusterwright_podlet::image::Image;
use clusterwright_podlet::isolation::Entry;
use clusterwright_podlet::pod::{
    ContainerPlan, Facts, Hook, PodPlan, Refusal, RestartPolicy, VolumeAt, container,
};
use k8s_openapi::api::core::v1::Pod;

fn pod(text: &str) -> Pod {
    serde_saphyr::from_str(text).unwrap()
}

fn facts() -> Facts {
    let volume = |path: &str, read_only| VolumeAt {
        path: PathBuf::from(path),
        read_only,
    };
    Facts {
        address: [10, 244, 0, 7].into(),
        name_server: [10, 244, 0, 1].into(),
        domain: "cluster.local".to_owned(),
        root_at: PathBuf::from("/root-at"),
        volumes: [
            ("data".to_owned(), volume("/volumes/data", false)),
            ("keys".to_owned(), volume("/volumes/keys", true)),
        ]
        .into(),
    }
}

fn image() -> Image {
    Image {
        files: [("/usr/local/bin/etcd".to_owned(), PathBuf::from("/tools/etcd"))].into(),
        entrypoint: vec!["etcd".to_owned()],
        arguments: vec!["--help".to_owned()],
        user: 65532,
        directory: "/home".to_owned(),
        ..Image::default()
    }
}

fn planned(text: &str) -> Result<ContainerPlan, Refusal> {
    let pod = pod(text);
    let variables: BTreeMap<_, _> = [("POD_NAME".to_owned(), "etcd-0".to_owned())].into();
    let first = &pod.spec.as_ref().unwrap().containers[0];
    container(&pod, first, &image(), &variables, "/words".into(), &facts())
}

/// A container in a pod that says no more.
fn with(container: &str) -> Result<ContainerPlan, Refusal> {
    planned(&format!(
        "{{metadata: {{name: etcd-0, namespace: ns}}, spec: {{containers: [{container}]}}}}"
    ))
}

fn file(plan: &ContainerPlan, wanted: &str) -> String {
    let found = plan.root.entries.iter().find_map(|entry| match entry {
        Entry::File { path, content, .. } if path == wanted => Some(content.clone()),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn what_reaches_beyond_a_pod_is_refused_with_its_field() {
    let cases = [
        ("hostNetwork: true", "spec.hostNetwork"),
        ("hostPID: true", "spec.hostPID"),
        ("hostIPC: true", "spec.hostIPC"),
        ("shareProcessNamespace: true", "spec.shareProcessNamespace"),
        (
            "securityContext: {sysctls: [{name: a, value: b}]}",
            "spec.securityContext.sysctls",
        ),
        (
            "volumes: [{name: v, emptyDir: {}}, {name: w, hostPath: {path: /}}]",
            "spec.volumes[1] (w)",
        ),
        (
            "volumes: [{name: v, nfs: {path: /, server: s}}]",
            "spec.volumes[0] (v)",
        ),
        (
            "initContainers: [{name: i, restartPolicy: Always}]",
            "spec.initContainers[0] (i).restartPolicy",
        ),
    ];
    for (field, refused) in cases {
        let text = format!("{{metadata: {{name: a}}, spec: {{containers: [{{name: c}}], {field}}}}}");
        assert_eq!(PodPlan::new(&pod(&text)).unwrap_err().field, refused);
    }
    let cases = [
        (
            "securityContext: {privileged: true}",
            "securityContext.privileged",
        ),
        (
            "securityContext: {procMount: Unmasked}",
            "securityContext.procMount",
        ),
        ("volumeDevices: [{name: v, devicePath: /dev/x}]", "volumeDevices"),
        ("resources: {limits: {example.com/gpu: '1'}}", "resources.limits"),
        ("resources: {claims: [{name: gpu}]}", "resources.claims"),
        ("ports: [{containerPort: 1, hostPort: 1}]", "ports"),
        (
            "volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]",
            "volumeMounts",
        ),
    ];
    for (field, refused) in cases {
        let text = format!("{{metadata: {{name: a}}, spec: {{containers: [{{name: c, {field}}}]}}}}");
        let field = PodPlan::new(&pod(&text)).unwrap_err().field;
        assert_eq!(field, format!("spec.containers[0] (c).{refused}"));
    }
}

#[test]
fn a_pods_plan() {
    let plan = PodPlan::new(&pod("
        metadata: {name: etcd-0}
        spec:
          restartPolicy: OnFailure
          terminationGracePeriodSeconds: 5
          initContainers: [{name: i}]
          containers: [{name: a, resources: {limits: {cpu: '1', memory: 1Gi}}}, {name: b}]
        "))
    .unwrap();
    assert_eq!(plan.hostname, "etcd-0");
    assert_eq!(plan.restart, RestartPolicy::OnFailure);
    assert_eq!(plan.grace.as_secs(), 5);
    assert_eq!(
        (plan.init, plan.containers),
        (vec!["i".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
    let plan = PodPlan::new(&pod(
        "{metadata: {name: n}, spec: {hostname: h, containers: [{name: a}]}}",
    ))
    .unwrap();
    assert_eq!((plan.hostname.as_str(), plan.grace.as_secs()), ("h", 30));
}

#[test]
fn commands_and_arguments_win_over_the_images() {
    let cases = [
        ("", vec!["etcd", "--help"]),
        ("args: ['--name=$(POD_NAME)']", vec!["etcd", "--name=etcd-0"]),
        ("command: [sh]", vec!["sh"]),
        (
            "command: [sh], args: ['$$(A)', '$(B)']",
            vec!["sh", "$(A)", "$(B)"],
        ),
        ("command: [], args: []", vec!["etcd", "--help"]),
    ];
    for (fields, expected) in cases {
        let plan = with(&format!("{{name: c, {fields}}}")).unwrap();
        assert_eq!(plan.process.argv, expected, "{fields}");
    }
    assert_eq!(with("{name: c}").unwrap().process.directory, "/home");
    assert_eq!(with("{name: c, workingDir: /w}").unwrap().process.directory, "/w");
}

#[test]
fn users_groups_and_capabilities() {
    let plan = planned(
        "
        metadata: {name: p}
        spec:
          securityContext: {runAsUser: 1, runAsGroup: 2, fsGroup: 3, supplementalGroups: [4], runAsNonRoot: true}
          containers:
          - name: c
            securityContext:
              runAsUser: 5
              allowPrivilegeEscalation: false
              capabilities: {drop: [ALL], add: [CAP_NET_BIND_SERVICE]}
        ",
    )
    .unwrap();
    let process = &plan.process;
    assert_eq!(
        (process.user, process.group, process.groups.as_slice()),
        (5, 2, [4, 3].as_slice())
    );
    assert_eq!(process.capabilities, ["NET_BIND_SERVICE"]);
    assert!(process.no_new_privileges);
    assert!(file(&plan, "/etc/passwd").contains("user:x:5:2:"));

    let plan = with("{name: c, securityContext: {capabilities: {drop: [CHOWN]}}}").unwrap();
    assert_eq!(plan.process.user, 65532);
    assert!(!plan.process.no_new_privileges);
    assert_eq!(plan.process.capabilities.len(), 13);
    assert!(!plan.process.capabilities.contains(&"CHOWN".to_owned()));

    let root = with("{name: c, securityContext: {runAsUser: 0, runAsNonRoot: true}}").unwrap_err();
    assert_eq!(root.why, "container has runAsNonRoot and image will run as root");
    with("{name: c, securityContext: {capabilities: {add: [ALL]}}}").unwrap_err();
}

#[test]
fn mounts_that_hold_others_come_first() {
    let plan = with(
        "
        {name: c, securityContext: {readOnlyRootFilesystem: true}, terminationMessagePath: /words, volumeMounts: [
          {name: keys, mountPath: /a/b/c},
          {name: data, mountPath: /a/, subPathExpr: 'of/$(POD_NAME)'},
          {name: data, mountPath: z, readOnly: true, subPath: s}]}
        ",
    )
    .unwrap();
    let binds: Vec<_> = plan
        .root
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Bind {
                path,
                source,
                below,
                read_only,
            } => Some((
                path.as_str(),
                source.to_str().unwrap(),
                below.as_deref(),
                *read_only,
            )),
            _ => None,
        })
        .collect();
    assert_eq!(
        binds,
        [
            ("/usr/local/bin/etcd", "/tools/etcd", None, true),
            ("/words", "/words", None, false),
            ("/a", "/volumes/data", Some("of/etcd-0"), false),
            ("/z", "/volumes/data", Some("s"), true),
            ("/a/b/c", "/volumes/keys", None, true),
        ]
    );
    assert!(plan.root.read_only);
    assert_eq!(plan.root.at, PathBuf::from("/root-at"));
    let missing = with("{name: c, volumeMounts: [{name: none, mountPath: /x}]}").unwrap_err();
    assert_eq!(
        missing.to_string(),
        "container c: volumeMounts (/x): there is no volume \"none\""
    );
}

#[test]
fn names_are_resolved_as_the_pod_says() {
    let resolver = |fields: &str| {
        let text = format!(
            "{{metadata: {{name: p, namespace: ns}}, spec: {{containers: [{{name: c}}], {fields}}}}}"
        );
        let plan = planned(&text).unwrap();
        (file(&plan, "/etc/resolv.conf"), file(&plan, "/etc/hosts"))
    };
    let (conf, hosts) = resolver("subdomain: peers, hostAliases: [{ip: 1.2.3.4, hostnames: [a, b]}]");
    let search = "search ns.svc.cluster.local svc.cluster.local cluster.local\n";
    assert_eq!(conf, format!("{search}nameserver 10.244.0.1\noptions ndots:5\n"));
    assert!(
        hosts.contains("10.244.0.7\tp.peers.ns.svc.cluster.local\tp\n1.2.3.4\ta\tb\n"),
        "{hosts}"
    );
    let (conf, _) =
        resolver("dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1], options: [{name: edns0}]}");
    assert_eq!(conf, "nameserver 1.1.1.1\noptions edns0\n");
    let (conf, _) = resolver("dnsConfig: {searches: [x], options: [{name: ndots, value: '1'}]}");
    assert!(
        conf.contains("cluster.local x\n") && conf.ends_with("options ndots:1\n"),
        "{conf}"
    );
}

#[test]
fn hooks_and_last_words() {
    let plan = with(
        "{name: c, lifecycle: {preStop: {sleep: {seconds: 3}}}, terminationMessagePolicy: FallbackToLogsOnError}",
    );
    let plan = plan.unwrap();
    assert!(matches!(plan.pre_stop, Some(Hook::Sleep(time)) if time.as_secs() == 3));
    assert!(plan.last_words_from_log);
    let refused = with("{name: c, lifecycle: {preStop: {httpGet: {port: 1}}}}").unwrap_err();
    assert!(refused.field.contains("preStop"));
}
