//! Who may ask the endpoints: known by a certificate or a token, and allowed by the API server.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use http::Method;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long a good answer of the API server's holds.
const KEPT: Duration = Duration::from_secs(30);
/// So many answers are kept at most.
const MOST: usize = 256;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// The name.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nobody knows who it is.
    Unauthorized,
    /// It may not do that, in a kubelet's words.
    Forbidden(String),
    /// It could not be found out.
    Failed(String),
}

/// Decides who is let in.
pub struct Access {
    node: String,
    /// What asks the API server. Without it, whoever has a certificate of the authority is let in, and nobody else.
    client: Option<kube::Client>,
    users: Kept<[u8; 32], User>,
    allowed: Kept<(User, &'static str), ()>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// As the API server says; without a client to ask it, only certificates count.
    pub fn new(node: String, client: Option<kube::Client>) -> Self {
        Self {
            node,
            client,
            users: Kept::default(),
            allowed: Kept::default(),
        }
    }

    /// Whether a request is let in: by whom the certificate is, or the token.
    pub async fn decide(
        &self,
        method: &Method,
        certificate: Option<&User>,
        token: Option<&str>,
    ) -> Result<(), Denied> {
        let user = match (certificate, token) {
            (Some(user), _) => user.clone(),
            (None, Some(token)) => self.authenticate(token).await?,
            (None, None) => return Err(Denied::Unauthorized),
        };
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "get",
        };
        self.authorize(user, verb).await
    }

    async fn authenticate(&self, token: &str) -> Result<User, Denied> {
        let client = self.client.as_ref().ok_or(Denied::Unauthorized)?;
        // What is kept is no token.
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(user) = self.users.get(&key) {
            return Ok(user);
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let reviews = Api::<TokenReview>::all(client.clone());
        let review = reviews.create(&PostParams::default(), &review).await;
        let status = review.map_err(|error| failed(&error))?.status.unwrap_or_default();
        let user = status
            .user
            .filter(|_| status.authenticated == Some(true))
            .ok_or(Denied::Unauthorized)?;
        let user = User {
            name: user.username.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        };
        self.users.keep(key, user.clone());
        Ok(user)
    }

    async fn authorize(&self, user: User, verb: &'static str) -> Result<(), Denied> {
        let Some(client) = &self.client else {
            return Ok(());
        };
        let key = (user, verb);
        if self.allowed.get(&key).is_some() {
            return Ok(());
        }
        let user = &key.0;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some("proxy".to_owned()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews = Api::<SubjectAccessReview>::all(client.clone());
        let review = reviews.create(&PostParams::default(), &review).await;
        if review
            .map_err(|error| failed(&error))?
            .status
            .is_some_and(|status| status.allowed)
        {
            self.allowed.keep(key, ());
            return Ok(());
        }
        Err(Denied::Forbidden(format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[proxy])",
            user.name
        )))
    }
}

fn failed(error: &kube::Error) -> Denied {
    Denied::Failed(format!("failed to ask the API server: {error}"))
}

/// Whom a client certificate is of: the common name is the user, organizations are groups. It has been verified.
pub fn user_of(certificate: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization();
    let groups = groups.filter_map(|group| group.as_str().ok().map(str::to_owned));
    Some(User {
        name,
        groups: groups
            .chain(std::iter::once("system:authenticated".to_owned()))
            .collect(),
    })
}

/// Answers, for a while.
struct Kept<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let kept = self.0.lock();
        let (since, value) = kept.get(key)?;
        (since.elapsed() < KEPT).then(|| value.clone())
    }

    fn keep(&self, key: K, value: V) {
        let mut kept = self.0.lock();
        if kept.len() >= MOST {
            kept.retain(|_, (since, _)| since.elapsed() < KEPT);
        }
        if kept.len() < MOST {
            kept.insert(key, (Instant::now(), value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_hold_for_a_while_and_are_bounded() {
        let kept = Kept::default();
        for key in 0..1000 {
            kept.keep(key, ());
        }
        assert_eq!(kept.0.lock().len(), MOST);
        assert!(kept.get(&0).is_some());
        tokio::time::advance(KEPT).await;
        assert!(kept.get(&0).is_none());
        kept.keep(1000, ());
        assert_eq!(kept.0.lock().len(), 1);
    }

    #[tokio::test]
    async fn without_an_api_server_only_certificates_count() {
        let access = Access::new("node".to_owned(), None);
        let user = User::default();
        assert_eq!(access.decide(&Method::GET, Some(&user), None).await, Ok(()));
        let unknown = Err(Denied::Unauthorized);
        assert_eq!(access.decide(&Method::GET, None, Some("token")).await, unknown);
        assert_eq!(access.decide(&Method::GET, None, None).await, unknown);
    }

    #[test]
    fn certificates_say_who_it_is() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "kube-apiserver-kubelet-client");
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "system:masters");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let user = user_of(certificate.der()).unwrap();
        assert_eq!(user.name, "kube-apiserver-kubelet-client");
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
        assert_eq!(user_of(b"nothing"), None);
    }
}
