//! The server put together: what it is made of, how it is built, and the tower service that it is.

use crate::access::Access;
use crate::auth::{self, Authenticator, Known, SigningKey, User};
use crate::faults::{self, Faults};
use crate::kubelet::{self, Asked, KubeletClient};
use crate::record::{Call, Record};
use crate::registry::{Registry, Served};
use crate::request::path;
use crate::response::{self, Body, Cut};
use crate::serve::Authority;
use crate::status::{ApiError, ApiResult};
use crate::store::{Entry, History, Journal, OpenError, Store, Unwritten};
use crate::{customs, handlers, namespaces, restore};
use bytes::Bytes;
use clusterwright_clock::Clock;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::upgrade::OnUpgrade;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio_util::sync::CancellationToken;

/// Bytes of a request's body that are read at most, as in the real server.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// What every part of the server shares.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    pub(crate) record: Record,
    pub(crate) authenticator: Authenticator,
    pub(crate) access: Access,
    /// The folder of the published OpenAPI documents, for descriptions.
    pub(crate) documents: Option<PathBuf>,
    pub(crate) kubelets: OnceLock<KubeletClient>,
    /// Whose certificates the server and its clients have; a new one for each time that it is served where none.
    pub(crate) authority: Option<Arc<Authority>>,
}

/// An API server in this process. Clones are the same server.
#[derive(Clone, Debug)]
pub struct ApiServer {
    pub(crate) inner: Arc<Inner>,
}

/// Settings of an [`ApiServer`] to be.
#[derive(Debug)]
pub struct Builder {
    clock: Option<Clock>,
    tokens: HashMap<String, Arc<User>>,
    key: Option<SigningKey>,
    rbac: bool,
    anonymous: bool,
    history: Option<usize>,
    documents: Option<PathBuf>,
    kubelets: Option<KubeletClient>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            clock: None,
            tokens: HashMap::new(),
            key: None,
            rbac: false,
            anonymous: true,
            history: None,
            documents: None,
            kubelets: None,
        }
    }
}

