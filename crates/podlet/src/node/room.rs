//! Whether there is room for what pods write: all of it goes to the file system that the podlet's folder is on.

use std::path::Path;

use rustix::fs::statvfs;

/// What is lacking, and what to do about it. `None` if nothing is, or nobody knows.
pub fn lacking(folder: &Path) -> Option<String> {
    let found = statvfs(folder).ok()?;
    let of = folder.parent().unwrap_or(folder).display();
    let all = found.f_blocks.saturating_mul(found.f_frsize);
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let what = if found.f_files > 0 && found.f_favail == 0 {
        "no file more can be made".to_owned()
    } else if all > 0 && free < all / 100 {
        format!("{} of {} KiB are free", free / 1024, all / 1024)
    } else {
        return None;
    };
    Some(format!(
        "the file system of the podlet's folder {of} is full: {what}. Make room there, or run the podlet with a folder \
         elsewhere; what failed for it is tried again"
    ))
}

/// What went wrong, with what is lacking where that may be why.
pub fn explained(folder: &Path, wrong: &dyn ToString) -> String {
    let wrong = wrong.to_string();
    match lacking(folder) {
        Some(lacking) => format!("{wrong}: {lacking}"),
        None => wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_room_nothing_is_added() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(explained(folder.path(), &"oh"), "oh");
        assert_eq!(lacking(Path::new("/nowhere/at/all")), None);
    }
}
