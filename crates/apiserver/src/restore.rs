//! A server that goes on where an earlier one ended.

use crate::auth::SigningKey;
use crate::customs;
use crate::handlers::in_present_form;
use crate::registry::{Served, Table};
use crate::serve::Authority;
use crate::server::Inner;
use crate::store::{Entry, Kind, Objects, OpenError, Recovered, private};
use clusterwright_clock::Clock;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

/// Puts objects back. Definitions come first, because they say what the others are.
pub(crate) fn objects(inner: &Arc<Inner>, recovered: Recovered) {
    let (first, rest): (Vec<_>, Vec<_>) = recovered
        .objects
        .into_iter()
        .partition(|((group, plural), _)| customs::are_definitions(group, plural));
    let put_back = |kinds: Vec<(Kind, Objects)>| {
        let table = inner.registry.table();
        for ((group, plural), objects) in kinds {
            let shelf = inner.store.shelf(&Arc::from(group), &Arc::from(plural.as_str()));
            for (key, (version, json)) in objects {
                let entry = Entry::restored(version, json);
                let entry = match served(&table, &plural, &entry) {
                    Some(served) => in_present_form(served, &entry),
                    // A kind that is no longer defined; its objects are there again when it is.
                    None => entry,
                };
                shelf.restore(&key, entry);
            }
        }
    };
    put_back(first);
    customs::publish_all(inner);
    put_back(rest);
    customs::resume(inner);
}

/// The resource as whose an object was stored, in the version in which such are stored now.
fn served<'a>(table: &'a Table, plural: &str, entry: &Entry) -> Option<&'a Served> {
    let object = entry.value();
    let version = object["apiVersion"].as_str()?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let served = table
        .find(group, version, plural)
        .or_else(|| table.any_version(group, plural))?;
    Some(served.hub.as_ref().unwrap_or(served))
}

/// The key that signs tokens, made where it is missing: tokens outlive the server.
pub(crate) fn signing_key(folder: &Path) -> Result<SigningKey, OpenError> {
    kept(
        &folder.join("service-account.pem"),
        &|| SigningKey::generate().map(|key| key.to_pem().to_owned()),
        &SigningKey::from_pem,
    )
}

/// The authority of the server's and the clients' certificates, made where it is missing: kubeconfigs outlive the
/// server.
pub(crate) fn authority(folder: &Path, clock: Clock) -> Result<Authority, OpenError> {
    kept(
        &folder.join("authority.pem"),
        &|| Authority::new(clock).map(|authority| authority.to_pem()),
        &|pem| Authority::from_pem(pem, clock),
    )
}

/// What a file holds, or what is then put there.
fn kept<T, E: std::error::Error>(
    path: &Path,
    make: &dyn Fn() -> Result<String, E>,
    read: &dyn Fn(&str) -> Result<T, E>,
) -> Result<T, OpenError> {
    let unusable = |error: E| OpenError::Key {
        file: path.to_owned(),
        why: error.to_string(),
    };
    match fs::read_to_string(path) {
        Ok(pem) => read(&pem).map_err(unusable),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let pem = make().map_err(unusable)?;
            // Not seen before it is whole.
            let unfinished = path.with_extension("unfinished");
            let mut options = private();
            let file = options.write(true).create(true).truncate(true).open(&unfinished);
            file.and_then(|mut file| {
                file.write_all(pem.as_bytes())?;
                file.sync_all()?;
                fs::rename(&unfinished, path)
            })
            .map_err(OpenError::io("write", path))?;
            read(&pem).map_err(unusable)
        }
        Err(source) => Err(OpenError::io("read", path)(source)),
    }
}
