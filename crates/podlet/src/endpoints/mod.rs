//! A kubelet's endpoints: logs, commands in containers and forwarded ports, by HTTPS, for the API server and whoever it
//! lets do the same.

mod access;
mod answer;
mod exec;
mod identity;
mod log_options;
mod log_reader;
mod logs;
mod port_forward;
mod remote;
mod spdy;
mod streams;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clusterwright_clock::Clock;
use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

pub use self::access::Access;
use self::access::{Denied, User, user_of};
use self::answer::{Body, said};
pub use self::identity::{Identity, IdentityError};
use crate::isolation::Isolation;
use crate::registry::{Entry, Registry};

/// How long somebody may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A listener that fails, because this process has too many files open, is tried again after this.
const PAUSE: Duration = Duration::from_millis(50);

/// What the endpoints serve.
#[derive(Clone, Debug)]
pub struct Served {
    /// The pods.
    pub registry: Registry,
    /// What runs them.
    pub isolation: Arc<Isolation>,
    /// The time.
    pub clock: Clock,
}

/// The endpoints. They end when this is dropped; what is being served goes on.
#[derive(Debug)]
pub struct Endpoints {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Why the endpoints did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing can listen there.
    #[error("failed to listen at {address} for the kubelet's endpoints")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS could not be set up.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Endpoints {
    /// Serves pods at an address of the machine's: port 0 is one that is free. `authority` (PEM) is that of client
    /// certificates.
    ///
    /// # Errors
    /// If it can't listen there, or TLS can't be set up.
    pub async fn start(
        address: SocketAddr,
        identity: Identity,
        authority: Option<&str>,
        access: Access,
        served: Served,
    ) -> Result<Self, StartError> {
        let tls = TlsAcceptor::from(Arc::new(identity.tls(authority)?));
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Server { access, served });
        Ok(Self {
            address,
            task: tokio::spawn(accept(listener, tls, shared)),
        })
    }

    /// Where they are: the node's status says so.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, tls.clone(), server.clone()));
            }
            Err(error) => {
                tracing::debug!(%error, "failed to accept a connection to the kubelet's endpoints");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, tls: TlsAcceptor, server: Arc<Server>) {
    // Keys that are typed are not to wait. Sockets that refuse it work without.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "somebody failed to shake hands"),
        Err(_) => return tracing::debug!("somebody took too long to shake hands"),
    };
    let certificate = stream.get_ref().1.peer_certificates();
    let user = certificate.and_then(|chain| user_of(chain.first()?));
    let service = service_fn(move |request| {
        let (server, user) = (server.clone(), user.clone());
        async move { Ok::<_, std::convert::Infallible>(server.answer(request, user).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the kubelet's endpoints broke off");
    }
}

struct Server {
    access: Access,
    served: Served,
}

impl Server {
    async fn answer(&self, request: Request<Incoming>, user: Option<User>) -> Response<Body> {
        let token = request.headers().get(AUTHORIZATION);
        let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        match self.access.decide(request.method(), user.as_ref(), token).await {
            Ok(()) => {}
            Err(Denied::Unauthorized) => return said(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Err(Denied::Forbidden(why)) => return said(StatusCode::FORBIDDEN, why),
            Err(Denied::Failed(why)) => return said(StatusCode::INTERNAL_SERVER_ERROR, why),
        }
        let path = request.uri().path().trim_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        let stream = matches!(*request.method(), Method::GET | Method::POST);
        match parts.as_slice() {
            ["healthz"] => said(StatusCode::OK, "ok"),
            ["containerLogs", namespace, pod, container] if request.method() == Method::GET => {
                match self.served.registry.find(namespace, pod, None) {
                    Some(entry) => logs::answer(&self.served, entry, container, request.uri().query()).await,
                    None => said(StatusCode::NOT_FOUND, format!("pod {pod:?} does not exist")),
                }
            }
            [way @ ("exec" | "attach"), namespace, pod, rest @ .., container]
                if stream && rest.len() <= 1 =>
            {
                match self.find(namespace, pod, rest) {
                    Some(entry) => remote::answer(&self.served, &entry, way, container, request),
                    None => said(StatusCode::NOT_FOUND, "pod does not exist"),
                }
            }
            ["portForward", namespace, pod, rest @ ..] if stream && rest.len() <= 1 => {
                match self.find(namespace, pod, rest) {
                    Some(entry) => remote::forward(&self.served, entry, request),
                    None => said(StatusCode::NOT_FOUND, "pod does not exist"),
                }
            }
            _ => said(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    /// The pod of this name, of the uid if one is given.
    fn find(&self, namespace: &str, pod: &str, uid: &[&str]) -> Option<Arc<Entry>> {
        self.served.registry.find(namespace, pod, uid.first().copied())
    }
}

/// The parameters of a request.
fn parameters(query: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .into_owned()
        .collect()
}
