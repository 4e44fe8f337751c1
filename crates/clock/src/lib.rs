//! Wall-clock time that follows tokio's clock.
//!
//! Everything that stamps a time (creation, leases, events, certificates) asks a [`Clock`]. It reads the
//! system's clock once, when it is made, and from then on adds what tokio's clock has moved. Under
//! `tokio::time::pause` it stands still and moves with `tokio::time::advance`, so that a paused test is paused
//! whole; otherwise it runs as the machine's monotonic clock does, untouched by steps of the wall clock.

#![deny(missing_docs)]

use jiff::Timestamp;
use tokio::time::Instant;

/// A source of the present time. Clones share the origin and agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    origin: Instant,
}

impl Clock {
    /// A clock that shows the system's time now.
    pub fn system() -> Self {
        Self::at(Timestamp::now())
    }

    /// A clock that shows `wall` now, for tests that need a certain date.
    pub fn at(wall: Timestamp) -> Self {
        Self {
            wall,
            origin: Instant::now(),
        }
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        let passed = self.origin.elapsed();
        jiff::SignedDuration::try_from(passed)
            .ok()
            .and_then(|passed| self.wall.checked_add(passed).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// The present time without its fraction of a second, as `metav1.Time` holds it.
    pub fn now_seconds(&self) -> Timestamp {
        let now = self.now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn moves_with_tokios_clock_only() {
        let start: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let clock = Clock::at(start);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.now(), start);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().to_string(), "2026-01-01T00:01:30.5Z");
        assert_eq!(clock.now_seconds().to_string(), "2026-01-01T00:01:30Z");
    }
}
