//! Files with credentials in them.

use anyhow::{Context, Result};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes a file that only its user may read, in the place of one that may be there and be read by others.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let file = private(path, text)?;
        file.persist(path).map_err(|error| error.error)
    };
    write()
        .map(drop)
        .with_context(|| format!("failed to write {}", path.display()))
}

/// As [`write_private`], where nothing is there yet. False if something is.
pub fn write_new_private(path: &Path, text: &str) -> Result<bool> {
    let write = || {
        let file = private(path, text)?;
        file.persist_noclobber(path).map_err(|error| error.error)
    };
    match write() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| format!("failed to write {}", path.display())),
    }
}

/// A file beside the one that it will be, so that no half of it is ever seen.
fn private(path: &Path, text: &str) -> std::io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}
