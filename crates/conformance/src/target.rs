//! The servers that scenarios run against.

use anyhow::Context;
use bytes::Bytes;
use clusterwright_testkit::ControlPlane;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_util::rt::TokioIo;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::pem::PemObject as _,
        pki_types::{CertificateDer, ServerName},
    },
};

/// The body of an answer, which may be an endless stream.
pub type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// A server that answers plain HTTP.
pub trait Target: Send + Sync {
    /// Sends one request; its path has no host.
    fn call(&self, request: Request<Full<Bytes>>) -> BoxFuture<'_, anyhow::Result<Response<Body>>>;

    /// The administrator's bearer token.
    fn token(&self) -> &str;

    /// A kubeconfig of the administrator, where the server can be reached by TLS.
    fn kubeconfig(&self) -> Option<PathBuf>;

    /// How long a step may take, waiting for what happens by and by included.
    fn patience(&self) -> Duration;
}

/// A real etcd and kube-apiserver.
pub struct Real {
    tls: TlsConnector,
    address: String,
    token: &'static str,
    kubeconfig: PathBuf,
    control_plane: Arc<Mutex<ControlPlane>>,
}

/// The controllers that run beside the server for scenarios with `controllers: true`.
const CONTROLLERS: [&str; 11] = [
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
];

impl Real {
    /// Starts the pinned components.
    ///
    /// # Errors
    /// When one is missing or does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        let control_plane = tokio::task::spawn_blocking(|| ControlPlane::builder().start()).await??;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(control_plane.ca().as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: Arc::new(tls).into(),
            address: control_plane.url().trim_start_matches("https://").to_owned(),
            token: control_plane.token(),
            kubeconfig: control_plane.kubeconfig(),
            control_plane: Arc::new(Mutex::new(control_plane)),
        })
    }

    /// Starts the controllers beside it.
    ///
    /// # Errors
    /// When kube-controller-manager is missing or does not come up.
    pub async fn start_controllers(&self) -> anyhow::Result<()> {
        let control_plane = self.control_plane.clone();
        let start = move || {
            let mut control_plane = control_plane.lock().unwrap_or_else(PoisonError::into_inner);
            control_plane.start_controller_manager(&CONTROLLERS)
        };
        Ok(tokio::task::spawn_blocking(start).await??)
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Response<Body>> {
        let tcp = TcpStream::connect(&self.address)
            .await
            .context("failed to connect")?;
        tcp.set_nodelay(true)?;
        let tls = self
            .tls
            .connect(ServerName::try_from("127.0.0.1")?, tcp)
            .await
            .context("failed in TLS")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
        // The connection ends with the answer's body; its errors show there.
        tokio::spawn(connection);
        request
            .headers_mut()
            .insert(http::header::HOST, self.address.parse()?);
        let answer = sender
            .send_request(request)
            .await
            .context("failed to send a request")?;
        Ok(answer.map(|body| {
            // The sender lives as long as the body, since dropping it may end the connection.
            body.map_err(move |error| {
                let _alive = &sender;
                anyhow::Error::new(error)
            })
            .boxed_unsync()
        }))
    }
}

impl Target for Real {
    fn call(&self, request: Request<Full<Bytes>>) -> BoxFuture<'_, anyhow::Result<Response<Body>>> {
        Box::pin(self.send(request))
    }

    fn token(&self) -> &str {
        self.token
    }

    fn kubeconfig(&self) -> Option<PathBuf> {
        Some(self.kubeconfig.clone())
    }

    fn patience(&self) -> Duration {
        // The garbage collector looks for new kinds every 30 s, and a start of kubectl may find the machine busy.
        Duration::from_secs(100)
    }
}
