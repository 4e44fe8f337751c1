//! A client whose n-th call is the last thing that its process does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::sync::Notify;
use tower::Service;

/// When a process ends, seen from its n-th call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Before the call is sent.
    BeforeSent,
    /// After the server has done what the call asks for, before the answer is seen.
    AfterApplied,
}

/// Counts calls, and says when the last one was made.
#[derive(Clone)]
pub struct Crash {
    inner: Client,
    calls: Arc<AtomicU64>,
    last: u64,
    end: End,
    ended: Arc<Notify>,
}

impl Crash {
    /// The n-th call (the first is 1) of the client made from this is the last.
    pub fn at(inner: Client, last: u64, end: End) -> Self {
        Self {
            inner,
            calls: Arc::default(),
            last,
            end,
            ended: Arc::new(Notify::new()),
        }
    }

    /// The client.
    pub fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Waits for the last call.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }
}

impl Service<Request<Body>> for Crash {
    type Response = Response<Body>;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, tower::BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let call = this.calls.fetch_add(1, Ordering::SeqCst) + 1;
            if call > this.last || (call == this.last && this.end == End::BeforeSent) {
                this.ended.notify_one();
                return std::future::pending().await;
            }
            let answer = this.inner.send(request).await?;
            if call == this.last {
                this.ended.notify_one();
                return std::future::pending().await;
            }
            Ok(answer)
        })
    }
}
