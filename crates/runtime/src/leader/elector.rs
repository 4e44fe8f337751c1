//! The candidate that becomes the leader and stops being it.

use clusterwright_clock::Clock;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::record::{self, Observed};
use super::{JITTER_FACTOR, LeaderElection, LeaderElectionError};
use crate::fence::Fence;
use crate::metrics::{LeaderMetrics, Metrics};

/// Why a leader stopped being it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LeadershipLost {
    /// No renewal succeeded in time.
    #[error("failed to renew the Lease {name} within {deadline:?}")]
    Deadline {
        /// The Lease's name.
        name: String,
        /// The renew deadline.
        deadline: std::time::Duration,
    },
    /// The Lease says so: it was taken or given away behind this process's back.
    #[error("failed to keep the Lease {name}: its holder is now {holder:?}")]
    Taken {
        /// The Lease's name.
        name: String,
        /// Who holds it now; empty if nobody does.
        holder: String,
    },
}

/// What one try came to.
enum Try {
    /// The lease is this process's from `sent` on.
    Held { sent: Instant },
    /// It is another's.
    Lost { holder: String },
    /// Not known, for the API server did not answer well.
    Unknown,
}

/// One candidate.
///
/// [`acquire`](Self::acquire), then [`hold`](Self::hold), then [`release`](Self::release). The first two may be
/// dropped at any await.
#[derive(Debug)]
pub struct Elector {
    api: Api<Lease>,
    election: LeaderElection,
    clock: Clock,
    metrics: LeaderMetrics,
    fence: Fence,
    observed: Option<Observed>,
    /// When the last successful renewal was sent.
    renewed: Option<Instant>,
    reported: Option<String>,
}

impl Elector {
    /// A candidate that has not tried yet, and that closes the fence.
    ///
    /// `client` must not be behind `fence`, or nobody could ever lead.
    pub fn new(
        client: Client,
        election: LeaderElection,
        clock: Clock,
        metrics: &Metrics,
        fence: Fence,
    ) -> Result<Self, LeaderElectionError> {
        election.validate()?;
        fence.close();
        Ok(Self {
            api: Api::namespaced(client, &election.namespace),
            metrics: metrics.leader(&election.name),
            election,
            clock,
            fence,
            observed: None,
            renewed: None,
            reported: None,
        })
    }

    /// Tries until this process leads. Errors of the API server are logged and tried again.
    pub async fn acquire(&mut self) {
        tracing::info!(
            lease = self.election.name,
            namespace = self.election.namespace,
            identity = self.election.identity,
            "waiting to lead"
        );
        loop {
            let outcome = self.try_once(false).await;
            self.report_leader();
            if let Try::Held { sent } = outcome {
                // A slow answer may have used up the time that it grants.
                if sent.elapsed() < self.election.renew_deadline {
                    self.extend(sent);
                    self.metrics.set_leader(true);
                    tracing::info!(lease = self.election.name, "leading");
                    return;
                }
            }
            // Candidates that started together drift apart.
            let jitter = rand::random_range(0.0..JITTER_FACTOR);
            sleep(self.election.retry_period.mul_f64(1.0 + jitter)).await;
        }
    }

    /// Renews until leadership is lost. The fence is closed when this returns.
    pub async fn hold(&mut self) -> LeadershipLost {
        let lost = self.renew_until_lost().await;
        self.fence.close();
        self.metrics.set_leader(false);
        self.renewed = None;
        self.report_leader();
        lost
    }

    async fn renew_until_lost(&mut self) -> LeadershipLost {
        let mut last_try = self.renewed.unwrap_or_else(Instant::now);
        loop {
            let renewed = self.renewed.unwrap_or(last_try);
            let deadline = renewed + self.election.renew_deadline;
            let next_try = last_try + self.election.retry_period;
            let outcome = tokio::select! {
                biased;
                () = sleep_until(deadline) => return LeadershipLost::Deadline {
                    name: self.election.name.clone(),
                    deadline: self.election.renew_deadline,
                },
                outcome = async {
                    sleep_until(next_try).await;
                    last_try = Instant::now();
                    self.try_once(true).await
                } => outcome,
            };
            match outcome {
                Try::Held { sent } => self.extend(sent),
                Try::Lost { holder } => {
                    return LeadershipLost::Taken {
                        name: self.election.name.clone(),
                        holder,
                    };
                }
                Try::Unknown => {}
            }
        }
    }

