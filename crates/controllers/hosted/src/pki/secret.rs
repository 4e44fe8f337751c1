//! Certificates and keys in Secrets.

use std::collections::BTreeMap;

use clusterwright_api::meta;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::certificate::Pair;

/// The key of the certificate, or of the service account's public key.
pub(super) const CERTIFICATE: &str = "tls.crt";
/// The key of the private key.
pub(super) const KEY: &str = "tls.key";

/// Why a Secret gives no certificate and key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// A key of the Secret is not there.
    #[error("failed to find the key {0}")]
    Missing(&'static str),
    /// What is there is no text.
    #[error("failed to read {0} as text")]
    NotText(&'static str),
}

impl Pair {
    /// The certificate and key in a Secret.
    pub(super) fn of(secret: &Secret) -> Result<Self, SecretError> {
        Ok(Self {
            certificate: text(secret, CERTIFICATE)?,
            key: text(secret, KEY)?,
        })
    }

    fn data(&self) -> BTreeMap<String, ByteString> {
        BTreeMap::from([
            (
                CERTIFICATE.to_owned(),
                ByteString(self.certificate.clone().into_bytes()),
            ),
            (KEY.to_owned(), ByteString(self.key.clone().into_bytes())),
        ])
    }
}

fn text(secret: &Secret, key: &'static str) -> Result<String, SecretError> {
    let bytes = secret
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .ok_or(SecretError::Missing(key))?;
    String::from_utf8(bytes.0.clone()).map_err(|_| SecretError::NotText(key))
}

/// The Secret of a root or of the service account's key pair, of the contract's type.
pub fn root_secret(metadata: ObjectMeta, pair: &Pair) -> Secret {
    Secret {
        metadata,
        type_: Some(meta::CLUSTER_SECRET_TYPE.to_owned()),
        data: Some(pair.data()),
        ..Secret::default()
    }
}

/// The Secret of a leaf: the one that is there with the new pair, or a new one.
pub(super) fn leaf_secret(metadata: ObjectMeta, existing: Option<&Secret>, pair: &Pair) -> Secret {
    let mut secret = existing.cloned().unwrap_or_else(|| Secret {
        metadata,
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    });
    secret.data = Some(pair.data());
    secret
}
