//! The first container of a member's pod: whether etcd may start on what is in its folder.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::book::{Book, Standing};

/// The exit status of a member that has to be replaced, because its data is gone.
pub const DATA_LOST: u8 = 20;
/// The exit status of a pod whose member was not added yet.
pub const NOT_A_MEMBER: u8 = 21;

/// The folder of etcd's data in the volume.
pub(super) const DATA: &str = "data";
/// The file beside it that says which of its lives the data is from.
const LIFE: &str = "member-id";

/// Why etcd may not start.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The member has been started before, and its data has gone.
    #[error(
        "the data of member {0} is gone: it can't come back under its old identity, and is replaced by a new member \
         while the others have a majority"
    )]
    DataLost(String),
    /// It is no member.
    #[error("{0} is not a member of the cluster yet: it waits to be added")]
    NotAMember(String),
    /// The list of members can't be read.
    #[error("failed to read the members from {0}")]
    Malformed(&'static str, #[source] serde_json::Error),
    /// The volume can't be used.
    #[error("failed to prepare {path}")]
    Volume {
        /// What can't be used.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Refusal {
    /// The exit status that tells the controller what to do about it.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::DataLost(_) => DATA_LOST,
            Self::NotAMember(_) => NOT_A_MEMBER,
            Self::Malformed(..) | Self::Volume { .. } => 1,
        }
    }
}

/// Says whether the member of this name may start, given the list of members and its volume. What a former life of a
/// new member left is removed.
pub fn prepare(name: &str, members: &str, volume: &Path) -> Result<(), Refusal> {
    let book: Book = serde_json::from_str(members)
        .map_err(|error| Refusal::Malformed(super::book::MEMBERS_VARIABLE, error))?;
    let standing = book
        .0
        .get(name)
        .ok_or_else(|| Refusal::NotAMember(name.to_owned()))?;
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| Refusal::Volume { path, source }
    };
    let (data, life) = (volume.join(DATA), volume.join(LIFE));
    let has_data = holds_data(&data).map_err(failed(&data))?;
    match standing {
        Standing::Bootstrap => Ok(()),
        Standing::Member if has_data => Ok(()),
        Standing::Member => Err(Refusal::DataLost(name.to_owned())),
        Standing::Joining { id } => {
            let lived = match fs::read_to_string(&life) {
                Ok(lived) => Some(lived),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(failed(&life)(error)),
            };
            match (lived.as_deref() == Some(id), has_data) {
                (true, true) => Ok(()),
                (true, false) => Err(Refusal::DataLost(name.to_owned())),
                (false, _) => {
                    if has_data {
                        fs::remove_dir_all(&data).map_err(failed(&data))?;
                    }
                    note(volume, &life, id).map_err(failed(&life))
                }
            }
        }
    }
}

/// Whether a member has ever run on a folder.
fn holds_data(data: &Path) -> io::Result<bool> {
    match fs::read_dir(data.join("member").join("wal")) {
        Ok(mut files) => Ok(files.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes the member's id, whole or not at all, and kept through a loss of power.
fn note(volume: &Path, life: &Path, id: &str) -> io::Result<()> {
    let new = volume.join(format!("{LIFE}.new"));
    let mut file = fs::File::create(&new)?;
    file.write_all(id.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, life)?;
    fs::File::open(volume)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(volume: &Path, standing: &str) -> Result<(), u8> {
        let members = format!(r#"{{"demo-etcd-1": {standing}}}"#);
        prepare("demo-etcd-1", &members, volume).map_err(|refusal| refusal.exit_status())
    }

    fn write_data(volume: &Path) {
        fs::create_dir_all(volume.join("data/member/wal")).unwrap();
        fs::write(volume.join("data/member/wal/0.wal"), "x").unwrap();
    }

    const JOINING: &str = r#"{"state": "joining", "id": "8e9e05c52164694d"}"#;
    const MEMBER: &str = r#"{"state": "member"}"#;

    #[test]
    fn only_a_new_member_starts_on_nothing() {
        let volume = tempfile::tempdir().unwrap();
        assert_eq!(run(volume.path(), r#"{"state": "bootstrap"}"#), Ok(()));
        assert_eq!(run(volume.path(), MEMBER), Err(DATA_LOST));
        write_data(volume.path());
        assert_eq!(run(volume.path(), MEMBER), Ok(()));
        // etcd removes its logs last, so that a folder without them holds nothing.
        fs::remove_file(volume.path().join("data/member/wal/0.wal")).unwrap();
        assert_eq!(run(volume.path(), MEMBER), Err(DATA_LOST));
    }

    #[test]
    fn a_new_member_starts_on_nothing_once_and_not_on_its_past() {
        let volume = tempfile::tempdir().unwrap();
        write_data(volume.path());
        assert_eq!(run(volume.path(), JOINING), Ok(()));
        assert!(!volume.path().join("data").exists(), "what a removed member left");
        assert_eq!(run(volume.path(), JOINING), Err(DATA_LOST));
        write_data(volume.path());
        assert_eq!(run(volume.path(), JOINING), Ok(()));
        assert!(volume.path().join("data/member/wal/0.wal").exists());
        let again = r#"{"state": "joining", "id": "1"}"#;
        assert_eq!(run(volume.path(), again), Ok(()));
        assert!(!volume.path().join("data").exists());
    }

    #[test]
    fn what_is_no_member_and_what_can_not_be_read_is_told() {
        let volume = tempfile::tempdir().unwrap();
        assert_eq!(
            prepare(
                "demo-etcd-2",
                r#"{"demo-etcd-1": {"state": "member"}}"#,
                volume.path()
            )
            .unwrap_err()
            .exit_status(),
            NOT_A_MEMBER
        );
        let malformed = prepare("demo-etcd-2", "nonsense", volume.path()).unwrap_err();
        assert_eq!(malformed.exit_status(), 1);
        assert!(malformed.to_string().contains("ETCD_MEMBERS"), "{malformed}");
        fs::write(volume.path().join("data"), "a file").unwrap();
        assert_eq!(run(volume.path(), MEMBER), Err(1), "not taken for lost data");
    }
}
