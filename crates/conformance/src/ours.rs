//! The in-process API server as a target: plain requests without a socket, kubectl by TLS.

use crate::target::{Body, Target};
use anyhow::Context;
use bytes::Bytes;
use clusterwright_apiserver::{
    ApiServer, ApiService, Serving, User,
    companions::{Companions, Stages},
};
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use std::{net::Ipv4Addr, path::PathBuf, time::Duration};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

/// The administrator's bearer token.
const TOKEN: &str = "conformance-admin";

/// Our server, and its listener where kubectl is to reach it.
pub struct Ours {
    service: ApiService,
    listener: Option<(Serving, TempDir)>,
    _companions: Option<DropGuard>,
}

impl Ours {
    /// Starts the server alone; with `listen`, on a loopback port too.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(listen: bool) -> anyhow::Result<Self> {
        let server = server();
        let listener = if listen {
            let serving = server
                .serve((Ipv4Addr::LOCALHOST, 0).into())
                .await
                .context("failed to listen")?;
            let folder = tempfile::tempdir()?;
            std::fs::write(folder.path().join("ca.crt"), serving.ca_pem())?;
            std::fs::write(folder.path().join("kubeconfig"), kubeconfig(&serving.url()))?;
            Some((serving, folder))
        } else {
            None
        };
        Ok(Self {
            service: server.service_as(User::anonymous()),
            listener,
            _companions: None,
        })
    }

    /// Starts the server with all companions beside it that do a controller's work. They end with it.
    pub fn start_with_controllers() -> Self {
        let server = server();
        let shutdown = CancellationToken::new();
        let companions =
            Companions::new(server.client(), server.clock()).stages(Some(Stages::controllers_only()));
        tokio::spawn(companions.run(shutdown.clone()));
        Self {
            service: server.service_as(User::anonymous()),
            listener: None,
            _companions: Some(shutdown.drop_guard()),
        }
    }
}

fn server() -> ApiServer {
    // The same user as the real server's administrator.
    let admin = User {
        uid: "admin".to_owned(),
        ..User::new("admin", ["system:masters"])
    };
    ApiServer::builder().token(TOKEN, admin).rbac().build()
}

fn kubeconfig(url: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: ours\n\
         clusters:\n- name: ours\n  cluster:\n    server: {url}\n    certificate-authority: ca.crt\n\
         contexts:\n- name: ours\n  context:\n    cluster: ours\n    user: ours\n\
         users:\n- name: ours\n  user:\n    token: {TOKEN}\n"
    )
}

impl Target for Ours {
    fn call(&self, request: Request<Full<Bytes>>) -> BoxFuture<'_, anyhow::Result<Response<Body>>> {
        let service = self.service.clone();
        Box::pin(async move {
            let answer = service.oneshot(request).await?;
            Ok(answer.map(|body| body.map_err(anyhow::Error::new).boxed_unsync()))
        })
    }

    fn token(&self) -> &'static str {
        TOKEN
    }

    fn kubeconfig(&self) -> Option<PathBuf> {
        self.listener
            .as_ref()
            .map(|(_, folder)| folder.path().join("kubeconfig"))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}
