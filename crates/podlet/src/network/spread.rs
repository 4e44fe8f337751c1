//! Which endpoint a new connection goes to.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::plan::{Behind, Target};

/// So many clients are remembered at most.
const MOST_CLIENTS: usize = 4096;

/// What is behind a port, and who came last.
#[derive(Debug, Default)]
pub struct Spread(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    behind: Behind,
    next: usize,
    clients: HashMap<IpAddr, (Target, Instant)>,
}

impl Spread {
    /// Over these.
    pub fn new(behind: Behind) -> Self {
        let spread = Self::default();
        spread.set(behind);
        spread
    }

    /// Over others from now on.
    pub fn set(&self, behind: Behind) {
        let mut state = self.0.lock();
        state
            .clients
            .retain(|_, (target, _)| behind.targets.contains(target));
        state.behind = behind;
    }

    /// Where a connection of this client's goes, and where it goes if that does not answer.
    pub fn choose(&self, client: IpAddr) -> Vec<Target> {
        let mut state = self.0.lock();
        let State {
            behind,
            next,
            clients,
        } = &mut *state;
        let count = behind.targets.len();
        if count == 0 {
            return Vec::new();
        }
        let Some(keep) = behind.affinity else {
            *next = (*next + 1) % count;
            return (*next..count)
                .chain(0..*next)
                .take(2)
                .map(|at| behind.targets[at])
                .collect();
        };
        let now = Instant::now();
        if clients.len() >= MOST_CLIENTS {
            clients.retain(|_, (_, last)| now.duration_since(*last) < keep);
        }
        let known = clients
            .get(&client)
            .filter(|(_, last)| now.duration_since(*last) < keep);
        let first = match known {
            Some((target, _)) => *target,
            None => {
                *next = (*next + 1) % count;
                behind.targets[*next]
            }
        };
        if clients.len() < MOST_CLIENTS || clients.contains_key(&client) {
            clients.insert(client, (first, now));
        }
        let other = behind.targets.iter().copied().find(|target| *target != first);
        std::iter::once(first).chain(other).collect()
    }

    /// Remembers that a client was answered by another endpoint than it was meant to be.
    pub fn went_to(&self, client: IpAddr, target: Target) {
        let mut state = self.0.lock();
        if let Some(known) = state.clients.get_mut(&client) {
            known.0 = target;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn targets(lasts: &[u8]) -> Vec<Target> {
        let target = |&last| Target::Pod(format!("10.244.0.{last}:80").parse().unwrap());
        lasts.iter().map(target).collect()
    }

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 244, 1, last])
    }

    #[tokio::test(start_paused = true)]
    async fn one_after_the_other() {
        let spread = Spread::new(Behind {
            targets: targets(&[1, 2, 3]),
            affinity: None,
        });
        let mut first: Vec<Target> = (0..6).map(|_| spread.choose(client(1))[0]).collect();
        first.sort_by_key(|target| format!("{target:?}"));
        assert_eq!(first, targets(&[1, 1, 2, 2, 3, 3]));
        let both = spread.choose(client(1));
        assert!(both.len() == 2 && both[0] != both[1]);
        spread.set(Behind {
            targets: targets(&[3]),
            affinity: None,
        });
        assert_eq!(spread.choose(client(1)), targets(&[3]));
        spread.set(Behind::default());
        assert!(spread.choose(client(1)).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_stays_where_it_was() {
        let keep = Some(Duration::from_secs(60));
        let spread = Spread::new(Behind {
            targets: targets(&[1, 2, 3]),
            affinity: keep,
        });
        let first = spread.choose(client(1))[0];
        let second = spread.choose(client(2))[0];
        assert_ne!(first, second);
        for _ in 0..5 {
            advance(Duration::from_secs(50)).await;
            assert_eq!(spread.choose(client(1))[0], first);
        }
        // Until its endpoint goes, or another one answered for it.
        let left: Vec<Target> = targets(&[1, 2, 3])
            .into_iter()
            .filter(|target| *target != first)
            .collect();
        spread.set(Behind {
            targets: left,
            affinity: keep,
        });
        let next = spread.choose(client(1));
        assert!(!next.contains(&first));
        spread.went_to(client(1), next[1]);
        assert_eq!(spread.choose(client(1))[0], next[1]);
        // Or it has not come for long: then it is as new.
        advance(Duration::from_secs(60)).await;
        let counted = spread.choose(client(3))[0];
        assert_ne!(spread.choose(client(1))[0], counted);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_are_remembered_are_bounded() {
        let keep = Some(Duration::from_secs(60));
        let spread = Spread::new(Behind {
            targets: targets(&[1, 2]),
            affinity: keep,
        });
        for number in 0..10_000_u32 {
            assert_eq!(spread.choose(IpAddr::from(number.to_be_bytes())).len(), 2);
        }
        assert_eq!(spread.0.lock().clients.len(), MOST_CLIENTS);
    }
}
