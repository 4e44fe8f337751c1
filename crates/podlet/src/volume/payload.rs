//! From a volume of a pod's spec to files. Pure.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PodSpec, ServiceAccountTokenProjection, Volume,
};

use crate::environment::{self, Objects};

/// The permissions of files if nothing says otherwise.
const DEFAULT_MODE: i32 = 0o644;
/// Those of a token that belongs to the container's user.
const OWN_MODE: u32 = 0o600;
/// How long a token is valid if the volume does not say, in seconds.
const TOKEN_SECONDS: i64 = 3600;

/// The files of a volume by their path in it.
pub type Files = BTreeMap<String, File>;

/// A file of a volume's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What is in it.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// The user that it belongs to, if that is not root.
    pub user: Option<u32>,
}

/// A token that a volume holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenWanted {
    /// For whom it is; the API server itself if empty.
    pub audience: String,
    /// How long it is to be valid, in seconds.
    pub seconds: i64,
}

/// What volumes are made of.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Objects, and the pod itself.
    pub objects: Objects<'a>,
    /// The tokens that [`tokens_wanted`] names.
    pub tokens: &'a BTreeMap<TokenWanted, String>,
}

/// Why a volume can't be made yet. A pod whose volume can't be does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something that is referred to is missing.
    #[error(transparent)]
    Missing(#[from] environment::Error),
    /// A key is missing.
    #[error("references non-existent {kind} key: {key}")]
    NoKey {
        /// `secret` or `config`.
        kind: &'static str,
        /// The key.
        key: String,
    },
    /// A token has not been issued.
    #[error("no token for the audience {0:?} yet")]
    NoToken(String),
    /// A path that leads out of the volume.
    #[error("invalid path {0:?}: it must be relative and stay in the volume")]
    Path(String),
    /// A source that is not known.
    #[error("volume {0:?} has a source that the podlet does not support")]
    Source(String),
}

/// The files of a volume that is made of objects. `None` for one that is a folder.
///
/// # Errors
/// If something that is not optional is missing.
pub fn files(volume: &Volume, sources: Sources<'_>) -> Result<Option<Files>, Error> {
    let mut files = Collector {
        files: Files::new(),
        mode: DEFAULT_MODE,
        sources,
    };
    if let Some(secret) = &volume.secret {
        files.mode = secret.default_mode.unwrap_or(DEFAULT_MODE);
        let name = secret.secret_name.clone().unwrap_or_default();
        files.secret(&name, secret.items.as_deref(), secret.optional == Some(true))?;
    } else if let Some(config_map) = &volume.config_map {
        files.mode = config_map.default_mode.unwrap_or(DEFAULT_MODE);
        files.config_map(
            &config_map.name,
            config_map.items.as_deref(),
            config_map.optional == Some(true),
        )?;
    } else if let Some(downward) = &volume.downward_api {
        files.mode = downward.default_mode.unwrap_or(DEFAULT_MODE);
        files.downward(downward.items.as_deref().unwrap_or_default())?;
    } else if let Some(projected) = &volume.projected {
        files.mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        for source in projected.sources.iter().flatten() {
            if let Some(secret) = &source.secret {
                files.secret(
                    &secret.name,
                    secret.items.as_deref(),
                    secret.optional == Some(true),
                )?;
            } else if let Some(config_map) = &source.config_map {
                files.config_map(
                    &config_map.name,
                    config_map.items.as_deref(),
                    config_map.optional == Some(true),
                )?;
            } else if let Some(downward) = &source.downward_api {
                files.downward(downward.items.as_deref().unwrap_or_default())?;
            } else if let Some(token) = &source.service_account_token {
                files.token(token)?;
            } else {
                return Err(Error::Source(volume.name.clone()));
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files.files))
}

/// The tokens that a volume holds.
pub fn tokens_wanted(volume: &Volume) -> Vec<TokenWanted> {
    let projected = volume.projected.iter().flat_map(|projected| &projected.sources);
    projected
        .flatten()
        .filter_map(|source| source.service_account_token.as_ref().map(wanted))
        .collect()
}

fn wanted(token: &ServiceAccountTokenProjection) -> TokenWanted {
    TokenWanted {
        audience: token.audience.clone().unwrap_or_default(),
        seconds: token.expiration_seconds.unwrap_or(TOKEN_SECONDS),
    }
}

struct Collector<'a> {
    files: Files,
    mode: i32,
    sources: Sources<'a>,
}

