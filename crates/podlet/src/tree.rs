//! Removes folders that pods wrote to.
//!
//! What is in them is not to be trusted: no symbolic link is followed, no mount is entered, and no depth is too much.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, ResolveFlags, chmod, mkdirat, openat, openat2,
    renameat_with, unlinkat,
};
use rustix::io::Errno;

/// Where folders are moved to before they are emptied, in the folder that is removed.
const HEAP: &CStr = c".removed";

/// Removes a folder and everything in it. It need not be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let top = match openat2(
        CWD,
        path,
        OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    ) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    match mkdirat(&top, HEAP, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let heap = open(&top, HEAP)?;
    let mut moved = 0;
    empty(&top, Some(HEAP), &heap, &mut moved)?;
    // Each folder on the heap is emptied onto the heap, so that none is ever two levels deep.
    loop {
        let names = names(&heap)?;
        if names.is_empty() {
            break;
        }
        for name in names {
            if let Ok(folder) = open(&heap, &name) {
                empty(&folder, None, &heap, &mut moved)?;
                unlinkat(&heap, &name, AtFlags::REMOVEDIR)?;
            } else {
                unlinkat(&heap, &name, AtFlags::empty())?;
            }
        }
    }
    unlinkat(&top, HEAP, AtFlags::REMOVEDIR)?;
    std::fs::remove_dir(path)
}

/// Removes a folder's files, and moves its folders onto the heap, all but one.
fn empty(folder: &OwnedFd, but: Option<&CStr>, heap: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    for name in names(folder)?
        .into_iter()
        .filter(|name| Some(name.as_c_str()) != but)
    {
        match unlinkat(folder, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => {
                open_up(folder, &name)?;
                loop {
                    *moved += 1;
                    let target = CString::new(moved.to_string())?;
                    match renameat_with(folder, &name, heap, &target, RenameFlags::NOREPLACE) {
                        Err(Errno::EXIST) => {}
                        renamed => break renamed?,
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives this user every right to a folder: who may not write to a folder can't even move it.
fn open_up(folder: &OwnedFd, name: &CStr) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = openat(folder, name, flags, Mode::empty())?;
    // A descriptor without the right to read is good for nothing but its path.
    chmod(format!("/proc/self/fd/{}", inner.as_raw_fd()), Mode::RWXU)?;
    Ok(())
}

fn open(folder: impl AsFd, name: &CStr) -> io::Result<OwnedFd> {
    Ok(openat2(
        folder,
        name,
        OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV | ResolveFlags::BENEATH,
    )?)
}

fn names(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_a_pod_left_goes_and_nothing_else() {
        let outside = tempfile::tempdir().unwrap();
        let kept = outside.path().join("kept");
        File::create(&kept).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("top");
        fs::create_dir_all(top.join("a/.removed/b")).unwrap();
        fs::create_dir_all(top.join("1/2/3")).unwrap();
        fs::write(top.join("a/.removed/file"), "x").unwrap();
        symlink(outside.path(), top.join("a/link")).unwrap();
        symlink(&kept, top.join("1/2/file-link")).unwrap();
        fs::set_permissions(top.join("1/2"), Permissions::from_mode(0o0)).unwrap();
        remove(&top).unwrap();
        assert!(!top.exists());
        assert!(kept.exists());
        // Again, when it is gone.
        remove(&top).unwrap();
    }

    #[test]
    fn no_depth_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut inner = File::open(&top).map(OwnedFd::from).unwrap();
        for _ in 0..1500 {
            mkdirat(&inner, c"d", Mode::RWXU).unwrap();
            inner = open(&inner, c"d").unwrap();
        }
        remove(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("top");
        symlink(outside.path(), &top).unwrap();
        remove(&top).unwrap_err();
        assert!(outside.path().exists());
    }
}
