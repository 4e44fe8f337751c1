//! Puts files into a volume so that a container sees all of one version or all of the next, as the kubelet does:
//!
//! ```text
//! tls.crt -> ..data/tls.crt
//! ..data  -> ..3
//! ..3/tls.crt
//! ```
//!
//! A new version is a new folder, and one rename of `..data` shows it.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::payload::{File, Files};
use crate::tree;

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";
/// What a group may do with what a volume holds: read.
const GROUP_FILE: u32 = 0o440;
const GROUP_FOLDER: u32 = 0o2550;
/// What a group may do in a volume that is a folder: all.
const GROUP_ALL: u32 = 0o2770;

/// Makes a volume hold these files and no others, and returns whether that changed anything. `group` is who besides
/// the owner may read them.
///
/// # Errors
/// If the machine refuses it. The volume holds what it held.
pub fn write(volume: &Path, files: &Files, group: Option<u32>) -> io::Result<bool> {
    fs::create_dir_all(volume)?;
    fs::set_permissions(volume, Permissions::from_mode(0o755))?;
    let old = fs::read_link(volume.join(DATA)).ok();
    if let Some(old) = &old
        && holds(&volume.join(old), files)?
    {
        links(volume, files)?;
        return Ok(false);
    }
    let version = old
        .as_deref()
        .and_then(Path::to_str)
        .and_then(|name| name.trim_start_matches('.').parse::<u64>().ok());
    let new = PathBuf::from(format!("..{}", version.map_or(1, |version| version + 1)));
    // What an earlier try left.
    tree::remove(&volume.join(&new))?;
    if let Err(error) = fill(&volume.join(&new), files, group) {
        tree::remove(&volume.join(&new))?;
        return Err(error);
    }
    show(volume, &new)?;
    links(volume, files)?;
    if let Some(old) = old {
        tree::remove(&volume.join(old))?;
    }
    Ok(true)
}

/// Makes a volume that is a folder for pods to write to: everyone, or root and a group.
///
/// # Errors
/// If the machine refuses it.
pub fn folder(volume: &Path, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(volume)?;
    let mode = match group {
        None => 0o777,
        Some(_) => 0o777 | GROUP_ALL,
    };
    chown(volume, None, group)?;
    fs::set_permissions(volume, Permissions::from_mode(mode))
}

/// Whether a version holds these files and no others.
fn holds(version: &Path, files: &Files) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    let mut folders = vec![version.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(version).ok().and_then(Path::to_str);
            let Some((name, file)) = name.and_then(|name| files.get_key_value(name)) else {
                return Ok(false);
            };
            if fs::read(&path)? != file.content {
                return Ok(false);
            }
            found.insert(name.as_str());
        }
    }
    Ok(found.len() == files.len())
}

fn fill(version: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    make_folder(version, group)?;
    for (path, file) in files {
        let mut folder = version.to_owned();
        for part in Path::new(path).parent().into_iter().flat_map(Path::components) {
            folder.push(part);
            make_folder(&folder, group)?;
        }
        make_file(&version.join(path), file, group)?;
    }
    Ok(())
}

fn make_folder(path: &Path, group: Option<u32>) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    chown(path, None, group)?;
    let more = group.map_or(0, |_| GROUP_FOLDER);
    fs::set_permissions(path, Permissions::from_mode(0o755 | more))
}

fn make_file(path: &Path, file: &File, group: Option<u32>) -> io::Result<()> {
    fs::write(path, &file.content)?;
    chown(path, file.user, group)?;
    let more = group.map_or(0, |_| GROUP_FILE);
    fs::set_permissions(path, Permissions::from_mode(file.mode | more))
}

/// Shows a version instead of the one before.
fn show(volume: &Path, version: &Path) -> io::Result<()> {
    let next = volume.join(NEXT);
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(version, &next)?;
    fs::rename(&next, volume.join(DATA))
}

/// Makes links to what the shown version holds, and removes those to what it does not.
fn links(volume: &Path, files: &Files) -> io::Result<()> {
    let names: BTreeSet<PathBuf> = files
        .keys()
        .filter_map(|path| Path::new(path).components().next())
        .map(|first| PathBuf::from(first.as_os_str()))
        .collect();
    for name in &names {
        match symlink(Path::new(DATA).join(name), volume.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(volume)? {
        let name = PathBuf::from(entry?.file_name());
        let own = name.to_str().is_some_and(|name| name.starts_with(".."));
        if !own && !names.contains(&name) {
            fs::remove_file(volume.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn files(all: &[(&str, &str, u32)]) -> Files {
        let file = |(path, content, mode): &(&str, &str, u32)| {
            let file = File {
                content: content.as_bytes().to_vec(),
                mode: *mode,
                user: None,
            };
            ((*path).to_owned(), file)
        };
        all.iter().map(file).collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_version_takes_the_place_of_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        let first = files(&[("a", "1", 0o400), ("deep/b", "1", 0o644), ("deep/c", "1", 0o644)]);
        assert!(write(&volume, &first, None).unwrap());
        assert_eq!(names(&volume), ["..1", "..data", "a", "deep"]);
        assert_eq!(
            fs::read_link(volume.join("deep")).unwrap(),
            Path::new("..data/deep")
        );
        assert_eq!(fs::read_to_string(volume.join("deep/b")).unwrap(), "1");
        let mode = fs::metadata(volume.join("a")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o400);

        assert!(!write(&volume, &first, None).unwrap());
        assert_eq!(names(&volume), ["..1", "..data", "a", "deep"]);

        // Whoever holds the old version open reads on.
        let open = fs::File::open(volume.join("deep/b")).unwrap();
        assert!(
            write(
                &volume,
                &files(&[("deep/b", "2", 0o644), ("e", "2", 0o644)]),
                None
            )
            .unwrap()
        );
        assert_eq!(names(&volume), ["..2", "..data", "deep", "e"]);
        assert_eq!(names(&volume.join("deep")), ["b"]);
        assert_eq!(io::read_to_string(open).unwrap(), "1");

        assert!(write(&volume, &Files::new(), None).unwrap());
        assert_eq!(names(&volume), ["..3", "..data"]);
        assert!(!write(&volume, &Files::new(), None).unwrap());
    }

    #[test]
    fn a_write_that_fails_leaves_the_version_before() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        write(&volume, &files(&[("a", "1", 0o644)]), None).unwrap();
        // `a` can't be a file and a folder.
        write(&volume, &files(&[("a", "2", 0o644), ("a/b", "2", 0o644)]), None).unwrap_err();
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "1");
        assert_eq!(names(&volume), ["..1", "..data", "a"]);
    }

    #[test]
    fn a_group_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().metadata().unwrap().gid();
        let volume = folder.path().join("volume");
        write(&volume, &files(&[("d/a", "1", 0o400)]), Some(group)).unwrap();
        let mode = |path: &str| fs::metadata(volume.join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("d/a"), mode("d")), (0o440, 0o2755));
        let empty = folder.path().join("empty");
        super::folder(&empty, Some(group)).unwrap();
        assert_eq!(fs::metadata(&empty).unwrap().mode() & 0o7777, 0o2777);
        super::folder(&empty, None).unwrap();
        assert_eq!(fs::metadata(&empty).unwrap().mode() & 0o7777, 0o777);
    }
}
