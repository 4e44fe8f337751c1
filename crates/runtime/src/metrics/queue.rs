//! Families of work queues.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::queue::priority;

/// How many priorities get a series of their own. Priorities come from a program's code, but a map function may
/// compute them, and a family without bound fills a Prometheus.
const MAX_PRIORITIES: usize = 25;

/// The label of all priorities beyond [`MAX_PRIORITIES`].
const MANY_PRIORITIES: &str = "exceeded_cardinality_limit";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    name: String,
    controller: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DepthLabels {
    name: String,
    controller: String,
    priority: String,
}

type Histograms = Family<QueueLabels, Histogram, fn() -> Histogram>;

fn nanoseconds_to_minutes() -> Histogram {
    Histogram::new(exponential_buckets(10e-9, 10.0, 12))
}

#[derive(Debug)]
pub(super) struct QueueFamilies {
    depth: Family<DepthLabels, Gauge>,
    adds: Family<QueueLabels, Counter>,
    wait: Histograms,
    work: Histograms,
    retries: Family<QueueLabels, Counter>,
    running: Running,
}

impl QueueFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            depth: Family::default(),
            adds: Family::default(),
            wait: Family::new_with_constructor(nanoseconds_to_minutes),
            work: Family::new_with_constructor(nanoseconds_to_minutes),
            retries: Family::default(),
            running: Running::default(),
        };
        registry.register(
            "workqueue_depth",
            "Items that wait in a queue, by priority",
            families.depth.clone(),
        );
        registry.register(
            "workqueue_adds",
            "Items that were added to a queue",
            families.adds.clone(),
        );
        registry.register(
            "workqueue_queue_duration_seconds",
            "How long an item waited in a queue before it was taken",
            families.wait.clone(),
        );
        registry.register(
            "workqueue_work_duration_seconds",
            "How long an item was worked on",
            families.work.clone(),
        );
        registry.register(
            "workqueue_retries",
            "Items that were added to a queue with a delay",
            families.retries.clone(),
        );
        registry.register_collector(Box::new(families.running.clone()));
        families
    }

    pub(super) fn of(&self, name: &str) -> QueueMetrics {
        let labels = QueueLabels {
            name: name.to_owned(),
            controller: name.to_owned(),
        };
        let queue = QueueMetrics(Arc::new(Inner {
            name: name.to_owned(),
            depth: self.depth.clone(),
            priorities: Mutex::default(),
            adds: self.adds.get_or_create_owned(&labels),
            wait: self.wait.get_or_create_owned(&labels),
            work: self.work.get_or_create_owned(&labels),
            retries: self.retries.get_or_create_owned(&labels),
            running: self.running.of(labels),
        }));
        for priority in [priority::DELETION, priority::NORMAL, priority::INITIAL] {
            queue.depth_changed(priority, 0);
        }
        queue
    }
}

/// The series of one queue. Clones share them.
#[derive(Clone, Debug)]
pub struct QueueMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    depth: Family<DepthLabels, Gauge>,
    priorities: Mutex<BTreeMap<i32, Gauge>>,
    adds: Counter,
    wait: Histogram,
    work: Histogram,
    retries: Counter,
    running: Arc<Mutex<Started>>,
}

impl QueueMetrics {
    /// An item was added that was not waiting already.
    pub fn added(&self) {
        self.0.adds.inc();
    }

    /// An item was added with a delay, by its back-off or because a reconcile asked for it.
    pub fn retried(&self) {
        self.0.retries.inc();
    }

    /// The number of ready items of this priority grew by `change`, which may be negative.
    pub fn depth_changed(&self, priority: i32, change: i64) {
        self.depth(priority).inc_by(change);
    }

    /// An item was taken after it had been ready for this long.
    pub fn waited(&self, wait: Duration) {
        self.0.wait.observe(wait.as_secs_f64());
    }

    /// An item is being worked on until the guard is dropped.
    pub fn working(&self) -> Work {
        let start = Instant::now();
        let mut started = self.0.running.lock();
        let ticket = started.next;
        started.next += 1;
        started.since.insert(ticket, start);
        drop(started);
        Work {
            queue: self.clone(),
            ticket,
            start,
        }
    }

    fn depth(&self, priority: i32) -> Gauge {
        let mut priorities = self.0.priorities.lock();
        if let Some(gauge) = priorities.get(&priority) {
            return gauge.clone();
        }
        let many = priorities.len() >= MAX_PRIORITIES;
        let label = if many {
            MANY_PRIORITIES.to_owned()
        } else {
            priority.to_string()
        };
        let gauge = self.0.depth.get_or_create_owned(&DepthLabels {
            name: self.0.name.clone(),
            controller: self.0.name.clone(),
            priority: label,
        });
        if !many {
            priorities.insert(priority, gauge.clone());
        }
        gauge
    }
}

/// An item that is being worked on. Its drop observes how long that took.
#[derive(Debug)]
pub struct Work {
    queue: QueueMetrics,
    ticket: u64,
    start: Instant,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.queue.0.running.lock().since.remove(&self.ticket);
        self.queue.0.work.observe(self.start.elapsed().as_secs_f64());
    }
}

/// When each item in progress was started. Tickets rise, so the first is the oldest.
#[derive(Debug, Default)]
struct Started {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// Reports what is in progress at the moment of the scrape.
#[derive(Clone, Debug, Default)]
struct Running(Arc<Mutex<Vec<RunningQueue>>>);

type RunningQueue = (QueueLabels, Arc<Mutex<Started>>);

impl Running {
    fn of(&self, labels: QueueLabels) -> Arc<Mutex<Started>> {
        let mut queues = self.0.lock();
        if let Some((_, started)) = queues.iter().find(|(known, _)| *known == labels) {
            return started.clone();
        }
        let started = Arc::<Mutex<Started>>::default();
        queues.push((labels, started.clone()));
        started
    }
}

impl Collector for Running {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let now = Instant::now();
        let queues = self.0.lock();
        let mut family = |name, help, of: &dyn Fn(&Started) -> Duration| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, started) in queues.iter() {
                let seconds = of(&started.lock()).as_secs_f64();
                ConstGauge::new(seconds).encode(family.encode_family(labels)?)?;
            }
            Ok(())
        };
        family(
            "workqueue_unfinished_work_seconds",
            "How long all items in progress have been worked on, added up",
            &|started| started.since.values().map(|since| now - *since).sum(),
        )?;
        family(
            "workqueue_longest_running_processor_seconds",
            "How long the item longest in progress has been worked on",
            &|started| {
                started
                    .since
                    .first_key_value()
                    .map_or(Duration::ZERO, |(_, since)| now - *since)
            },
        )
    }
}
