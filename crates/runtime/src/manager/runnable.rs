//! What a manager runs.

use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Why a runnable ended early. Any error will do: the manager adds the runnable's name and stops.
pub type RunError = Box<dyn std::error::Error + Send + Sync>;

/// Something that the manager starts, waits for, and stops: a server, an informer, a controller.
pub trait Runnable: Send + 'static {
    /// A short name for logs and errors, unique within the manager.
    fn name(&self) -> &str;

    /// When it starts and stops.
    fn group(&self) -> Group;

    /// Runs until [`RunContext::shutdown`] is cancelled, or until its work is done.
    ///
    /// It ends in its own time after the cancellation, within the manager's shutdown deadline. An `Ok` before
    /// then means that its work is done, and the manager goes on; an `Err` stops the manager.
    fn run(self: Box<Self>, cx: RunContext) -> BoxFuture<'static, Result<(), RunError>>;
}

/// The phases of a manager, in the order in which they start; they stop in reverse.
///
/// A group starts when all runnables of the one before it are ready, and stops when all of the one after it
/// have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// HTTP servers: probes are answered and metrics are served from the first moment to the last.
    Servers,
    /// Informers. Ready when the first list is in.
    Caches,
    /// Work on every replica, leader or not.
    Always,
    /// Preparation for leading that is done before leadership is sought, so that taking over is quick.
    Warmup,
    /// Work on the leader only. Starts when leadership is won, or at once where there is no election.
    Leader,
}

impl Group {
    /// All groups, in starting order.
    pub const ALL: [Self; 5] = [
        Self::Servers,
        Self::Caches,
        Self::Always,
        Self::Warmup,
        Self::Leader,
    ];
}

/// What a runnable gets from the manager.
#[derive(Debug)]
pub struct RunContext {
    /// Cancelled when the runnable must end: the process stops, or leadership is lost.
    pub shutdown: CancellationToken,
    /// Told, or dropped, when the next group may start.
    pub ready: Ready,
}

impl RunContext {
    /// A context outside a manager, with the receiver that resolves when the runnable is ready. For tests, and
    /// for programs that run a single controller by hand.
    pub fn detached(shutdown: CancellationToken) -> (Self, ReadyReceiver) {
        let (ready, receiver) = Ready::pair();
        (Self { shutdown, ready }, receiver)
    }
}

/// A promise to say when the runnable is warm. Dropping it says so too.
#[derive(Debug)]
pub struct Ready(oneshot::Sender<()>);

impl Ready {
    pub(super) fn pair() -> (Self, ReadyReceiver) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), ReadyReceiver(receiver))
    }

    /// The runnable is warm: the next group may start.
    pub fn set(self) {
        // The manager may be stopping and no longer listen.
        let _ = self.0.send(());
    }
}

/// The other end of [`Ready`].
#[derive(Debug)]
pub struct ReadyReceiver(oneshot::Receiver<()>);

impl ReadyReceiver {
    /// Waits until the runnable is ready or has ended.
    pub async fn wait(self) {
        // A dropped sender means ready.
        let _ = self.0.await;
    }
}
