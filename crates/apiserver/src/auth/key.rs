//! The key that signs the tokens of service accounts.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt;

/// What a public key on P-256 starts with in its DER form: the algorithm, and the length of the point.
const PUBLIC_KEY_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It could not be made, or read from its PEM form.
    #[error("failed to make or read a key")]
    Key(#[from] rcgen::Error),
    /// It is of another kind than ECDSA on P-256.
    #[error("failed to use a key to sign: {0}; make one with `openssl ecparam -name prime256v1 -genkey`")]
    Kind(ring::error::KeyRejected),
}

/// The key that signs tokens of service accounts: ECDSA on P-256.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
    pem: String,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

impl SigningKey {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        Self::of(&KeyPair::generate()?)
    }

    /// A key from its PEM form (PKCS#8).
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        Self::of(&KeyPair::from_pem(pem)?)
    }

    /// The PEM form (PKCS#8), for [`SigningKey::from_pem`].
    pub fn to_pem(&self) -> &str {
        &self.pem
    }

    fn of(key: &KeyPair) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der(), &random)
            .map_err(KeyError::Kind)?;
        let mut hash = Sha256::new();
        hash.update(PUBLIC_KEY_PREFIX);
        hash.update(pair.public_key());
        Ok(Self {
            id: URL_SAFE_NO_PAD.encode(hash.finalize()),
            pair,
            random,
            pem: key.serialize_pem(),
        })
    }

    /// A token with these claims; none where there is no randomness to be had.
    pub(super) fn sign(&self, claims: &[u8]) -> Option<String> {
        let header = json!({"alg": "ES256", "kid": self.id}).to_string();
        let mut token = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = self.pair.sign(&self.random, token.as_bytes()).ok()?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Some(token)
    }

    /// Whether a key id is that of this key.
    pub(super) fn is(&self, id: &str) -> bool {
        self.id == id
    }

    /// Whether a signature is of this message, and by this key.
    pub(super) fn verify(&self, message: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key())
            .verify(message.as_bytes(), signature)
            .is_ok()
    }

    /// The public key as a JSON Web Key.
    pub(super) fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        // One byte says that both halves follow.
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        json!({
            "use": "sig",
            "kty": "EC",
            "kid": self.id,
            "crv": "P-256",
            "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_message_and_one_key() {
        let key = SigningKey::generate().unwrap();
        let same = SigningKey::from_pem(key.to_pem()).unwrap();
        let other = SigningKey::generate().unwrap();
        let token = key.sign(b"{}").unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(same.verify(message, &signature) && same.is(&key.id));
        assert!(!other.verify(message, &signature) && !other.is(&key.id));
        assert!(!key.verify(&message[1..], &signature));
        assert!(!key.verify(message, &signature[1..]));
    }

    #[test]
    fn the_id_is_a_hash_of_the_public_key_in_its_der_form() {
        let key = SigningKey::generate().unwrap();
        let der = KeyPair::from_pem(key.to_pem()).unwrap();
        let hash = Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&der));
        assert_eq!(key.id, URL_SAFE_NO_PAD.encode(hash));
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let error = SigningKey::from_pem(&other.serialize_pem()).unwrap_err();
        assert!(matches!(error, KeyError::Kind(_)), "{error}");
        assert!(SigningKey::from_pem("nonsense").is_err());
    }
}
