//! How fast failures are tried again.

use std::time::Duration;

use tokio::time::Instant;

/// The wait before one key is tried again: it doubles with each failure, up to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    jitter: bool,
}

impl Backoff {
    /// From `first` after one failure, doubling, up to `limit`. Each wait is shortened by up to a fifth at random,
    /// so that keys that failed together are not tried together.
    pub const fn exponential(first: Duration, limit: Duration) -> Self {
        Self {
            first,
            limit,
            jitter: true,
        }
    }

    /// The same without its random part.
    pub const fn without_jitter(mut self) -> Self {
        self.jitter = false;
        self
    }

    /// The wait after so many failures in a row.
    pub fn delay(&self, failures: u32) -> Duration {
        let nominal = self.nominal(failures);
        if self.jitter {
            return nominal.mul_f64(rand::random_range(0.8..=1.0));
        }
        nominal
    }

    /// The wait without its random part.
    fn nominal(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.limit)
    }
}

impl Default for Backoff {
    /// 5 ms to 300 s.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(5), Duration::from_secs(300))
    }
}

/// A token bucket: how many failures of all keys together are tried again in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The time in which one token comes back.
    pub interval: Duration,
    /// How many tokens there are at most, and at first.
    pub burst: u32,
}

impl Default for RateLimit {
    /// Ten a second, a hundred at once: client-go's default for controllers.
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            burst: 100,
        }
    }
}

/// The state of a [`RateLimit`], as the time at which the bucket is full again.
#[derive(Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    full_at: Option<Instant>,
}

impl Bucket {
    pub fn new(limit: RateLimit) -> Self {
        Self { limit, full_at: None }
    }

    /// Takes a token and gives the time until it is there.
    pub fn reserve(&mut self, now: Instant) -> Duration {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + self.limit.interval;
        self.full_at = Some(full_at);
        let capacity = self.limit.interval.saturating_mul(self.limit.burst);
        full_at.saturating_duration_since(now).saturating_sub(capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let backoff = Backoff::default();
        let waits = [1, 2, 3, 17, 18, 40, u32::MAX].map(|failures| backoff.nominal(failures).as_millis());
        assert_eq!(waits, [5, 10, 20, 300_000, 300_000, 300_000, 300_000]);
        for _ in 0..100 {
            let wait = backoff.delay(2);
            assert!((Duration::from_millis(8)..=Duration::from_millis(10)).contains(&wait));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(RateLimit {
            interval: Duration::from_secs(1),
            burst: 2,
        });
        let now = Instant::now();
        let waits = [0; 4].map(|_| bucket.reserve(now).as_secs());
        assert_eq!(waits, [0, 0, 1, 2]);
        let later = now + Duration::from_secs(10);
        assert_eq!([0; 3].map(|_| bucket.reserve(later).as_secs()), [0, 0, 1]);
    }
}
