//! Which user a process is, and what it may do.

use std::fs;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::wire::Process;
use super::{Doing, Failure, unshare};

/// One user and one group of a user namespace, and what they are outside of it. More than one can't be mapped without
/// root.
pub struct Mapping {
    pub user: u32,
    pub group: u32,
    pub outer_user: u32,
    pub outer_group: u32,
}

impl Mapping {
    /// Gives the user namespace that this process has just made its users.
    pub fn write(&self) -> Result<(), Failure> {
        let write = |file: &str, content: String| {
            let path = format!("/proc/self/{file}");
            fs::write(&path, content).doing(|| format!("write {path}"))
        };
        // Or a process could leave a group that keeps it from a file.
        write("setgroups", "deny".to_owned())?;
        write("uid_map", format!("{} {} 1", self.user, self.outer_user))?;
        write("gid_map", format!("{} {} 1", self.group, self.outer_group))
    }
}

/// Whether this process is in a user namespace that knows a single user.
fn single_user() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let mut words = map.split_whitespace().skip(2);
        words.next() == Some("1") && words.next().is_none()
    })
}

/// Becomes the user, and gives up every capability that the process is not to have.
pub fn assume(process: &Process) -> Result<(), Failure> {
    let user = Uid::from_raw(process.user);
    let group = Gid::from_raw(process.group);
    let wanted = capabilities_named(&process.capabilities)?;
    if single_user() {
        // There is one user. The process sees itself as the one it is to be, which programs check; what it may do
        // outside stays the same.
        if !user.is_root() || !group.is_root() {
            unshare(UnshareFlags::NEWUSER).doing(|| "make a user namespace for the container".to_owned())?;
            Mapping {
                user: process.user,
                group: process.group,
                outer_user: 0,
                outer_group: 0,
            }
            .write()?;
        }
        bound(wanted)?;
    } else {
        bound(wanted)?;
        let groups: Vec<_> = process.groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups).doing(|| format!("set groups {:?}", process.groups))?;
        set_thread_res_gid(group, group, group).doing(|| format!("become group {}", process.group))?;
        set_thread_res_uid(user, user, user).doing(|| format!("become user {}", process.user))?;
    }
    let held = if user.is_root() {
        wanted
    } else {
        CapabilitySet::empty()
    };
    let sets = CapabilitySets {
        effective: held,
        permitted: held,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).doing(|| "give up capabilities".to_owned())?;
    if process.no_new_privileges {
        set_no_new_privs(true).doing(|| "give up gaining privileges".to_owned())?;
    }
    Ok(())
}

/// Takes every other capability out of the set that no program can get beyond.
fn bound(wanted: CapabilitySet) -> Result<(), Failure> {
    let held = capabilities(None)
        .doing(|| "read capabilities".to_owned())?
        .permitted;
    for capability in held
        .difference(wanted)
        .iter_names()
        .map(|(_, capability)| capability)
    {
        remove_capability_from_bounding_set(capability).doing(|| format!("give up {capability:?}"))?;
    }
    Ok(())
}

fn capabilities_named(names: &[String]) -> Result<CapabilitySet, Failure> {
    names
        .iter()
        .map(|name| {
            CapabilitySet::from_name(name).ok_or_else(|| {
                Failure::because("grant capabilities", format!("there is none named {name:?}"))
            })
        })
        .collect()
}
