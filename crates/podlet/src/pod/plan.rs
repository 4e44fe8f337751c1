//! From a pod's spec to what runs. Pure: nothing is looked up, started or written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod, PodSpec, Volume, VolumeMount};

use super::plan_files::{hosts, resolver, users};
use crate::environment::expand;
use crate::image::Image;
use crate::isolation::{Entry, Process, Root};
use crate::probe::Probes;

/// What a container's file system may hold besides volumes: it is in memory.
const ROOT_SIZE: u64 = 256 << 20;
/// Where containers leave their last words if they don't say.
const LAST_WORDS: &str = "/dev/termination-log";
/// What kubelets grant if the pod doesn't say.
const GRACE: Duration = Duration::from_secs(30);
/// What container runtimes grant root.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Where programs are looked for if neither image nor container says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a pod, or a container, is not run here. It never will be, however often it is tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Refusal {
    /// The field of the spec.
    pub field: String,
    /// Why, and the way out.
    pub why: String,
}

impl Refusal {
    fn of(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            why: why.into(),
        }
    }
}

/// What is the same for all containers of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// The host name.
    pub hostname: String,
    /// When containers are started again.
    pub restart: RestartPolicy,
    /// How long a pod may take to end.
    pub grace: Duration,
    /// Init containers' names, in order.
    pub init: Vec<String>,
    /// Containers' names, in order.
    pub containers: Vec<String>,
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// However it ended.
    Always,
    /// If it failed.
    OnFailure,
    /// Not.
    Never,
}

impl RestartPolicy {
    /// What a spec says.
    pub fn of(spec: &PodSpec) -> Self {
        match spec.restart_policy.as_deref() {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }
}

/// What the podlet knows of a pod besides its spec.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// Where names are asked for.
    pub name_server: Ipv4Addr,
    /// The cluster's domain.
    pub domain: String,
    /// An empty folder to build roots at.
    pub root_at: PathBuf,
    /// Where the pod's volumes are, by name.
    pub volumes: BTreeMap<String, VolumeAt>,
}

/// A volume of a pod's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeAt {
    /// The folder.
    pub path: PathBuf,
    /// Whether no container may write to it.
    pub read_only: bool,
}

/// What a container is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPlan {
    /// Its file system.
    pub root: Root,
    /// Its first process.
    pub process: Process,
    /// Whether it has started, is alive, is ready.
    pub probes: Probes,
    /// What is run as soon as it has been started, which it is only when that has ended well.
    pub post_start: Option<Hook>,
    /// What is run before it is ended.
    pub pre_stop: Option<Hook>,
    /// Where on this machine it leaves its last words.
    pub last_words: PathBuf,
    /// Whether its log stands in for last words that it did not leave.
    pub last_words_from_log: bool,
}

/// What is done after a container has been started, or before it is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A command in the container.
    Command(Vec<String>),
    /// A wait.
    Sleep(Duration),
}

impl PodPlan {
    /// Plans a pod.
    ///
    /// # Errors
    /// If it asks for what the podlet refuses.
    pub fn new(pod: &Pod) -> Result<Self, Refusal> {
        pod.spec.as_ref().map_or(Ok(()), refused)?;
        Ok(Self::of_names(pod))
    }

    /// The plan of a pod that may be refused, which has the names at least.
    pub(crate) fn of_names(pod: &Pod) -> Self {
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let names = |containers: &[Container]| {
            containers
                .iter()
                .map(|container| container.name.clone())
                .collect()
        };
        Self {
            hostname: hostname(pod),
            restart: RestartPolicy::of(spec),
            grace: spec.termination_grace_period_seconds.map_or(GRACE, |seconds| {
                Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
            }),
            init: names(spec.init_containers.as_deref().unwrap_or_default()),
            containers: names(&spec.containers),
        }
    }
}

