//! Runs the work on a queue's keys, so many at once.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{End, Item, Queue};

/// Works on what is due until `shutdown`, at most `concurrency` keys at once, then waits for the work in flight.
/// Dropping the future cuts it.
///
/// One task alone waits for the queue, and each piece of work runs in another: nothing polls the work in flight but
/// what it waits for, so that many slow reconciles cost no more than their timers. `work` must not panic, or its key
/// never comes again.
pub async fn dispatch<K, F, W>(
    queue: Arc<Queue<K>>,
    concurrency: usize,
    shutdown: &CancellationToken,
    work: F,
) where
    K: Hash + Eq + Clone + Send + 'static,
    F: Fn(&Item<K>) -> W + Send + Sync + 'static,
    W: Future<Output = End> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)));
    let work = Arc::new(work);
    let mut tasks = JoinSet::new();
    let take = async {
        // The semaphore is never closed.
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let item = queue.next().await;
            let (queue, work) = (Arc::clone(&queue), Arc::clone(&work));
            let shutdown = shutdown.clone();
            tasks.spawn(async move {
                work_off(&queue, item, &shutdown, &*work).await;
                drop(slot);
            });
            while tasks.try_join_next().is_some() {}
        }
    };
    shutdown.run_until_cancelled(take).await;
    while tasks.join_next().await.is_some() {}
}

/// Works on an item, then on what is ready by then, one after the other: a new task for each would cost more than
/// many a reconcile does.
async fn work_off<K, F, W>(queue: &Queue<K>, first: Item<K>, shutdown: &CancellationToken, work: &F)
where
    K: Hash + Eq + Clone,
    F: Fn(&Item<K>) -> W,
    W: Future<Output = End>,
{
    let mut item = first;
    loop {
        let end = work(&item).await;
        if shutdown.is_cancelled() {
            return queue.done(item, end);
        }
        match queue.done_and_next(item, end) {
            Some(next) => item = next,
            None => return,
        }
        // Work that never waits must not keep other tasks from running.
        tokio::task::coop::consume_budget().await;
    }
}