    /// Gives the lease back if it is still this process's, so that the next leader need not wait for it to run out.
    ///
    /// Only to be called when all work that leading allowed has ended. The fence is closed first. A failure is
    /// logged: the lease then runs out by itself.
    pub async fn release(&mut self) {
        self.fence.close();
        self.metrics.set_leader(false);
        self.renewed = None;
        match timeout(self.election.try_timeout(), self.give_back()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(lease = self.election.name, %error, "failed to release the Lease");
            }
            Err(_) => tracing::warn!(
                lease = self.election.name,
                "failed to release the Lease: no answer"
            ),
        }
    }

    async fn give_back(&mut self) -> Result<(), kube::Error> {
        // A renewal whose answer was not awaited may have changed the Lease since; then once more, as it is now.
        for known in [true, false] {
            if !known {
                let Some(lease) = self.api.get_opt(&self.election.name).await? else {
                    return Ok(());
                };
                record::observe(&mut self.observed, lease);
            }
            let Some(observed) = self
                .observed
                .as_ref()
                .filter(|observed| self.is_held_by_us(observed))
            else {
                return Ok(());
            };
            let lease = record::released(observed.lease(), self.clock.now());
            match self.replace(lease).await {
                Ok(_) => {
                    tracing::info!(lease = self.election.name, "released the Lease");
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if known && status.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn extend(&mut self, sent: Instant) {
        self.renewed = Some(sent);
        self.fence.extend(sent + self.election.renew_deadline);
    }

    fn is_held_by_us(&self, observed: &Observed) -> bool {
        observed.holder() == Some(&self.election.identity)
    }

    async fn try_once(&mut self, leads: bool) -> Try {
        let limit = self.election.try_timeout();
        match timeout(limit, self.take_or_renew(leads)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                tracing::warn!(lease = self.election.name, %error, "failed to take or renew the Lease");
                Try::Unknown
            }
            Err(_) => {
                tracing::warn!(
                    lease = self.election.name,
                    ?limit,
                    "failed to take or renew the Lease in time"
                );
                Try::Unknown
            }
        }
    }

    async fn take_or_renew(&mut self, leads: bool) -> Result<Try, kube::Error> {
        // The usual case needs one request: nobody has touched the Lease since our last renewal.
        if leads
            && let Some(observed) = self
                .observed
                .as_ref()
                .filter(|observed| self.is_held_by_us(observed))
        {
            let lease = record::taken_or_renewed(&self.election, observed.lease(), self.clock.now());
            match self.replace(lease).await {
                Ok(held) => return Ok(held),
                Err(error) => tracing::debug!(lease = self.election.name, %error, "reading the Lease anew"),
            }
        }
        let Some(lease) = self.api.get_opt(&self.election.name).await? else {
            let lease = record::created(&self.election, self.clock.now());
            let sent = Instant::now();
            let lease = self.api.create(&PostParams::default(), &lease).await?;
            record::observe(&mut self.observed, lease);
            return Ok(Try::Held { sent });
        };
        let expired =
            record::observe(&mut self.observed, lease.clone()).has_expired(self.election.lease_duration);
        let holder = self.observed.as_ref().and_then(Observed::holder);
        let ours = holder == Some(&self.election.identity);
        if leads && !ours || holder.is_some() && !ours && !expired {
            return Ok(Try::Lost {
                holder: holder.unwrap_or_default().to_owned(),
            });
        }
        if ours {
            self.metrics.slow_path();
        }
        let lease = record::taken_or_renewed(&self.election, &lease, self.clock.now());
        self.replace(lease).await
    }

    /// Writes the Lease on the condition that it is still the version that was read.
    async fn replace(&mut self, lease: Lease) -> Result<Try, kube::Error> {
        let sent = Instant::now();
        let lease = self
            .api
            .replace(&self.election.name, &PostParams::default(), &lease)
            .await?;
        record::observe(&mut self.observed, lease);
        Ok(Try::Held { sent })
    }

    fn report_leader(&mut self) {
        let holder = self.observed.as_ref().and_then(Observed::holder);
        if holder != self.reported.as_deref() {
            self.reported = holder.map(str::to_owned);
            tracing::info!(
                lease = self.election.name,
                leader = self.reported.as_deref().unwrap_or("nobody"),
                "new leader"
            );
        }
    }
}