/// The host name that a pod sees.
fn hostname(pod: &Pod) -> String {
    let given = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let mut name = given.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    // The kernel takes no more, and a name may not end like that.
    name.truncate(63);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// What would reach beyond the pod, or is not there.
fn refused(spec: &PodSpec) -> Result<(), Refusal> {
    const MACHINE: &str = "the podlet's pods have no part of the machine that they run on";
    for (field, given) in [
        ("spec.hostNetwork", spec.host_network),
        ("spec.hostPID", spec.host_pid),
        ("spec.hostIPC", spec.host_ipc),
    ] {
        if given == Some(true) {
            return Err(Refusal::of(field, MACHINE));
        }
    }
    if spec.share_process_namespace == Some(true) {
        let why = "each container of the podlet's is the first process of its own namespace";
        return Err(Refusal::of("spec.shareProcessNamespace", why));
    }
    let security = spec.security_context.as_ref();
    if security
        .and_then(|security| security.sysctls.as_ref())
        .is_some_and(|sysctls| !sysctls.is_empty())
    {
        return Err(Refusal::of("spec.securityContext.sysctls", MACHINE));
    }
    for (at, volume) in spec.volumes.iter().flatten().enumerate() {
        refused_volume(volume)
            .map_err(|why| Refusal::of(format!("spec.volumes[{at}] ({})", volume.name), why))?;
    }
    let lists = [
        (
            "initContainers",
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
        ("containers", spec.containers.as_slice()),
    ];
    for (list, containers) in lists {
        for (at, container) in containers.iter().enumerate() {
            let field = format!("spec.{list}[{at}] ({})", container.name);
            if list == "initContainers" && container.restart_policy.as_deref() == Some("Always") {
                let why = "the podlet runs init containers to their end; make it one of spec.containers";
                return Err(Refusal::of(format!("{field}.restartPolicy"), why));
            }
            refused_container(container, &field)?;
        }
    }
    Ok(())
}

fn refused_volume(volume: &Volume) -> Result<(), &'static str> {
    if volume.host_path.is_some() {
        return Err("hostPath is refused: what a pod writes to the machine would outlive it; use a claim");
    }
    let known = volume.empty_dir.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
        || volume.persistent_volume_claim.is_some();
    if known {
        Ok(())
    } else {
        Err(
            "the podlet has emptyDir, configMap, secret, projected, downwardAPI and persistentVolumeClaim only",
        )
    }
}

fn refused_container(container: &Container, field: &str) -> Result<(), Refusal> {
    let refuse = |what: &str, why: &str| Err(Refusal::of(format!("{field}.{what}"), why));
    if let Some(security) = &container.security_context {
        if security.privileged == Some(true) {
            return refuse(
                "securityContext.privileged",
                "the podlet runs nothing with rights over the machine",
            );
        }
        if security.proc_mount.as_deref() == Some("Unmasked") {
            return refuse(
                "securityContext.procMount",
                "the machine's part of /proc stays hidden",
            );
        }
    }
    if container
        .volume_devices
        .as_ref()
        .is_some_and(|devices| !devices.is_empty())
    {
        return refuse("volumeDevices", "the podlet has no devices");
    }
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    if let Some(device) = limits
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .find(|name| name.contains('/'))
    {
        return refuse("resources.limits", &format!("the podlet has no device {device}"));
    }
    if resources
        .and_then(|resources| resources.claims.as_ref())
        .is_some_and(|claims| !claims.is_empty())
    {
        return refuse("resources.claims", "the podlet has no devices");
    }
    if container
        .ports
        .iter()
        .flatten()
        .any(|port| port.host_port.is_some_and(|port| port != 0))
    {
        return refuse(
            "ports",
            "hostPort is refused: a Service of type LoadBalancer leads to a pod from this machine",
        );
    }
    for mount in container.volume_mounts.iter().flatten() {
        if mount.mount_propagation.as_deref() == Some("Bidirectional") {
            return refuse("volumeMounts", "mounts of a pod do not reach the machine");
        }
    }
    Ok(())
}

/// Plans a container of a pod that [`PodPlan::new`] takes, with what has been found for it.
///
/// # Errors
/// If it asks for what the podlet refuses.
pub fn container(
    pod: &Pod,
    container: &Container,
    image: &Image,
    variables: &BTreeMap<String, String>,
    last_words: PathBuf,
    facts: &Facts,
) -> Result<ContainerPlan, Refusal> {
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let mut process = identity(spec, container, image)?;
    let mut env = image.environment.clone();
    env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
    env.insert("HOSTNAME".to_owned(), hostname(pod));
    env.extend(variables.clone());
    process.argv = command(container, image, &env)?;
    process.directory = match container.working_dir.as_deref() {
        None | Some("") => image.directory.clone(),
        Some(directory) => directory.to_owned(),
    };
    let mut entries = image.entries();
    let file = |path: &str, content: String| Entry::File {
        path: path.to_owned(),
        content,
        mode: 0o644,
    };
    entries.extend([
        file("/etc/hostname", format!("{}\n", hostname(pod))),
        file("/etc/hosts", hosts(pod, spec, &hostname(pod), facts)),
        file("/etc/resolv.conf", resolver(pod, spec, facts)),
        file("/etc/nsswitch.conf", "hosts: files dns\n".to_owned()),
    ]);
    entries.extend(users(process.user, process.group).map(|(path, content)| file(path, content)));
    let words_at = container
        .termination_message_path
        .as_deref()
        .unwrap_or(LAST_WORDS);
    entries.push(Entry::Bind {
        path: words_at.to_owned(),
        source: last_words.clone(),
        below: None,
        read_only: false,
    });
    entries.extend(mounts(container, &env, facts)?);
    let security = container.security_context.as_ref();
    process.env = env;
    let lifecycle = container.lifecycle.clone().unwrap_or_default();
    let hook = |of: Option<LifecycleHandler>, field| of.map(|of| hook(&of, field, container)).transpose();
    Ok(ContainerPlan {
        root: Root {
            at: facts.root_at.clone(),
            size: ROOT_SIZE,
            read_only: security.and_then(|security| security.read_only_root_filesystem) == Some(true),
            entries,
        },
        process,
        probes: Probes::of(container),
        post_start: hook(lifecycle.post_start, "postStart")?,
        pre_stop: hook(lifecycle.pre_stop, "preStop")?,
        last_words,
        last_words_from_log: container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"),
    })
}

fn hook(hook: &LifecycleHandler, field: &str, container: &Container) -> Result<Hook, Refusal> {
    if let Some(exec) = &hook.exec {
        return Ok(Hook::Command(exec.command.clone().unwrap_or_default()));
    }
    if let Some(sleep) = &hook.sleep {
        return Ok(Hook::Sleep(Duration::from_secs(
            u64::try_from(sleep.seconds).unwrap_or_default(),
        )));
    }
    let field = format!("container {}: lifecycle.{field}", container.name);
    Err(Refusal::of(field, "the podlet runs exec and sleep only"))
}

/// The command line, with variables put in.
fn command(
    container: &Container,
    image: &Image,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<String>, Refusal> {
    let given = |words: &Option<Vec<String>>| words.clone().filter(|words| !words.is_empty());
    let (command, arguments) = match (given(&container.command), given(&container.args)) {
        (Some(command), arguments) => (command, arguments.unwrap_or_default()),
        (None, Some(arguments)) => (image.entrypoint.clone(), arguments),
        (None, None) => (image.entrypoint.clone(), image.arguments.clone()),
    };
    let argv: Vec<String> = command
        .iter()
        .chain(&arguments)
        .map(|word| expand(word, variables))
        .collect();
    if argv.is_empty() {
        let why = "neither the container nor its image gives a command";
        return Err(Refusal::of(format!("container {}: command", container.name), why));
    }
    Ok(argv)
}

/// Who the process is, and what it may do.
fn identity(spec: &PodSpec, container: &Container, image: &Image) -> Result<Process, Refusal> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let id = |given: Option<i64>, field: &str| match given.map(u32::try_from) {
        None => Ok(None),
        Some(Ok(id)) => Ok(Some(id)),
        Some(Err(_)) => Err(Refusal::of(
            format!("container {}: securityContext.{field}", container.name),
            "no such number",
        )),
    };
    let user = id(own.run_as_user.or(pod.run_as_user), "runAsUser")?.unwrap_or(image.user);
    let group = id(own.run_as_group.or(pod.run_as_group), "runAsGroup")?.unwrap_or_default();
    if user == 0 && own.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        return Err(Refusal::of(
            format!("container {}: securityContext.runAsNonRoot", container.name),
            "container has runAsNonRoot and image will run as root",
        ));
    }
    let mut groups = Vec::new();
    for extra in pod.supplemental_groups.into_iter().flatten().chain(pod.fs_group) {
        groups.extend(id(Some(extra), "supplementalGroups")?);
    }
    let mut capabilities: BTreeSet<String> = CAPABILITIES.map(str::to_owned).into();
    let changes = own.capabilities.unwrap_or_default();
    let plain = |name: &String| name.trim_start_matches("CAP_").to_uppercase();
    for dropped in changes.drop.iter().flatten().map(plain) {
        if dropped == "ALL" {
            capabilities.clear();
        } else {
            capabilities.remove(&dropped);
        }
    }
    for added in changes.add.iter().flatten().map(plain) {
        if added == "ALL" {
            return Err(Refusal::of(
                format!("container {}: securityContext.capabilities.add", container.name),
                "ALL is refused as privileged is: name those that it needs",
            ));
        }
        capabilities.insert(added);
    }
    Ok(Process {
        user,
        group,
        groups,
        capabilities: capabilities.into_iter().collect(),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        ..Process::default()
    })
}

/// The volumes that a container mounts, those that hold others first.
fn mounts(
    container: &Container,
    variables: &BTreeMap<String, String>,
    facts: &Facts,
) -> Result<Vec<Entry>, Refusal> {
    let mut mounts: Vec<&VolumeMount> = container.volume_mounts.iter().flatten().collect();
    mounts.sort_by_key(|mount| {
        mount
            .mount_path
            .split('/')
            .filter(|part| !part.is_empty())
            .count()
    });
    let entry = |mount: &VolumeMount| {
        let field = format!(
            "container {}: volumeMounts ({})",
            container.name, mount.mount_path
        );
        let Some(volume) = facts.volumes.get(&mount.name) else {
            return Err(Refusal::of(field, format!("there is no volume {:?}", mount.name)));
        };
        let below = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) if !path.is_empty() => Some(path.clone()),
            (_, Some(text)) if !text.is_empty() => Some(expand(text, variables)),
            _ => None,
        };
        Ok(Entry::Bind {
            // Some write it relative.
            path: format!("/{}", mount.mount_path.trim_matches('/')),
            source: volume.path.clone(),
            below,
            read_only: volume.read_only || mount.read_only == Some(true),
        })
    };
    mounts.into_iter().map(entry).collect()
}
