//! A container's root: a file system of its own in memory, with what it may see of the machine's bound into it.
//!
//! Paths in it are resolved as if it were the root already, because volumes may hold symbolic links that a pod made.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags, fchmod, fstatvfs, mkdirat, openat2, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::wire::{Entry, Root};
use super::{Doing, Failure, shown};

/// Devices that every container has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links in `/dev`.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];
/// What of `/proc` is the machine's rather than the container's, and may only be read.
const PROC_READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// What of `/proc` shows more than a container is to see.
const PROC_HIDDEN: [&str; 4] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/sched_debug",
];
const FOLDER_MODE: u32 = 0o755;

/// Builds the root and moves this process into it. What it was before is no longer reachable.
pub fn change_root(root: &Root) -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "keep mounts private".to_owned())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let options = format!("mode=755,size={}", root.size);
    mount_with("tmpfs", root.at.as_os_str().as_bytes(), flags, &options)
        .doing(|| format!("mount a root at {}", root.at.display()))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat2(CWD, &root.at, flags, Mode::empty(), ResolveFlags::empty())
        .doing(|| format!("open {}", root.at.display()))?;
    let tree = Tree { top };
    tree.system()?;
    for entry in &root.entries {
        tree.add(entry)?;
    }
    let pivot = || {
        fchdir(&tree.top)?;
        pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        chdir("/")
    };
    pivot().doing(|| "change the root".to_owned())?;
    if root.read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount("/", flags, c"").doing(|| "make the root read-only".to_owned())?;
    }
    Ok(())
}

fn mount_with(kind: &str, target: &[u8], flags: MountFlags, options: &str) -> Result<(), Errno> {
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    mount(kind, target, kind, flags, options.as_c_str())
}

struct Tree {
    top: OwnedFd,
}

