//! HTTP servers as runnables.

use std::net::SocketAddr;

use axum::Router;
use futures::future::BoxFuture;
use tokio::net::TcpListener;

use super::{Group, RunContext, RunError, Runnable};

/// Answers HTTP/1.1 and HTTP/2 without TLS, in the group [`Group::Servers`].
#[derive(Debug)]
pub struct HttpServer {
    name: String,
    listener: TcpListener,
    router: Router,
}

impl HttpServer {
    /// Listens on `address`, so that a port that is taken is noticed before anything starts.
    pub async fn bind(
        name: impl Into<String>,
        address: SocketAddr,
        router: Router,
    ) -> Result<Self, BindError> {
        let name = name.into();
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Self {
                name,
                listener,
                router,
            }),
            Err(source) => Err(BindError {
                name,
                address,
                source,
            }),
        }
    }

    /// Where it listens; the port is a real one even if port 0 was asked for.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Runnable for HttpServer {
    fn name(&self) -> &str {
        &self.name
    }

    fn group(&self) -> Group {
        Group::Servers
    }

    fn run(self: Box<Self>, cx: RunContext) -> BoxFuture<'static, Result<(), RunError>> {
        Box::pin(async move {
            cx.ready.set();
            let shutdown = cx.shutdown;
            axum::serve(self.listener, self.router)
                .with_graceful_shutdown(async move { shutdown.cancelled().await })
                .await?;
            Ok(())
        })
    }
}

/// A server can't listen.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address} for {name}")]
pub struct BindError {
    /// The server's name.
    name: String,
    /// Where it was to listen.
    address: SocketAddr,
    /// Why it can't.
    source: std::io::Error,
}
