//! What a pod refers to: objects of its namespace, from the cache, and tokens, from the server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clusterwright_runtime::client::Client;
use clusterwright_runtime::object::{Object, ObjectKey};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, PodSpec, Secret, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::volume::{TokenWanted, tokens_wanted};

/// A token is renewed when it has lasted for this part of its life, in hundredths, …
const RENEWAL: u32 = 80;
/// … or for this long, whichever is sooner.
const LONGEST: Duration = Duration::from_hours(24);

/// When it is tried again if that fails.
const AGAIN: Duration = Duration::from_secs(10);

/// The names that a spec refers to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Secrets.
    pub secrets: BTreeSet<String>,
    /// `ConfigMaps`.
    pub config_maps: BTreeSet<String>,
    /// Claims.
    pub claims: BTreeSet<String>,
}

impl References {
    /// Those of a pod.
    pub fn of(spec: &PodSpec) -> Self {
        let mut found = Self::default();
        for volume in spec.volumes.iter().flatten() {
            if let Some(secret) = &volume.secret {
                found.secrets.extend(secret.secret_name.clone());
            }
            if let Some(config_map) = &volume.config_map {
                found.config_maps.insert(config_map.name.clone());
            }
            if let Some(claim) = &volume.persistent_volume_claim {
                found.claims.insert(claim.claim_name.clone());
            }
            let projected = volume.projected.iter().flat_map(|volume| &volume.sources);
            for source in projected.flatten() {
                let secret = source.secret.as_ref();
                found.secrets.extend(secret.map(|secret| secret.name.clone()));
                let config_map = source.config_map.as_ref();
                found
                    .config_maps
                    .extend(config_map.map(|config_map| config_map.name.clone()));
            }
        }
        let init = spec.init_containers.iter().flatten();
        for container in init.chain(&spec.containers) {
            found.add_environment(container);
        }
        found
    }

    fn add_environment(&mut self, container: &Container) {
        for source in container.env_from.iter().flatten() {
            let secret = source.secret_ref.as_ref();
            self.secrets.extend(secret.map(|secret| secret.name.clone()));
            let config_map = source.config_map_ref.as_ref();
            self.config_maps
                .extend(config_map.map(|config_map| config_map.name.clone()));
        }
        let variables = container.env.iter().flatten();
        for source in variables.filter_map(|variable| variable.value_from.as_ref()) {
            let secret = source.secret_key_ref.as_ref();
            self.secrets.extend(secret.map(|secret| secret.name.clone()));
            let config_map = source.config_map_key_ref.as_ref();
            self.config_maps
                .extend(config_map.map(|config_map| config_map.name.clone()));
        }
    }
}

/// The objects that a pod refers to, as far as they are there.
#[derive(Debug, Default)]
pub struct Found {
    /// Secrets by name.
    pub secrets: BTreeMap<String, Secret>,
    /// `ConfigMaps` by name.
    pub config_maps: BTreeMap<String, ConfigMap>,
}

impl Found {
    /// Looks for them.
    pub async fn of(pod: &Pod, client: &Client) -> Result<Self, clusterwright_runtime::client::Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let references = pod.spec.as_ref().map(References::of).unwrap_or_default();
        Ok(Self {
            secrets: named(client, namespace, references.secrets).await?,
            config_maps: named(client, namespace, references.config_maps).await?,
        })
    }
}

/// Objects from the cache; what is not in there may just not have come yet.
async fn named<K: Object>(
    client: &Client,
    namespace: &str,
    names: BTreeSet<String>,
) -> Result<BTreeMap<String, K>, clusterwright_runtime::client::Error> {
    let mut found = BTreeMap::new();
    for name in names {
        let key = ObjectKey::namespaced(namespace, name.as_str());
        let object = match client.get::<K>(&key)? {
            Some(object) => Some(object),
            None => client.get_live(&key).await?,
        };
        found.extend(object.map(|object| (name, object)));
    }
    Ok(found)
}

/// The tokens of a pod.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<BTreeMap<TokenWanted, Issued>>);

#[derive(Clone, Debug)]
struct Issued {
    token: String,
    renewal: Instant,
}

impl Tokens {
    /// The tokens that a pod's volumes hold, asked for or renewed as it takes.
    ///
    /// # Errors
    /// If one can't be had. One that was issued before serves until then.
    pub async fn of(&self, pod: &Pod, client: &Client) -> Result<BTreeMap<TokenWanted, String>, kube::Error> {
        let volumes = pod.spec.iter().flat_map(|spec| &spec.volumes).flatten();
        let wanted: BTreeSet<TokenWanted> = volumes.flat_map(tokens_wanted).collect();
        let mut tokens = BTreeMap::new();
        for wanted in wanted {
            let known = self.0.lock().get(&wanted).cloned();
            let token = match known {
                Some(known) if known.renewal > Instant::now() => known.token,
                known => match (request(pod, &wanted, client).await, known) {
                    (Ok(issued), _) => {
                        let token = issued.token.clone();
                        self.0.lock().insert(wanted.clone(), issued);
                        token
                    }
                    (Err(error), Some(known)) => {
                        tracing::warn!(%error, "failed to renew a token; the one before is kept");
                        let renewal = Instant::now() + AGAIN;
                        let token = known.token.clone();
                        self.0.lock().insert(wanted.clone(), Issued { renewal, ..known });
                        token
                    }
                    (Err(error), None) => return Err(error),
                },
            };
            tokens.insert(wanted, token);
        }
        Ok(tokens)
    }

    /// When the first of them is to be renewed.
    pub fn renewal(&self) -> Option<Instant> {
        self.0.lock().values().map(|issued| issued.renewal).min()
    }
}

async fn request(pod: &Pod, wanted: &TokenWanted, client: &Client) -> Result<Issued, kube::Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.as_deref())
        .filter(|name| !name.is_empty())
        .unwrap_or("default");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!wanted.audience.is_empty()).then(|| vec![wanted.audience.clone()]),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
            expiration_seconds: Some(wanted.seconds),
        }),
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.kube().clone(), namespace);
    let asked = Instant::now();
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await?;
    // The server may grant another time than was asked for.
    let seconds = answer.spec.and_then(|spec| spec.expiration_seconds);
    let seconds = seconds.unwrap_or(wanted.seconds);
    let lasts = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    Ok(Issued {
        token: answer.status.and_then(|status| status.token).unwrap_or_default(),
        renewal: asked + LONGEST.min(lasts * RENEWAL / 100),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_pod_refers_to_is_found() {
        let spec: PodSpec = serde_saphyr::from_str(
            "
            volumes:
            - {name: a, secret: {secretName: s1}}
            - {name: b, configMap: {name: c1}}
            - {name: c, projected: {sources: [{secret: {name: s2}}, {configMap: {name: c2}}]}}
            - {name: d, persistentVolumeClaim: {claimName: p1}}
            initContainers:
            - {name: i, envFrom: [{secretRef: {name: s3}}, {configMapRef: {name: c3}}]}
            containers:
            - name: c
              env:
              - {name: A, valueFrom: {secretKeyRef: {name: s4, key: k}}}
              - {name: B, valueFrom: {configMapKeyRef: {name: c4, key: k}}}
            ",
        )
        .unwrap();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(
            References::of(&spec),
            References {
                secrets: names(&["s1", "s2", "s3", "s4"]),
                config_maps: names(&["c1", "c2", "c3", "c4"]),
                claims: names(&["p1"]),
            }
        );
    }
}