impl Builder {
    /// The clock for all times that the server writes. Default: the system's time, moving with tokio's clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// A bearer token and whose it is.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>, user: User) -> Self {
        self.tokens.insert(token.into(), Arc::new(user));
        self
    }

    /// The key that signs tokens of service accounts, for tokens that outlive this server. Default: one of its own,
    /// made when the first token is asked for.
    #[must_use]
    pub fn signing_key(mut self, key: SigningKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Lets roles and bindings say who may do what, as `--authorization-mode=RBAC` does; the server starts with the
    /// roles and bindings that every cluster starts with. `system:masters` may do everything. Default: whoever is
    /// authenticated may.
    #[must_use]
    pub fn rbac(mut self) -> Self {
        self.rbac = true;
        self
    }

    /// Whether who sends no credentials is taken for `system:anonymous` (who may read health and version, unless
    /// roles say more) or refused with 401, whatever the path. Default: true.
    #[must_use]
    pub fn anonymous(mut self, allowed: bool) -> Self {
        self.anonymous = allowed;
        self
    }

    /// How many events of each kind are remembered for watches from an earlier version and for paged lists.
    /// Default: those of the last 75 seconds, at least 1024 and at most 32768.
    #[must_use]
    pub fn history(mut self, events: usize) -> Self {
        self.history = Some(events);
        self
    }

    /// The folder of the OpenAPI v3 documents that Kubernetes publishes (`api/openapi-spec/v3`), out of which
    /// `kubectl explain` gets its descriptions. Default: none; structure is explained without.
    #[must_use]
    pub fn documents(mut self, folder: impl Into<PathBuf>) -> Self {
        self.documents = Some(folder.into());
        self
    }

    /// How the server speaks to kubelets, for logs, commands in containers and forwarded ports of pods. Default: it
    /// takes any certificate, and once it is served shows one of its authority: `kube-apiserver-kubelet-client` of
    /// `system:masters`.
    #[must_use]
    pub fn kubelets(mut self, client: KubeletClient) -> Self {
        self.kubelets = Some(client);
        self
    }

    /// Makes the server. It holds the namespaces that every cluster starts with, with [`Builder::rbac`] the roles and
    /// bindings too, and nothing else.
    #[must_use]
    pub fn build(self) -> ApiServer {
        let (history, clock) = (self.kept_history(), self.clock.unwrap_or_default());
        let server = self.with(Store::new(history, clock), clock, None);
        // In memory, nothing keeps a write from being done.
        let _ = server.start();
        server
    }

    /// Makes the server with what an earlier one left in `folder`, which is made where it is missing and belongs to
    /// one server at a time. Every write is there before it is answered, so that a server that is killed loses
    /// nothing that it acknowledged (a machine that loses its power may lose the last seconds). Resource versions go
    /// on; watches and paged lists from before are told to start anew (410), as after etcd's compaction. The keys of
    /// tokens and certificates are kept there too.
    ///
    /// # Errors
    /// When the folder can't be used, is in use, or holds what no server wrote.
    pub fn open(mut self, folder: impl AsRef<Path>) -> Result<ApiServer, OpenError> {
        let folder = folder.as_ref();
        let (history, clock) = (self.kept_history(), self.clock.unwrap_or_default());
        let (journal, recovered) = Journal::open(folder)?;
        if self.key.is_none() {
            self.key = Some(restore::signing_key(folder)?);
        }
        let authority = Arc::new(restore::authority(folder, clock)?);
        let store = Store::resume(recovered.version, journal, history, clock);
        let server = self.with(store, clock, Some(authority));
        restore::objects(&server.inner, recovered);
        server.start()?;
        let kept = server.inner.store.keep_short();
        kept.map_err(OpenError::io("start the thread that shortens", folder))?;
        Ok(server)
    }

    fn kept_history(&self) -> History {
        self.history.map_or_else(History::default, |events| History {
            least: events,
            most: events,
            ..History::default()
        })
    }

    fn with(self, store: Store, clock: Clock, authority: Option<Arc<Authority>>) -> ApiServer {
        let inner = Arc::new(Inner {
            store,
            registry: Registry::default(),
            clock,
            faults: Faults::default(),
            record: Record::default(),
            authenticator: Authenticator::new(self.tokens, self.anonymous, self.key),
            access: Access::new(self.rbac),
            documents: self.documents,
            kubelets: self.kubelets.map(OnceLock::from).unwrap_or_default(),
            authority,
        });
        inner.registry.add(&inner.store, crate::builtin::resources());
        ApiServer { inner }
    }
}

impl ApiServer {
    /// A server with the default settings.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Settings for a server.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Makes what every cluster starts with, where it is missing.
    fn start(&self) -> Result<(), Unwritten> {
        namespaces::create_initial(&self.inner)?;
        Access::start(&self.inner)
    }

    /// The server as a service for `kube::Client::new`, with no socket; its requests are those of an administrator
    /// (`kubernetes-admin` in `system:masters`).
    pub fn service(&self) -> ApiService {
        self.service_as(User::admin())
    }

    /// The service for another user.
    pub fn service_as(&self, user: User) -> ApiService {
        ApiService {
            inner: self.inner.clone(),
            user: Arc::new(user),
            stop: None,
        }
    }

    /// A client of an administrator, with `default` as its namespace. Needs a tokio runtime.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.service(), "default")
    }

    /// A client of this user in these groups.
    pub fn client_as<'a>(&self, user: &str, groups: impl IntoIterator<Item = &'a str>) -> kube::Client {
        kube::Client::new(self.service_as(User::new(user, groups)), "default")
    }

    /// The clock that the server's times come from.
    pub fn clock(&self) -> Clock {
        self.inner.clock
    }

    /// Faults to be injected.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// The record of every call.
    pub fn record(&self) -> &Record {
        &self.inner.record
    }

    /// Refuses writes from now on and leaves the data folder to another server; without one, does nothing. Clients
    /// keep a server alive: dropping it is not enough, unless the process ends.
    pub fn close(&self) {
        self.inner.store.close();
    }

    /// Forgets the past, so that every version before now is expired (410), as after etcd's compaction.
    pub fn compact(&self) {
        self.inner.store.compact();
    }
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

/// The server as a tower service for one user.
#[derive(Clone, Debug)]
pub struct ApiService {
    inner: Arc<Inner>,
    user: Arc<User>,
    /// Ends watches when the network that they go over is closed.
    stop: Option<CancellationToken>,
}

