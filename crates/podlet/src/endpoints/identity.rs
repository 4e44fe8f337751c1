//! What the endpoints show to those who connect, and how they know those.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A serving certificate and its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// What is given is no PEM.
    #[error("failed to read the PEM of the {what}")]
    Pem {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// No certificate could be made.
    #[error("failed to make a serving certificate")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not fit, or the authority is none.
    #[error("failed to set up TLS for the kubelet's endpoints")]
    Tls(#[from] rustls::Error),
    /// No client could be verified by this authority.
    #[error("failed to verify clients by the authority given")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// One of its own making, as a kubelet's without `--tls-cert-file`: signed by itself, for the node's name and
    /// addresses.
    ///
    /// # Errors
    /// If a name can't be in a certificate.
    pub fn self_signed(node: &str, addresses: &[IpAddr]) -> Result<Self, IdentityError> {
        let addresses = addresses.iter().map(ToString::to_string);
        let names: Vec<String> = std::iter::once(node.to_owned()).chain(addresses).collect();
        let made = rcgen::generate_simple_self_signed(names)?;
        Ok(Self {
            chain: vec![made.cert.into()],
            key: PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()),
        })
    }

    /// This certificate, with what it was signed by, and key; both PEM.
    ///
    /// # Errors
    /// If they are no PEM.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
        Ok(Self {
            chain: certificates(certificate, "certificate")?,
            key: key.map_err(|source| IdentityError::Pem { what: "key", source })?,
        })
    }

    /// TLS with this identity. Clients may show a certificate of the authority (PEM).
    pub(super) fn tls(self, authority: Option<&str>) -> Result<ServerConfig, IdentityError> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match authority {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(authority, "authority")? {
                    roots.add(certificate)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            }
            None => builder.with_no_client_auth(),
        };
        Ok(builder.with_single_cert(self.chain, self.key)?)
    }
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| IdentityError::Pem { what, source })
}
