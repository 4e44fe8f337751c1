//! What the cache costs: heap per object, the peak while everything is listed again, and the time of a read.
//!
//! The server is a stream of lines made as they are read, so that only the cache's own heap is counted. The count is
//! exact: an allocator that adds up what was asked for.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clusterwright_benches::myapp::{self, MyApp};
use clusterwright_benches::{cpu_time, figure, median};
use clusterwright_runtime::cache::{Cache, CacheOptions};
use clusterwright_runtime::client::Client;
use clusterwright_runtime::manager::{RunContext, Runnable};
use clusterwright_runtime::object::ObjectKey;
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use peak_alloc::PeakAlloc;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const OBJECTS: usize = 10_000;
const READS: usize = 50_000;
const RUNS: usize = 3;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    eprintln!(
        "one object is {} B as the server sends it",
        myapp::stored(0, 1).to_string().len()
    );
    let server = Arc::new(Server::default());
    let kube = kube::Client::new(
        tower::service_fn({
            let server = Arc::clone(&server);
            move |request: http::Request<kube::client::Body>| {
                let answer = Server::answer(&server, &request);
                async move { Ok::<_, Infallible>(answer) }
            }
        }),
        "default",
    );
    let cache = Cache::new(kube.clone(), CacheOptions::default());
    let client = Client::new(kube, cache.clone(), "bench");
    let informer = cache.informer::<MyApp>();
    informer.index("secretRef", |app| vec![app.spec.secret_ref.clone()]);
    let empty = HEAP.current_usage();

    let shutdown = CancellationToken::new();
    let (cx, ready) = RunContext::detached(shutdown.clone());
    let informers = tokio::spawn(Box::new(cache.runnable()).run(cx));
    ready.wait().await;
    let full = HEAP.current_usage();
    let held = full.saturating_sub(empty);
    if informer.len() != OBJECTS {
        bail!("the cache holds {} objects", informer.len());
    }

    // Everything is listed again, and everything has changed.
    HEAP.reset_peak_usage();
    let newest = informer.last_seen_version();
    server.expire.notify_one();
    while informer.last_seen_version() < newest + u64::try_from(OBJECTS)? {
        tokio::task::yield_now().await;
    }
    let peak = HEAP.peak_usage().saturating_sub(empty);

    let keys: Vec<_> = (0..OBJECTS)
        .map(|number| ObjectKey::namespaced("default", myapp::name(number)))
        .collect();
    let costs = (0..RUNS)
        .map(|_| read(&client, &keys))
        .collect::<Result<Vec<_>>>()?;

    figure::at_most("cache.heap_per_object", ratio(held, OBJECTS), "B", 1000.0);
    figure::at_most("cache.relist_peak", ratio(peak, held), "ratio", 1.2);
    figure::at_most("cache.read", median(costs), "µs", 10.0);
    shutdown.cancel();
    informers.await?.map_err(|error| anyhow::anyhow!(error))?;
    Ok(())
}

/// µs of CPU time per read of one object, decoded.
fn read(client: &Client, keys: &[ObjectKey]) -> Result<f64> {
    let before = cpu_time()?;
    for key in keys.iter().cycle().take(READS) {
        std::hint::black_box(client.get::<MyApp>(key)?).context("an object is missing")?;
    }
    Ok(cpu_time()?.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(u32::try_from(READS)?))
}

fn ratio(part: usize, whole: usize) -> f64 {
    let number = |value: usize| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
    number(part) / number(whole)
}

/// Serves one kind, each list with newer versions than the one before.
#[derive(Default)]
struct Server {
    version: AtomicU64,
    expire: Notify,
}

type Answer = http::Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>;

impl Server {
    fn answer(server: &Arc<Self>, request: &http::Request<kube::client::Body>) -> Answer {
        let query: HashMap<&str, &str> = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        let first = server.version.load(Ordering::Relaxed);
        let mut lines = stream::empty().boxed();
        let mut last = first;
        if query.get("sendInitialEvents") == Some(&"true") {
            last += u64::try_from(OBJECTS).unwrap_or_default();
            server.version.store(last, Ordering::Relaxed);
            let numbers = stream::iter(0..OBJECTS).zip(stream::iter(first + 1..));
            lines = numbers
                .map(|(number, version)| json!({ "type": "ADDED", "object": myapp::stored(number, version) }))
                .boxed();
        }
        let bookmark = json!({
            "type": "BOOKMARK",
            "object": {
                "apiVersion": "example.com/v1",
                "kind": "MyApp",
                "metadata": {
                    "resourceVersion": last.to_string(),
                    "annotations": { "k8s.io/initial-events-end": "true" },
                },
            },
        });
        let server = Arc::clone(server);
        let expired = async move {
            server.expire.notified().await;
            json!({
                "type": "ERROR",
                "object": { "kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "old" },
            })
        };
        let lines = lines.chain(stream::iter([bookmark])).chain(stream::once(expired));
        let frames = lines.map(|line| Ok(Frame::data(Bytes::from(format!("{line}\n")))));
        http::Response::new(http_body_util::BodyExt::boxed_unsync(StreamBody::new(frames)))
    }
}
