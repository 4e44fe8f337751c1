//! The files that a container finds in `/etc`, as a kubelet and container images give them.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::plan::Facts;

/// Names that are known without asking.
pub fn hosts(pod: &Pod, spec: &PodSpec, hostname: &str, facts: &Facts) -> String {
    let mut names = vec![hostname.to_owned()];
    if let Some(subdomain) = spec.subdomain.as_deref().filter(|name| !name.is_empty()) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        names.insert(
            0,
            format!("{hostname}.{subdomain}.{namespace}.svc.{}", facts.domain),
        );
    }
    let aliases = spec.host_aliases.iter().flatten().map(|alias| {
        let names = alias.hostnames.clone().unwrap_or_default();
        format!("{}\t{}", alias.ip, names.join("\t"))
    });
    let own = format!("{}\t{}", facts.address, names.join("\t"));
    let fixed = [
        "127.0.0.1\tlocalhost".to_owned(),
        "::1\tlocalhost".to_owned(),
        own,
    ];
    lines(fixed.into_iter().chain(aliases))
}

/// Where other names are asked for.
pub fn resolver(pod: &Pod, spec: &PodSpec, facts: &Facts) -> String {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = &facts.domain;
    let (mut servers, mut searches, mut options) = match spec.dns_policy.as_deref() {
        Some("None") => (Vec::new(), Vec::new(), Vec::new()),
        Some("Default") => (vec![facts.name_server.to_string()], Vec::new(), Vec::new()),
        _ => (
            vec![facts.name_server.to_string()],
            vec![
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.clone(),
            ],
            vec!["ndots:5".to_owned()],
        ),
    };
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.iter().flatten().cloned());
        searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            options.retain(|given: &String| given.split(':').next() != Some(name.as_str()));
            options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    let search = (!searches.is_empty()).then(|| format!("search {}", searches.join(" ")));
    let options = (!options.is_empty()).then(|| format!("options {}", options.join(" ")));
    let servers = servers.into_iter().map(|server| format!("nameserver {server}"));
    lines(search.into_iter().chain(servers).chain(options))
}

/// The users and groups that programs look up.
pub fn users(user: u32, group: u32) -> [(&'static str, String); 2] {
    let passwd = [
        Some("root:x:0:0:root:/root:/sbin/nologin".to_owned()),
        (user != 0).then(|| format!("user:x:{user}:{group}:user:/:/sbin/nologin")),
    ];
    let groups = [
        Some("root:x:0:".to_owned()),
        (group != 0).then(|| format!("user:x:{group}:")),
    ];
    [
        ("/etc/passwd", lines(passwd.into_iter().flatten())),
        ("/etc/group", lines(groups.into_iter().flatten())),
    ]
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect::<Vec<_>>().concat()
}
