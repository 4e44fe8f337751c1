//! What the queue costs: CPU time per item with ten workers, and with 20 000 slow reconciles in flight, beside kube's
//! applier under the same load.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use clusterwright_benches::{cpu_time, figure, median};
use clusterwright_runtime::object::ObjectKey;
use clusterwright_runtime::queue::{End, Item, Queue, QueueOptions, dispatch};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::controller::{Action, Config, ReconcileRequest, applier};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::utils::CancelableJoinHandle;
use kube::runtime::watcher;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const ITEMS: usize = 100_000;
const IN_FLIGHT: usize = 20_000;
const LONGEST: Duration = Duration::from_secs(5);
const RUNS: usize = 5;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let per_item = (0..RUNS)
        .map(|_| runtime.block_on(workers(10)))
        .collect::<Result<Vec<_>>>()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(runtime.block_on(slow())?);
        theirs.push(runtime.block_on(slow_applier())?);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    figure::at_most("queue.cpu_per_item_10_workers", median(per_item), "µs", 5.0);
    figure::at_most("queue.cpu_per_item_20000_in_flight", ours, "µs", 15.0);
    figure::report("queue.kube_applier_cpu_per_item_20000_in_flight", theirs, "µs");
    figure::at_most(
        "queue.in_flight_ratio_to_kube_applier",
        ours / theirs,
        "ratio",
        0.1,
    );
    Ok(())
}

fn keys(count: usize) -> impl Iterator<Item = ObjectKey> {
    (0..count).map(|number| ObjectKey::namespaced("default", format!("app-{number:05}")))
}

/// Counts down and tells when nothing is left.
struct Countdown {
    left: AtomicUsize,
    over: Notify,
}

impl Countdown {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(count),
            over: Notify::new(),
        })
    }

    fn one(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.over.notify_one();
        }
    }
}

/// CPU µs per item while `work` runs.
async fn cost(items: usize, work: impl Future<Output = ()>) -> Result<f64> {
    let before = cpu_time()?;
    let start = Instant::now();
    work.await;
    let spent = cpu_time()?.saturating_sub(before);
    eprintln!("{items} items: {spent:?} of CPU time in {:?}", start.elapsed());
    Ok(spent.as_secs_f64() * 1e6 / f64::from(u32::try_from(items)?))
}

/// Every key once through the queue, the dispatcher and a reconcile that does nothing.
async fn workers(concurrency: usize) -> Result<f64> {
    let queue = Arc::new(Queue::new(QueueOptions::default(), None));
    let keys: Vec<_> = keys(ITEMS).collect();
    let countdown = Countdown::new(ITEMS);
    let run = run(
        Arc::clone(&queue),
        concurrency,
        Arc::clone(&countdown),
        |_| async {},
    );
    cost(ITEMS, async {
        for key in keys {
            queue.add(key, 0);
        }
        run.await;
    })
    .await
}

/// Reconciles that take 0 to 5 s, all in flight at once.
async fn slow() -> Result<f64> {
    let queue = Arc::new(Queue::new(QueueOptions::default(), None));
    let keys: Vec<_> = keys(IN_FLIGHT).collect();
    let countdown = Countdown::new(IN_FLIGHT);
    let run = run(Arc::clone(&queue), IN_FLIGHT, Arc::clone(&countdown), |key| {
        // As the controller does it: every reconcile has its timeout.
        let sleep = tokio::time::sleep(length(key.name()));
        tokio::time::timeout(Duration::from_secs(60), sleep).map(drop)
    });
    cost(IN_FLIGHT, async {
        for key in keys {
            queue.add(key, 0);
        }
        run.await;
    })
    .await
}

async fn run<F, W>(queue: Arc<Queue<ObjectKey>>, concurrency: usize, countdown: Arc<Countdown>, work: F)
where
    F: Fn(&ObjectKey) -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let shutdown = CancellationToken::new();
    let (counted, end) = (Arc::clone(&countdown), shutdown.clone());
    // In a task, as a controller has it.
    let dispatched = tokio::spawn(async move {
        let work = move |item: &Item<ObjectKey>| {
            let countdown = Arc::clone(&counted);
            work(&item.key).map(move |()| {
                countdown.one();
                End::Done
            })
        };
        dispatch(queue, concurrency, &end, work).await;
    });
    countdown.over.notified().await;
    shutdown.cancel();
    // A panic in there has been printed.
    let _ = dispatched.await;
}

/// How long the reconcile of `app-NNNNN` takes: spread evenly, in no order.
fn length(name: &str) -> Duration {
    let number: usize = name
        .rsplit('-')
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_default();
    let part = number * 7919 % IN_FLIGHT;
    LONGEST.mul_f64(f64::from(u32::try_from(part).unwrap_or_default()) / 20_000.0)
}

/// The same through kube's applier.
async fn slow_applier() -> Result<f64> {
    let (store, mut writer) = reflector::store::<ConfigMap>();
    // The applier starts once the store is ready, which takes a whole list.
    writer.apply_watcher_event(&watcher::Event::Init);
    for key in keys(IN_FLIGHT) {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(key.name().to_owned());
        object.metadata.namespace = key.namespace().map(str::to_owned);
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    let requests: Vec<ReconcileRequest<ConfigMap>> = keys(IN_FLIGHT)
        .map(|key| {
            ObjectRef::new(key.name())
                .within(key.namespace().unwrap_or_default())
                .into()
        })
        .collect();
    let requests = requests.into_iter().map(Ok::<_, Infallible>);
    let queue = futures::stream::iter(requests).chain(futures::stream::pending());
    let reconcile = |object: Arc<ConfigMap>, _| async move {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        tokio::time::sleep(length(name)).await;
        Ok::<_, Infallible>(Action::await_change())
    };
    let handle = tokio::runtime::Handle::current();
    let results = applier(
        // As kube's controller does it.
        move |object, context| CancelableJoinHandle::spawn(reconcile(object, context), &handle),
        |_, _, _| Action::await_change(),
        Arc::new(()),
        store,
        queue,
        Config::default(),
    );
    // The applier sits in a task, as it does in a controller.
    let all = tokio::spawn(results.take(IN_FLIGHT).for_each(|_| async {}));
    cost(IN_FLIGHT, async {
        // A panic in there has been printed.
        let _ = all.await;
    })
    .await
}
