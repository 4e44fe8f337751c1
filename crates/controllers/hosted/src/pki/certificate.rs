//! Making and reading single certificates.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{BACKDATE, Profile, ROOT_VALIDITY, Root};

/// Why a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Making it failed.
    #[error("failed to make a certificate")]
    Make(#[from] rcgen::Error),
    /// The text is no certificate.
    #[error("failed to read a certificate: {0}")]
    Read(&'static str),
    /// The text is no private key.
    #[error("failed to read a private key (PKCS#8 in PEM is read: BEGIN PRIVATE KEY)")]
    ReadKey(#[source] rcgen::Error),
    /// A name can't stand in a certificate.
    #[error("failed to use {0:?} as a name in a certificate")]
    Name(String),
}

/// A private key and the certificate, or the bare public key, that belongs to it; both PEM.
///
/// It has no `Debug`, so that no log can hold the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Makes a root.
pub(super) fn make_root(root: Root, now: Timestamp) -> Result<Pair, CertificateError> {
    let key = KeyPair::generate()?;
    let start = now.as_second() - whole_seconds(BACKDATE);
    let end = now.as_second().saturating_add(whole_seconds(ROOT_VALIDITY));
    let mut params = params(root.common_name(), None, start, end);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.subject_alt_names = vec![dns(root.common_name())?];
    params.serial_number = Some(serial(&key, now));
    Ok(Pair {
        certificate: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a leaf below a root. It begins when the root did, so that it holds at once however far this clock is ahead of
/// others; it ends no later than the root does.
pub(super) fn make_leaf(
    profile: &Profile,
    root: &Pair,
    now: Timestamp,
    life: Duration,
) -> Result<Pair, CertificateError> {
    let issuer_facts = Facts::read(&root.certificate)?;
    let issuer = Issuer::from_ca_cert_pem(&root.certificate, read_key(&root.key)?)?;
    let key = KeyPair::generate()?;
    let now_seconds = now.as_second();
    let start = (now_seconds - whole_seconds(BACKDATE)).min(issuer_facts.not_before);
    let end = now_seconds
        .saturating_add(whole_seconds(life))
        .min(issuer_facts.not_after);
    let mut params = params(&profile.common_name, profile.organization.as_deref(), start, end);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    if profile.server {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if profile.client {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    for name in &profile.names.dns {
        params.subject_alt_names.push(dns(name)?);
    }
    params
        .subject_alt_names
        .extend(profile.names.ips.iter().copied().map(SanType::IpAddress));
    params.serial_number = Some(serial(&key, now));
    Ok(Pair {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a key pair without a certificate, for signing service account tokens.
pub(super) fn make_key_pair() -> Result<Pair, CertificateError> {
    let key = KeyPair::generate()?;
    Ok(Pair {
        certificate: key.public_key_pem(),
        key: key.serialize_pem(),
    })
}

pub(super) fn read_key(pem: &str) -> Result<KeyPair, CertificateError> {
    KeyPair::from_pem(pem).map_err(CertificateError::ReadKey)
}

fn params(common_name: &str, organization: Option<&str>, start: i64, end: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(organization) = organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, common_name);
    let seconds = |time: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(time.max(0).cast_unsigned());
    params.not_before = seconds(start);
    params.not_after = seconds(end);
    params
}

pub(super) fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn dns(name: &str) -> Result<SanType, CertificateError> {
    let name = name
        .try_into()
        .map_err(|_| CertificateError::Name(name.to_owned()))?;
    Ok(SanType::DnsName(name))
}

/// A serial number that no other certificate has: 127 bits of a hash over the new key and the time.
fn serial(key: &KeyPair, now: Timestamp) -> SerialNumber {
    let mut hash = Sha256::new();
    hash.update(key.subject_public_key_info());
    hash.update(now.as_nanosecond().to_be_bytes());
    let mut bytes = hash.finalize()[..16].to_vec();
    // Positive, and never shorter than it looks.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from(bytes)
}

/// What a certificate says, as far as it is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Valid from, in seconds of the Unix epoch.
    pub not_before: i64,
    /// Valid until, in seconds of the Unix epoch.
    pub not_after: i64,
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organizations.
    pub organizations: BTreeSet<String>,
    /// DNS names.
    pub dns: BTreeSet<String>,
    /// IP addresses.
    pub ips: BTreeSet<IpAddr>,
    /// It may sign others.
    pub is_authority: bool,
    /// It may be shown by a server.
    pub server: bool,
    /// It may be shown by a client.
    pub client: bool,
    /// The public key, DER.
    pub(super) public_key: Vec<u8>,
}

impl Facts {
    /// Reads the first certificate of a PEM text.
    pub fn read(pem: &str) -> Result<Self, CertificateError> {
        with_certificate(pem, Self::of)
    }

    fn of(certificate: &X509Certificate<'_>) -> Self {
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().unwrap_or_default().to_owned()
        };
        let mut facts = Self {
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            common_name: certificate
                .subject()
                .iter_common_name()
                .next()
                .map(text)
                .unwrap_or_default(),
            organizations: certificate.subject().iter_organization().map(text).collect(),
            dns: BTreeSet::new(),
            ips: BTreeSet::new(),
            is_authority: certificate.is_ca(),
            server: false,
            client: false,
            public_key: certificate.public_key().raw.to_vec(),
        };
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => {
                        facts.dns.insert((*name).to_owned());
                    }
                    GeneralName::IPAddress(bytes) => facts.ips.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        if let Ok(Some(usage)) = certificate.extended_key_usage() {
            facts.server = usage.value.server_auth;
            facts.client = usage.value.client_auth;
        }
        facts
    }

    /// Whether the private key belongs to this certificate.
    pub(super) fn matches(&self, key: &KeyPair) -> bool {
        self.public_key == key.subject_public_key_info()
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn with_certificate<T>(
    pem: &str,
    read: impl FnOnce(&X509Certificate<'_>) -> T,
) -> Result<T, CertificateError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .map_err(|_| CertificateError::Read("no PEM block"))?;
    if block.label != "CERTIFICATE" {
        return Err(CertificateError::Read("the PEM block is no certificate"));
    }
    let (_, certificate) = X509Certificate::from_der(&block.contents)
        .map_err(|_| CertificateError::Read("the certificate is malformed"))?;
    Ok(read(&certificate))
}

/// Whether `root` signed `leaf`; both PEM.
pub fn signed_by(leaf: &str, root: &str) -> Result<bool, CertificateError> {
    with_certificate(leaf, |leaf| {
        with_certificate(root, |root| {
            leaf.issuer() == root.subject() && leaf.verify_signature(Some(root.public_key())).is_ok()
        })
    })?
}