impl Collector<'_> {
    fn add(&mut self, path: &str, mode: Option<i32>, content: Vec<u8>) -> Result<(), Error> {
        let wrong = || Error::Path(path.to_owned());
        let inside = Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(name) if name != ".."));
        // Names that start so are the writer's own.
        if !inside || path.is_empty() || path.starts_with("..") {
            return Err(wrong());
        }
        let file = File {
            content,
            mode: u32::try_from(mode.unwrap_or(self.mode)).map_err(|_| wrong())? & 0o777,
            user: None,
        };
        self.files.insert(path.to_owned(), file);
        Ok(())
    }

    fn secret(&mut self, name: &str, items: Option<&[KeyToPath]>, optional: bool) -> Result<(), Error> {
        let Some(found) = self.sources.objects.secrets.get(name) else {
            return unless(optional, environment::Error::NoSecret(name.to_owned()).into());
        };
        let data = found.data.iter().flatten();
        let data = data
            .map(|(key, ByteString(value))| (key.as_str(), value.as_slice()))
            .collect();
        self.keys(&data, items, optional, "secret")
    }

    fn config_map(&mut self, name: &str, items: Option<&[KeyToPath]>, optional: bool) -> Result<(), Error> {
        let Some(found) = self.sources.objects.config_maps.get(name) else {
            return unless(optional, environment::Error::NoConfigMap(name.to_owned()).into());
        };
        let text = found
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.as_bytes()));
        let binary = found.binary_data.iter().flatten();
        let binary = binary.map(|(key, ByteString(value))| (key.as_str(), value.as_slice()));
        self.keys(&text.chain(binary).collect(), items, optional, "config")
    }

    /// The keys that are asked for, or all.
    fn keys(
        &mut self,
        data: &BTreeMap<&str, &[u8]>,
        items: Option<&[KeyToPath]>,
        optional: bool,
        kind: &'static str,
    ) -> Result<(), Error> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            return data
                .iter()
                .try_for_each(|(key, value)| self.add(key, None, value.to_vec()));
        };
        for item in items {
            match data.get(item.key.as_str()) {
                Some(value) => self.add(&item.path, item.mode, value.to_vec())?,
                None => unless(
                    optional,
                    Error::NoKey {
                        kind,
                        key: item.key.clone(),
                    },
                )?,
            }
        }
        Ok(())
    }

    fn downward(&mut self, items: &[DownwardAPIVolumeFile]) -> Result<(), Error> {
        for item in items {
            let value = if let Some(field) = &item.field_ref {
                environment::field(self.sources.objects.pod, &field.field_path)?
            } else if let Some(wanted) = &item.resource_field_ref {
                let container = wanted.container_name.as_deref().unwrap_or_default();
                let divisor = wanted.divisor.as_ref().map(|divisor| divisor.0.as_str());
                environment::resource(self.sources.objects, container, &wanted.resource, divisor)?
            } else {
                return Err(Error::Source(item.path.clone()));
            };
            self.add(&item.path, item.mode, value.into_bytes())?;
        }
        Ok(())
    }

    fn token(&mut self, projection: &ServiceAccountTokenProjection) -> Result<(), Error> {
        let token = self.sources.tokens.get(&wanted(projection));
        let token = token.ok_or_else(|| Error::NoToken(projection.audience.clone().unwrap_or_default()))?;
        self.add(&projection.path, None, token.clone().into_bytes())?;
        let spec = self.sources.objects.pod.spec.as_ref();
        let group = spec.and_then(|spec| spec.security_context.as_ref()?.fs_group);
        let user = spec.and_then(only_user);
        if let Some(file) = self.files.get_mut(&projection.path)
            && (user.is_some() || group.is_some())
        {
            file.mode = OWN_MODE;
            file.user = user;
        }
        Ok(())
    }
}

fn unless(optional: bool, error: Error) -> Result<(), Error> {
    if optional { Ok(()) } else { Err(error) }
}

