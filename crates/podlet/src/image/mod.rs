//! What an image is here: files of this machine's at the image's paths.

mod catalogue;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::isolation::Entry;

pub use self::catalogue::{Catalogue, Missing};

/// Where this machine keeps what programs that are not linked statically need.
const LIBRARIES: [&str; 6] = ["/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib64"];
/// What the dynamic linker reads.
const LINKER: &str = "/etc/ld.so.cache";

/// An image: its files, and what it says of how it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Files of this machine's by their path in the image.
    pub files: BTreeMap<String, PathBuf>,
    /// Whether its programs need this machine's shared libraries.
    pub libraries: bool,
    /// The command if the container gives none.
    pub entrypoint: Vec<String>,
    /// The arguments if the container gives neither command nor arguments.
    pub arguments: Vec<String>,
    /// Variables that the container's are added to.
    pub environment: BTreeMap<String, String>,
    /// Where programs start if the container does not say.
    pub directory: String,
    /// The user if neither container nor pod says.
    pub user: u32,
}

impl Image {
    /// What of a container's root comes from the image.
    pub fn entries(&self) -> Vec<Entry> {
        let libraries = if self.libraries { libraries() } else { Vec::new() };
        let files = self.files.iter().map(|(path, source)| Entry::Bind {
            path: path.clone(),
            source: source.clone(),
            below: None,
            read_only: true,
        });
        libraries.into_iter().chain(files).collect()
    }
}

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
