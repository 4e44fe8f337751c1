use std::time::Duration;

use tokio::time::Instant;

/// The wait after the first restart.
const FIRST: Duration = Duration::from_secs(10);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);
/// Whoever ran this long starts from anew.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// How long a container that ended waits before it starts again, as the kubelet has it: the first time not at all, then
/// 10 s, doubled up to 5 minutes.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackOff {
    last: Option<(Instant, Duration)>,
}

impl BackOff {
    /// When it may start, if it ended at `ended`. Call it once for each start.
    pub fn next_start(&mut self, ended: Instant) -> Instant {
        let (start, wait) = match self.last {
            Some((last, wait)) if ended.saturating_duration_since(last) <= FORGOTTEN => {
                (ended + wait, LONGEST.min(wait * 2))
            }
            _ => (ended, FIRST),
        };
        self.last = Some((start, wait));
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_are_forgotten_after_ten() {
        let mut back_off = BackOff::default();
        let mut ended = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let start = back_off.next_start(ended);
            waits.push((start - ended).as_secs());
            ended = start + Duration::from_secs(1);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        let start = back_off.next_start(ended + Duration::from_secs(601));
        assert_eq!(start, ended + Duration::from_secs(601));
        let ended = start + Duration::from_secs(600);
        assert_eq!(back_off.next_start(ended), ended + Duration::from_secs(10));
    }
}
