//! Runs the work on a queue's keys, so many at once.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{End, Item, Queue};

/// Works on what is due until `shutdown`, each key in a task of its own and at most `concurrency` at once, then
/// waits for the tasks in flight. Dropping the future cuts them.
///
/// One task alone waits for the queue: nothing polls the work in flight but what it waits for, so that many
/// slow reconciles cost no more than their timers. `work` must not panic, or its key never comes again.
pub async fn dispatch<K, F, W>(
    queue: Arc<Queue<K>>,
    concurrency: usize,
    shutdown: &CancellationToken,
    work: F,
) where
    K: Hash + Eq + Clone + Send + 'static,
    F: Fn(&Item<K>) -> W,
    W: Future<Output = End> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)));
    let mut tasks = JoinSet::new();
    let take = async {
        // The semaphore is never closed.
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let item = queue.next().await;
            let work = work(&item);
            let queue = Arc::clone(&queue);
            tasks.spawn(async move {
                let end = work.await;
                queue.done(item, end);
                drop(slot);
            });
            while tasks.try_join_next().is_some() {}
        }
    };
    shutdown.run_until_cancelled(take).await;
    while tasks.join_next().await.is_some() {}
}
