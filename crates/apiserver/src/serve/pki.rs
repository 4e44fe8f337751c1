//! The server's own certificate authority, valid by the server's clock.

use super::ServeError;
use crate::auth::User;
use clusterwright_clock::Clock;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const YEAR: Duration = Duration::from_hours(365 * 24);

/// A certificate and its key, as PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// The authority that the server and its clients have in common.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    clock: Clock,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

/// Parameters of a certificate that starts an hour ago and lasts this long.
fn params(clock: Clock, name: &str, lasts: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let since = u64::try_from(clock.now().as_second()).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(since).saturating_sub(HOUR);
    params.not_after = epoch + Duration::from_secs(since).saturating_add(lasts);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    pub(crate) fn new(clock: Clock) -> Result<Self, ServeError> {
        let mut params = params(clock, "clusterwright-apiserver", 10 * YEAR);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.into(),
            issuer: Issuer::new(params, key),
            clock,
        })
    }

    /// One that was made before, from the PEM of its certificate and its key.
    pub(crate) fn from_pem(pem: &str, clock: Clock) -> Result<Self, ServeError> {
        let key = KeyPair::from_pem(pem)?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let start = pem.find("-----BEGIN CERTIFICATE").unwrap_or_default();
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate,
            pem: pem[start..].to_owned(),
            clock,
        })
    }

    /// Key and certificate, for [`Authority::from_pem`].
    pub(crate) fn to_pem(&self) -> String {
        self.issuer.key().serialize_pem() + &self.pem
    }

    pub(super) fn certificate(&self) -> String {
        self.pem.clone()
    }

    fn leaf(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<(CertificateDer<'static>, Pair, Vec<u8>), ServeError> {
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pair = Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        };
        Ok((certificate.der().clone(), pair, key.serialize_der()))
    }

    /// A certificate of a user.
    pub(super) fn client(&self, user: &User) -> Result<Pair, ServeError> {
        let mut params = params(self.clock, &user.name, YEAR);
        let groups = user
            .groups
            .iter()
            .filter(|group| *group != "system:authenticated");
        // A name holds one value of each type in rcgen: the first group, which is all that clients here have.
        for group in groups.take(1) {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let (_, pair, _) = self.leaf(params, ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(pair)
    }

    /// TLS for a server at `address`, which asks clients for certificates of this authority.
    pub(super) fn server_config(&self, address: IpAddr) -> Result<ServerConfig, ServeError> {
        let mut params = params(self.clock, "kube-apiserver", YEAR);
        params.subject_alt_names = vec![
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(address),
            SanType::DnsName("localhost".try_into()?),
            SanType::DnsName("kubernetes.default.svc".try_into()?),
        ];
        let (certificate, _, key) = self.leaf(params, ExtendedKeyUsagePurpose::ServerAuth)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()?;
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(Time(self.clock)))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.into()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The server's clock as rustls asks for it.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// The user that a verified certificate names.
pub(super) fn user_of(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok());
    Some(User::new(name, groups))
}