impl ApiService {
    /// The service of one connection.
    pub(crate) fn on_network(inner: Arc<Inner>, user: User, stop: CancellationToken) -> Self {
        Self {
            inner,
            user: Arc::new(user),
            stop: Some(stop),
        }
    }
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Cut;
    type Future = BoxFuture<'static, Result<Response<Body>, Cut>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { inner, user, stop } = self.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let upgrade = parts.extensions.remove::<OnUpgrade>();
            let user = match inner.user_of(&parts.headers, &user) {
                Ok(user) => user,
                Err(refusal) => return Ok(response::refusal(&refusal)),
            };
            let body = match read(body).await {
                Ok(body) => body,
                Err(refusal) => return Ok(response::refusal(&refusal)),
            };
            let mut request = handlers::Request::new(parts, body, user);
            match auth::impersonate(&inner.access, &request.parts.headers, &request.attributes()) {
                Ok(None) => {}
                Ok(Some(user)) => request.user = user,
                Err(refusal) => return Ok(response::refusal(&refusal)),
            }
            let struck = inner.faults.strike(&request);
            let record = |code| inner.record.push(|| Call::of(&request, code));
            let delay = |time: std::time::Duration| async move {
                if !time.is_zero() {
                    tokio::time::sleep(time).await;
                }
            };
            delay(struck.delay_before).await;
            let mut answer = match struck.before {
                Some(fault) => faults::answer(fault, &request),
                None => Some(handlers::handle(&inner, &request, &struck)),
            };
            let target = answer
                .as_ref()
                .and_then(|answer| answer.extensions().get::<kubelet::Target>().cloned());
            if let Some(target) = target {
                let asked = Asked {
                    method: request.parts.method.clone(),
                    headers: request.parts.headers.clone(),
                    upgrade,
                };
                answer = Some(kubelet::connect(inner.kubelets.get(), &target, asked, stop.clone()).await);
            }
            if let Some(fault) = struck.after {
                answer = faults::answer(fault, &request);
            }
            delay(struck.delay_after).await;
            record(answer.as_ref().map(Response::status));
            let answer = answer.ok_or(Cut)?;
            Ok(match stop {
                Some(stop) => answer.map(|body| body.until(stop)),
                None => answer,
            })
        })
    }
}

async fn read<B>(body: B) -> ApiResult<Bytes>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(
            http::StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {MAX_BODY}"),
        )),
        Err(error) => Err(ApiError::bad_request(format!(
            "failed to read the body of the request: {error}"
        ))),
    }
}

impl Inner {
    /// The user of a request that came on a connection of `otherwise`.
    fn user_of(&self, headers: &HeaderMap, otherwise: &Arc<User>) -> ApiResult<Arc<User>> {
        let now = self.clock.now();
        self.authenticator
            .of_request(headers, otherwise, now, &|plural, namespace, name| {
                self.known(plural, namespace, name)
            })
    }

    /// What tokens of service accounts ask of an object of the core group.
    pub(crate) fn known(&self, plural: &str, namespace: &str, name: &str) -> Option<Known> {
        let served = self.registry.table().any_version("", plural)?.clone();
        let object = served.shelf.get(&path::key(namespace, name))?.value();
        let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        Some(Known {
            uid: meta("uid").to_owned(),
            deleted: meta("deletionTimestamp").parse().ok(),
        })
    }

    /// What follows from a write that was committed.
    pub(crate) fn after_write(self: &Arc<Self>, served: &Served, entry: &Entry) {
        if self.access.notices(&served.resource) {
            self.access.note(served, &entry.value());
        }
        if customs::is_definition(&served.resource) {
            customs::settle(self, &entry.value(), false);
        }
    }

    /// What follows from an object that is gone.
    pub(crate) fn after_removal(self: &Arc<Self>, served: &Served, last: &Value) {
        if self.access.notices(&served.resource) {
            self.access.note(served, last);
        }
        if customs::is_definition(&served.resource) {
            customs::settle(self, last, true);
        } else if served.resource.custom.is_some() {
            customs::object_gone(self, &served.resource);
        }
    }
}
