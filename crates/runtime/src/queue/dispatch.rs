//! Runs the work on a queue's keys, so many at once.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
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
    let concurrency = u32::try_from(concurrency.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
    let slots = Arc::new(Semaphore::new(concurrency as usize));
    let shared = Arc::new(Shared {
        queue,
        shutdown: shutdown.clone(),
        work,
    });
    let mut tasks = Tasks::default();
    let take = async {
        // The semaphore is never closed.
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let item = shared.queue.next().await;
            let shared = Arc::clone(&shared);
            tasks.spawn(|task| async move {
                shared.work_off(item).await;
                drop((task, slot));
            });
        }
    };
    shutdown.run_until_cancelled(take).await;
    // All slots are free once all tasks have ended.
    let _ = slots.acquire_many(concurrency).await;
}

/// Tasks that are cut when this is dropped. A `JoinSet` does the same, but is told of every end and must be asked for
/// it: almost a microsecond of each.
#[derive(Default)]
struct Tasks(Arc<Mutex<Handles>>);

/// What cuts a task; none until it has been spawned.
type Handles = Slab<Option<AbortHandle>>;

impl Tasks {
    /// Spawns what `work` makes, which keeps what it is given until it ends.
    fn spawn<W>(&mut self, work: impl FnOnce(Task) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let place = self.0.lock().insert(None);
        let tasks = Arc::clone(&self.0);
        // Not under the lock: a runtime that shuts down drops the task right here.
        let task = tokio::spawn(work(Task { tasks, place }));
        // The place is nobody else's if the task has ended by now: only this gives places away.
        if let Some(handle) = self.0.lock().get_mut(place) {
            *handle = Some(task.abort_handle());
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let handles = std::mem::take(&mut *self.0.lock());
        for (_, task) in handles {
            task.inspect(AbortHandle::abort);
        }
    }
}

/// Where the handle of a task is, until it ends.
struct Task {
    tasks: Arc<Mutex<Handles>>,
    place: usize,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.tasks.lock().try_remove(self.place);
    }
}

/// What all tasks share.
struct Shared<K, F> {
    queue: Arc<Queue<K>>,
    shutdown: CancellationToken,
    work: F,
}

impl<K: Hash + Eq + Clone, F> Shared<K, F> {
    /// Works on an item, then on what is ready by then, one after the other: a new task for each would cost more
    /// than many a reconcile does.
    async fn work_off<W>(&self, mut item: Item<K>)
    where
        F: Fn(&Item<K>) -> W,
        W: Future<Output = End>,
    {
        loop {
            let end = (self.work)(&item).await;
            if self.shutdown.is_cancelled() {
                return self.queue.done(item, end);
            }
            match self.queue.done_and_next(item, end) {
                Some(next) => item = next,
                None => return,
            }
            // Work that never waits must not keep other tasks from running.
            tokio::task::coop::consume_budget().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::time::Duration;

    use super::*;
    use crate::queue::QueueOptions;

    /// A runtime that shuts down while work is being started, which then ends where it is started.
    #[test]
    fn a_runtime_that_ends_waits_for_nothing() {
        for _ in 0..200 {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_time()
                .build()
                .expect("a runtime");
            let queue = Arc::new(Queue::new(QueueOptions::default(), None));
            let again = End::RequeueAfter(Duration::ZERO);
            (0..100).for_each(|key| queue.add(key, 0));
            runtime.spawn(async move {
                let shutdown = CancellationToken::new();
                dispatch(queue, usize::MAX, &shutdown, move |_: &Item<i32>| ready(again)).await;
            });
            drop(runtime);
        }
    }
}
