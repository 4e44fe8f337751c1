//! What an image is here: files of this machine's at the image's paths.

use std::fs;
use std::path::Path;

use crate::isolation::Entry;

/// Where this machine keeps what programs that are not linked statically need.
const LIBRARIES: [&str; 6] = ["/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib64"];
/// What the dynamic linker reads.
const LINKER: &str = "/etc/ld.so.cache";

/// This machine's shared libraries, read-only.
pub fn libraries() -> Vec<Entry> {
    LIBRARIES
        .into_iter()
        .chain([LINKER])
        .filter_map(|path| shown(Path::new(path)))
        .collect()
}

/// A path of this machine's at the same place in a container, read-only: a symbolic link as such. `None` if there is
/// nothing.
pub fn shown(path: &Path) -> Option<Entry> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let name = path.to_str()?.to_owned();
    if metadata.is_symlink() {
        let target = fs::read_link(path).ok()?.to_str()?.to_owned();
        return Some(Entry::Link { path: name, target });
    }
    Some(Entry::Bind {
        path: name,
        source: path.to_owned(),
        below: None,
        read_only: true,
    })
}