/// The user that all containers of a pod are, if they are one.
fn only_user(spec: &PodSpec) -> Option<u32> {
    let pod = spec
        .security_context
        .as_ref()
        .and_then(|security| security.run_as_user);
    let mut users = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| {
            let own = container
                .security_context
                .as_ref()
                .and_then(|security| security.run_as_user);
            own.or(pod)
        });
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};

    use super::*;

    const POD: &str = "
        metadata: {name: p, namespace: ns, labels: {app: web}}
        spec: {securityContext: {runAsUser: 7, fsGroup: 8}, containers: [{name: c, resources: {limits: {cpu: 250m}}}]}
    ";

    fn of(volume: &str) -> Result<Option<Files>, Error> {
        let pod: Pod = serde_saphyr::from_str(POD).unwrap();
        let config: ConfigMap = serde_saphyr::from_str("{data: {a: x}, binaryData: {b: AAE=}}").unwrap();
        let keys: Secret = serde_saphyr::from_str("{data: {tls.crt: Yw==, tls.key: aw==}}").unwrap();
        let wanted = TokenWanted {
            audience: "vault".to_owned(),
            seconds: 600,
        };
        let sources = Sources {
            objects: Objects {
                pod: &pod,
                config_maps: &[("config".to_owned(), config)].into(),
                secrets: &[("keys".to_owned(), keys)].into(),
                capacity: &BTreeMap::new(),
            },
            tokens: &[(wanted, "token".to_owned())].into(),
        };
        files(&serde_saphyr::from_str(volume).unwrap(), sources)
    }

    fn shown(volume: &str) -> Vec<String> {
        let files = of(volume).unwrap().unwrap();
        let line = |(path, file): (String, File)| {
            let content = String::from_utf8(file.content).unwrap();
            format!("{path} {:o} {:?} {content:?}", file.mode, file.user)
        };
        files.into_iter().map(line).collect()
    }

    #[test]
    fn each_kind_of_volume() {
        assert_eq!(
            shown("{name: v, secret: {secretName: keys, defaultMode: 256}}"),
            ["tls.crt 400 None \"c\"", "tls.key 400 None \"k\""]
        );
        assert_eq!(
            shown("{name: v, configMap: {name: config, items: [{key: a, path: d/e, mode: 384}]}}"),
            ["d/e 600 None \"x\""]
        );
        assert_eq!(
            shown("{name: v, configMap: {name: config}}"),
            ["a 644 None \"x\"", "b 644 None \"\\0\\u{1}\""]
        );
        let downward = "{name: v, downwardAPI: {items: [
            {path: labels, fieldRef: {fieldPath: metadata.labels}},
            {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}]}}";
        assert_eq!(
            shown(downward),
            ["cpu 644 None \"250\"", "labels 644 None \"app=\\\"web\\\"\""]
        );
        assert_eq!(of("{name: v, emptyDir: {}}").unwrap(), None);
    }

    #[test]
    fn a_projection_of_many_where_the_last_wins() {
        let volume = "{name: v, projected: {defaultMode: 288, sources: [
            {secret: {name: keys, items: [{key: tls.crt, path: ca.crt}]}},
            {configMap: {name: none, optional: true}},
            {configMap: {name: config, items: [{key: a, path: ca.crt}]}},
            {serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}}]}}";
        // A token belongs to the user that all containers are.
        assert_eq!(
            shown(volume),
            ["ca.crt 440 None \"x\"", "token 600 Some(7) \"token\""]
        );
        let wanted = tokens_wanted(&serde_saphyr::from_str(volume).unwrap());
        assert_eq!((wanted[0].audience.as_str(), wanted[0].seconds), ("vault", 600));
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases = [
            (
                "{name: v, secret: {secretName: none}}",
                "secret \"none\" not found",
            ),
            (
                "{name: v, configMap: {name: none}}",
                "configmap \"none\" not found",
            ),
            (
                "{name: v, secret: {secretName: keys, items: [{key: z, path: z}]}}",
                "references non-existent secret key: z",
            ),
            (
                "{name: v, configMap: {name: config, items: [{key: z, path: z}]}}",
                "references non-existent config key: z",
            ),
            (
                "{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}",
                "no token for the audience \"\" yet",
            ),
        ];
        for (volume, message) in cases {
            assert_eq!(of(volume).unwrap_err().to_string(), message);
        }
        let optional = "{name: v, secret: {secretName: keys, optional: true, items: [{key: z, path: z}]}}";
        assert!(shown(optional).is_empty());
        for path in ["/a", "a/../../b", "..data", ""] {
            let volume = format!(
                "{{name: v, secret: {{secretName: keys, items: [{{key: tls.crt, path: '{path}'}}]}}}}"
            );
            assert!(matches!(of(&volume), Err(Error::Path(_))), "{path}");
        }
    }
}
