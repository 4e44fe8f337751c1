//! How the server proves itself to kubelets, and they to it.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::fmt;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why a client of kubelets could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KubeletClientError {
    /// A certificate or key is no PEM.
    #[error("failed to read the PEM of the {what}")]
    Pem {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key do not fit, or the authority is none.
    #[error("failed to set up TLS to kubelets")]
    Tls(#[from] rustls::Error),
}

/// What the server shows to kubelets, and what it asks of them.
#[derive(Clone)]
pub struct KubeletClient {
    connector: TlsConnector,
}

impl fmt::Debug for KubeletClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KubeletClient")
    }
}

impl KubeletClient {
    /// A client with this certificate and key (PEM), as `--kubelet-client-certificate` and `--kubelet-client-key`
    /// name them; by default it shows none. Kubelets must have a certificate of the authority (PEM), as with
    /// `--kubelet-certificate-authority`; by default any will do.
    ///
    /// # Errors
    /// When what is given is no PEM or cannot be used.
    pub fn new(identity: Option<(&str, &str)>, authority: Option<&str>) -> Result<Self, KubeletClientError> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = match authority {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(authority, "authority")? {
                    roots.add(certificate)?;
                }
                builder.with_root_certificates(roots)
            }
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone(algorithms))),
        };
        let config = match identity {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|source| KubeletClientError::Pem { what: "key", source })?;
                builder.with_client_auth_cert(certificates(certificate, "certificate")?, key)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Shakes hands with the kubelet of this host.
    pub(super) async fn handshake(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, std::io::Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, KubeletClientError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| KubeletClientError::Pem { what, source })
}

/// Takes any certificate, but sees that the other side has its key.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
