//! etcd's JSON gateway, through the API server's port-forward to a member's pod: it works from inside and outside of
//! the management cluster, and passes no network policy by.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::CLIENT_PORT;
use super::membership::{Answer, Contact, Credentials, Membership, MembershipError};
use super::plan::{Member, View};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer is at most this long.
const LONGEST: usize = 1 << 20;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Members that are reached by port-forward.
#[derive(Clone)]
pub struct PortForward {
    client: kube::Client,
}

#[derive(Deserialize)]
struct MemberList {
    members: Vec<ListedMember>,
}

/// As protobuf's JSON has it: numbers of 64 bits are text, and what is zero is left out.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ListedMember {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(rename = "isLearner")]
    is_learner: bool,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    leader: String,
}

#[derive(Deserialize)]
struct Added {
    member: ListedMember,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl PortForward {
    /// Through this client, whose connections have to be able to be upgraded.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    async fn ask(&self, at: &Contact, request: &'static str, body: Value) -> Result<Value, MembershipError> {
        let unreachable = |source| MembershipError::Reach {
            pod: at.pod.clone(),
            source,
        };
        let (ok, answer) = tokio::time::timeout(PATIENCE, self.exchange(at, request, body))
            .await
            .map_err(|_| MembershipError::Timeout(at.pod.clone()))?
            .map_err(unreachable)?;
        if ok {
            return serde_json::from_slice(&answer).map_err(|_| MembershipError::Malformed(request));
        }
        let message = serde_json::from_slice::<Refusal>(&answer).map_or_else(
            |_| String::from_utf8_lossy(&answer).into_owned(),
            |refusal| refusal.message,
        );
        Err(MembershipError::Refused { request, message })
    }

    async fn exchange(
        &self,
        at: &Contact,
        request: &'static str,
        body: Value,
    ) -> Result<(bool, Bytes), BoxError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &at.namespace);
        let mut forwarder = pods.portforward(&at.pod, &[CLIENT_PORT]).await?;
        let stream = forwarder
            .take_stream(CLIENT_PORT)
            .ok_or("the port was not forwarded")?;
        let name = ServerName::try_from(at.host.clone())?;
        let tls = TlsConnector::from(Arc::new(trust(&at.credentials)?))
            .connect(name, stream)
            .await;
        let tls = match tls {
            Ok(tls) => tls,
            // The pod's own words say more than that the stream ended.
            Err(error) => {
                let said = forwarder
                    .take_error(CLIENT_PORT)
                    .and_then(|said| said.now_or_never().flatten());
                return Err(said.map_or_else(|| error.into(), BoxError::from));
            }
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v3/{request}"))
            .header(header::HOST, &at.host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let response = sender.send_request(request).await?;
        let ok = response.status().is_success();
        let answer = Limited::new(response.into_body(), LONGEST)
            .collect()
            .await?
            .to_bytes();
        connection.abort();
        Ok((ok, answer))
    }
}

fn trust(credentials: &Credentials) -> Result<ClientConfig, BoxError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(credentials.authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(credentials.certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes())?;
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain?, key)?;
    Ok(config)
}

impl Membership for PortForward {
    fn view<'a>(&'a self, at: &'a Contact, names: &'a [(String, String)]) -> Answer<'a, View> {
        async move {
            const LIST: &str = "cluster/member/list";
            const STATUS: &str = "maintenance/status";
            let list = self.ask(at, LIST, json!({"linearizable": true})).await?;
            let list: MemberList = read(LIST, list)?;
            let status: Status = read(STATUS, self.ask(at, STATUS, json!({})).await?)?;
            let members: Result<Vec<Member>, MembershipError> = list
                .members
                .into_iter()
                .map(|member| {
                    let name = names
                        .iter()
                        .find(|(_, url)| member.peer_urls.contains(url))
                        .map(|(name, _)| name.clone());
                    Ok(Member {
                        id: number(LIST, &member.id)?,
                        name,
                        learner: member.is_learner,
                        started: !member.name.is_empty(),
                    })
                })
                .collect();
            Ok(View {
                members: members?,
                leader: number(STATUS, &status.leader)?,
            })
        }
        .boxed()
    }

    fn add<'a>(&'a self, at: &'a Contact, (_, peer_url): (&'a str, &'a str)) -> Answer<'a, u64> {
        async move {
            const ADD: &str = "cluster/member/add";
            let body = json!({"peerURLs": [peer_url], "isLearner": true});
            let added: Added = read(ADD, self.ask(at, ADD, body).await?)?;
            number(ADD, &added.member.id)
        }
        .boxed()
    }

    fn promote<'a>(&'a self, at: &'a Contact, id: u64) -> Answer<'a, ()> {
        self.order(at, "cluster/member/promote", json!({"ID": id.to_string()}))
    }

    fn remove<'a>(&'a self, at: &'a Contact, id: u64) -> Answer<'a, ()> {
        self.order(at, "cluster/member/remove", json!({"ID": id.to_string()}))
    }

    fn move_leader<'a>(&'a self, at: &'a Contact, to: u64) -> Answer<'a, ()> {
        let body = json!({"targetID": to.to_string()});
        self.order(at, "maintenance/transfer-leadership", body)
    }
}

impl PortForward {
    fn order<'a>(&'a self, at: &'a Contact, request: &'static str, body: Value) -> Answer<'a, ()> {
        async move { self.ask(at, request, body).await.map(drop) }.boxed()
    }
}

fn read<T: serde::de::DeserializeOwned>(request: &'static str, answer: Value) -> Result<T, MembershipError> {
    serde_json::from_value(answer).map_err(|_| MembershipError::Malformed(request))
}

/// A number of 64 bits as text; zero is left out.
fn number(request: &'static str, text: &str) -> Result<u64, MembershipError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| MembershipError::Malformed(request))
}
