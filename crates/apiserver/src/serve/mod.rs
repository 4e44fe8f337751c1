//! The server on TLS over TCP, for clients that are not in this process.

mod pki;

use crate::auth::User;
use crate::kubelet::{KubeletClient, KubeletClientError};
use crate::server::{ApiServer, ApiService, Inner};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
pub(crate) use pki::Authority;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How long connections are waited for when the server stops.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Requests and watches of one connection at a time.
const STREAMS: u32 = 1000;

/// Who the server is for kubelets.
const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

/// Why the server could not be put on the network.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be listened on; mostly the port is taken.
    #[error("failed to listen on {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificates could not be made.
    #[error("failed to make certificates")]
    Certificate(#[from] rcgen::Error),
    /// The certificates could not be used.
    #[error("failed to set up TLS")]
    Tls(#[from] rustls::Error),
    /// Clients' certificates could not be checked against the authority.
    #[error("failed to set up the verification of clients")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// There is no way to kubelets.
    #[error("failed to set up the way to kubelets")]
    Kubelets(#[from] KubeletClientError),
}

/// A server that listens. Dropping it stops it at once; [`Serving::stop`] lets calls in flight end.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    authority: Arc<Authority>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Serves on `address` (port 0: any that is free) with a certificate authority of its own, which a server with a
    /// data folder keeps there. Clients are known by certificates of that authority (the common name is the user,
    /// organisations are the groups) or by the bearer tokens of the builder; who is not known is `system:anonymous`,
    /// who may read health and version.
    pub async fn serve(&self, address: SocketAddr) -> Result<Serving, ServeError> {
        let listening = TcpListener::bind(address).await;
        let listener = listening.map_err(|source| ServeError::Listen { address, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| ServeError::Listen { address, source })?;
        let authority = match &self.inner.authority {
            Some(authority) => authority.clone(),
            None => Arc::new(Authority::new(self.inner.clock)?),
        };
        if self.inner.kubelets.get().is_none() {
            let shown = authority.client(&User::new(KUBELET_CLIENT, ["system:masters"]))?;
            let client = KubeletClient::new(Some((&shown.certificate, &shown.key)), None)?;
            // Another that is served at the same time may have been first.
            let _ = self.inner.kubelets.set(client);
        }
        let acceptor = TlsAcceptor::from(Arc::new(authority.server_config(address.ip())?));
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(self.inner.clone(), listener, acceptor, stop.clone()));
        Ok(Serving {
            address,
            authority,
            stop,
            task: Some(task),
        })
    }
}

impl Serving {
    /// `https://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the authority, for clients to trust, as PEM.
    pub fn ca_pem(&self) -> String {
        self.authority.certificate()
    }

    /// A kubeconfig (JSON, which is YAML too) of an administrator.
    pub fn kubeconfig(&self) -> Result<String, ServeError> {
        self.kubeconfig_for(&User::admin())
    }

    /// A kubeconfig with a certificate, valid for a year, of this user.
    pub fn kubeconfig_for(&self, user: &User) -> Result<String, ServeError> {
        use base64::Engine;
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let client = self.authority.client(user)?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "clusterwright", "cluster": {
                "server": self.url(),
                "certificate-authority-data": base64(&self.ca_pem()),
            }}],
            "users": [{"name": user.name, "user": {
                "client-certificate-data": base64(&client.certificate),
                "client-key-data": base64(&client.key),
            }}],
            "contexts": [{"name": "clusterwright", "context": {
                "cluster": "clusterwright",
                "user": user.name,
                "namespace": "default",
            }}],
            "current-context": "clusterwright",
        });
        let mut text = format!("{config:#}");
        text.push('\n');
        Ok(text)
    }

    /// Stops: no new connections, watches end, calls in flight get five seconds.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // The task was neither aborted, nor does it panic.
            let _ = task.await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn accept(inner: Arc<Inner>, listener: TcpListener, acceptor: TlsAcceptor, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match stream {
            Ok((stream, _)) => {
                let watcher = graceful.watcher();
                connections.spawn(connection(
                    inner.clone(),
                    stream,
                    acceptor.clone(),
                    stop.clone(),
                    watcher,
                ));
            }
            Err(error) => {
                // Mostly too many open files: wait for some to close.
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(PATIENCE, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still busy and are cut");
    }
    connections.shutdown().await;
}

async fn connection(
    inner: Arc<Inner>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    stop: CancellationToken,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Small answers should leave at once; a socket that refuses the option works without.
    let _ = stream.set_nodelay(true);
    let tls = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "failed to shake hands with a client"),
        Err(_) => return tracing::debug!("a client took too long to shake hands"),
    };
    let user = tls
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(|certificate| pki::user_of(certificate))
        .unwrap_or_else(User::anonymous);
    let service = TowerToHyperService::new(ApiService::on_network(inner, user, stop));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS);
    let served = builder
        .serve_connection_with_upgrades(TokioIo::new(tls), service)
        .into_owned();
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