impl Tree {
    /// What every container has.
    fn system(&self) -> Result<(), Failure> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        self.mount("proc", "/proc", flags, "")?;
        for path in PROC_READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
            let source = self.open(path)?;
            self.bind(&source, path, true)?;
        }
        let null = open_source(Path::new("/dev/null"))?;
        for path in PROC_HIDDEN {
            if let Ok(hidden) = self.open(path) {
                attach(&null, &hidden).doing(|| format!("hide {path}"))?;
            }
        }
        for device in DEVICES {
            let device = format!("/dev/{device}");
            let source = open_source(Path::new(&device))?;
            self.file(&device, "", 0o666)?;
            self.bind(&source, &device, false)?;
        }
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        self.mount("devpts", "/dev/pts", flags, "newinstance,ptmxmode=0666,mode=0620")?;
        let flags = flags | MountFlags::NODEV;
        self.mount("tmpfs", "/dev/shm", flags, "mode=1777,size=64m")?;
        for (path, target) in DEVICE_LINKS {
            self.link(path, target)?;
        }
        self.folder("/tmp", 0o1777)?;
        Ok(())
    }

    fn add(&self, entry: &Entry) -> Result<(), Failure> {
        match entry {
            Entry::Folder { path, mode } => self.folder(path, *mode).map(drop),
            Entry::File { path, content, mode } => self.file(path, content, *mode).map(drop),
            Entry::Link { path, target } => self.link(path, target),
            Entry::Bind {
                path,
                source,
                below,
                read_only,
            } => {
                let mut opened = open_source(source)?;
                if let Some(below) = below {
                    opened = open_below(&opened, below)
                        .doing(|| format!("open {below} in {}", source.display()))?;
                }
                let folder = rustix::fs::fstat(&opened)
                    .map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
                    .doing(|| format!("look at {}", source.display()))?;
                if self.open(path).is_err() {
                    if folder {
                        self.folder(path, FOLDER_MODE)?;
                    } else {
                        self.file(path, "", 0o644)?;
                    }
                }
                self.bind(&opened, path, *read_only)
            }
        }
    }

    /// Opens what is at a path of the container's.
    fn open(&self, path: &str) -> Result<OwnedFd, Failure> {
        self.resolve(path, OFlags::PATH, Mode::empty())
            .doing(|| format!("open {path} in the container"))
    }

    fn resolve(&self, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.top, path.as_ref(), flags | OFlags::CLOEXEC, mode, resolve)
    }

    /// The folder that something is to be in, which is made if it is not there, and its name in it.
    fn place<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a Path), Failure> {
        let wrong = || Failure::because(format!("make {path} in the container"), "it is no absolute path");
        let path = Path::new(path);
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(wrong());
        };
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(wrong());
        }
        let mut made = PathBuf::from("/");
        let open = |path: &Path| self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let mut parent = open(&made).doing(|| "open the root".to_owned())?;
        for part in folder.components().skip(1) {
            made.push(part);
            parent = match open(&made) {
                Err(Errno::NOENT) => mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(FOLDER_MODE))
                    .and_then(|()| open(&made)),
                opened => opened,
            }
            .doing(|| format!("make {} in the container", made.display()))?;
        }
        Ok((parent, Path::new(name)))
    }

    fn folder(&self, path: &str, mode: u32) -> Result<OwnedFd, Failure> {
        let what = || format!("make the folder {path} in the container");
        let (parent, name) = self.place(path)?;
        match mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Failure::of(what(), error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = self.resolve(path, flags, Mode::empty()).doing(what)?;
        fchmod(&folder, Mode::from_raw_mode(mode)).doing(what)?;
        Ok(folder)
    }

    fn file(&self, path: &str, content: &str, mode: u32) -> Result<OwnedFd, Failure> {
        let what = || format!("make the file {path} in the container");
        self.place(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let file = self.resolve(path, flags, Mode::from_raw_mode(mode)).doing(what)?;
        fchmod(&file, Mode::from_raw_mode(mode)).doing(what)?;
        let mut bytes = content.as_bytes();
        while !bytes.is_empty() {
            let written = rustix::io::write(&file, bytes).doing(what)?;
            bytes = &bytes[written..];
        }
        Ok(file)
    }

    fn link(&self, path: &str, target: &str) -> Result<(), Failure> {
        let (parent, name) = self.place(path)?;
        symlinkat(target, &parent, name).doing(|| format!("make the link {path} in the container"))
    }

    fn mount(&self, kind: &str, path: &str, flags: MountFlags, options: &str) -> Result<(), Failure> {
        let folder = self.folder(path, FOLDER_MODE)?;
        mount_with(kind, by_descriptor(&folder).as_bytes(), flags, options)
            .doing(|| format!("mount {kind} at {path} in the container"))
    }

    /// Shows `source` at a path of the container's that exists.
    fn bind(&self, source: &OwnedFd, path: &str, read_only: bool) -> Result<(), Failure> {
        let what = || format!("bind {path} in the container");
        let target = self.open(path)?;
        attach(source, &target).doing(what)?;
        if read_only {
            // What was opened is under the mount now. A user namespace does not let go of flags that came with it.
            let mounted = self.open(path)?;
            let kept = fstatvfs(&mounted).doing(what)?.f_flag;
            let mut flags = MountFlags::BIND | MountFlags::RDONLY;
            for (held, flag) in [
                (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
                (StatVfsMountFlags::NODEV, MountFlags::NODEV),
                (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
            ] {
                if kept.contains(held) {
                    flags |= flag;
                }
            }
            mount_remount(by_descriptor(&mounted).as_str(), flags, c"").doing(what)?;
        }
        Ok(())
    }
}

fn open_source(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::empty()).doing(|| format!("open {}", shown(path)))
}

/// Opens what is in a volume. A folder that is not there is made, as the kubelet makes it.
fn open_below(volume: &OwnedFd, below: &str) -> Result<OwnedFd, Errno> {
    let open = |path: &Path| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(
            volume,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    };
    let mut path = PathBuf::new();
    let mut opened = open(Path::new("."))?;
    for part in Path::new(below).components() {
        path.push(part);
        opened = match open(&path) {
            Err(Errno::NOENT) => {
                mkdirat(&opened, part.as_os_str(), Mode::from_raw_mode(0o750))?;
                open(&path)?
            }
            found => found?,
        };
    }
    Ok(opened)
}

fn attach(source: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    mount_bind_recursive(by_descriptor(source).as_str(), by_descriptor(target).as_str())
}

/// A path to what is open, for calls that take paths only.
fn by_descriptor(opened: impl AsFd) -> String {
    format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd())
}
