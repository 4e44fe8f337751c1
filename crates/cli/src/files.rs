//! Files with credentials in them.

use anyhow::{Context, Result};
use std::io::Write as _;
use std::path::Path;

/// Writes a file that only its user may read, in the place of one that may be there and be read by others.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|error| error.error)
    };
    write()
        .map(drop)
        .with_context(|| format!("failed to write {}", path.display()))
}
