//! Families of controllers.

use std::fmt::{self, Write as _};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds in seconds, those of controller-runtime: fine up to a second, then up to its usual timeout.
const RECONCILE_SECONDS: [f64; 40] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25,
    1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0,
    50.0, 60.0,
];

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReconcileEnd {
    /// Done until the next event.
    Success,
    /// Done, and asked to be called again after a while.
    RequeueAfter,
    /// Failed, to be tried again after its back-off.
    Error,
    /// Failed in a way that no retry mends.
    TerminalError,
    /// Cut off by the reconcile timeout; tried again after its back-off.
    Timeout,
    /// Panicked; tried again after its back-off.
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ResultLabel {
    Error,
    Requeue,
    RequeueAfter,
    Success,
}

impl ResultLabel {
    const ALL: [Self; 4] = [Self::Error, Self::Requeue, Self::RequeueAfter, Self::Success];
}

impl EncodeLabelValue for ResultLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Error => "error",
            Self::Requeue => "requeue",
            Self::RequeueAfter => "requeue_after",
            Self::Success => "success",
        })
    }
}

impl From<ReconcileEnd> for ResultLabel {
    fn from(end: ReconcileEnd) -> Self {
        match end {
            ReconcileEnd::Success => Self::Success,
            ReconcileEnd::RequeueAfter => Self::RequeueAfter,
            ReconcileEnd::Error
            | ReconcileEnd::TerminalError
            | ReconcileEnd::Timeout
            | ReconcileEnd::Panic => Self::Error,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabel {
    controller: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerResult {
    controller: String,
    result: ResultLabel,
}

type Histograms = Family<ControllerLabel, Histogram, fn() -> Histogram>;

#[derive(Debug)]
pub(super) struct ControllerFamilies {
    total: Family<ControllerResult, Counter>,
    errors: Family<ControllerLabel, Counter>,
    terminal_errors: Family<ControllerLabel, Counter>,
    panics: Family<ControllerLabel, Counter>,
    timeouts: Family<ControllerLabel, Counter>,
    time: Histograms,
    max_concurrent: Family<ControllerLabel, Gauge>,
    active: Family<ControllerLabel, Gauge>,
}

impl ControllerFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            total: Family::default(),
            errors: Family::default(),
            terminal_errors: Family::default(),
            panics: Family::default(),
            timeouts: Family::default(),
            time: Family::new_with_constructor(|| Histogram::new(RECONCILE_SECONDS)),
            max_concurrent: Family::default(),
            active: Family::default(),
        };
        registry.register(
            "controller_runtime_reconcile",
            "Reconciles per controller and result",
            families.total.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_errors",
            "Reconciles per controller that failed",
            families.errors.clone(),
        );
        registry.register(
            "controller_runtime_terminal_reconcile_errors",
            "Reconciles per controller that failed and are not retried",
            families.terminal_errors.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_panics",
            "Reconciles per controller that panicked",
            families.panics.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_timeouts",
            "Reconciles per controller that the reconcile timeout cut off",
            families.timeouts.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_time_seconds",
            "How long a reconcile took, per controller",
            families.time.clone(),
        );
        registry.register(
            "controller_runtime_max_concurrent_reconciles",
            "How many reconciles a controller runs at once at most",
            families.max_concurrent.clone(),
        );
        registry.register(
            "controller_runtime_active_workers",
            "How many reconciles a controller is running",
            families.active.clone(),
        );
        registry.register(
            "controller_reconciliations",
            "Reconciles per controller and result",
            families.total.clone(),
        );
        registry.register(
            "controller_reconciliation_duration_seconds",
            "How long a reconcile took, per controller",
            families.time.clone(),
        );
        families
    }

    pub(super) fn of(&self, name: &str, max_concurrent: usize) -> ControllerMetrics {
        let label = ControllerLabel {
            controller: name.to_owned(),
        };
        self.max_concurrent
            .get_or_create(&label)
            .set(i64::try_from(max_concurrent).unwrap_or(i64::MAX));
        let total = ResultLabel::ALL.map(|result| {
            let labels = ControllerResult {
                controller: name.to_owned(),
                result,
            };
            (result, self.total.get_or_create_owned(&labels))
        });
        ControllerMetrics {
            total,
            errors: self.errors.get_or_create_owned(&label),
            terminal_errors: self.terminal_errors.get_or_create_owned(&label),
            panics: self.panics.get_or_create_owned(&label),
            timeouts: self.timeouts.get_or_create_owned(&label),
            time: self.time.get_or_create_owned(&label),
            active: self.active.get_or_create_owned(&label),
        }
    }
}

/// The series of one controller. Clones share them.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    total: [(ResultLabel, Counter); 4],
    errors: Counter,
    terminal_errors: Counter,
    panics: Counter,
    timeouts: Counter,
    time: Histogram,
    active: Gauge,
}

impl ControllerMetrics {
    /// A reconcile starts; it counts as active until the guard is dropped.
    pub fn started(&self) -> Active {
        self.active.inc();
        Active(self.active.clone())
    }

    /// A reconcile ended after `took`.
    pub fn finished(&self, end: ReconcileEnd, took: Duration) {
        let label = ResultLabel::from(end);
        if let Some((_, counter)) = self.total.iter().find(|(result, _)| *result == label) {
            counter.inc();
        }
        if label == ResultLabel::Error {
            self.errors.inc();
        }
        match end {
            ReconcileEnd::TerminalError => drop(self.terminal_errors.inc()),
            ReconcileEnd::Timeout => drop(self.timeouts.inc()),
            ReconcileEnd::Panic => drop(self.panics.inc()),
            ReconcileEnd::Success | ReconcileEnd::RequeueAfter | ReconcileEnd::Error => {}
        }
        self.time.observe(took.as_secs_f64());
    }
}

/// A reconcile that is counted in `controller_runtime_active_workers`.
#[derive(Debug)]
pub struct Active(Gauge);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}
