//! Where the components are that `cargo xtask tools` brings.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder of components; it may not be there.
pub fn folder() -> Option<PathBuf> {
    place(|name| env::var_os(name))
}

/// The place by the environment: `CLUSTERWRIGHT_TOOLS`, or the user's cache folder.
fn place(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(tools) = variable("CLUSTERWRIGHT_TOOLS") {
        return Some(tools.into());
    }
    let cache = variable("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute());
    let cache = match cache {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(variable("HOME")?).join(".cache"),
    };
    Some(cache.join("clusterwright/tools"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_where() {
        let place = |set: &[(&str, &str)]| {
            let found = place(|name| {
                let (_, value) = set.iter().find(|(key, _)| *key == name)?;
                Some(OsString::from(value))
            });
            found.map(|path| path.display().to_string())
        };
        let in_cache = |cache: &str| Some(format!("{cache}/clusterwright/tools"));
        assert_eq!(place(&[("HOME", "/h")]), in_cache("/h/.cache"));
        assert_eq!(place(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), in_cache("/x"));
        assert_eq!(
            place(&[("HOME", "/h"), ("XDG_CACHE_HOME", "x")]),
            in_cache("/h/.cache")
        );
        assert_eq!(
            place(&[("HOME", "/h"), ("CLUSTERWRIGHT_TOOLS", "/t")]).as_deref(),
            Some("/t")
        );
        assert_eq!(place(&[]), None);
    }
}
