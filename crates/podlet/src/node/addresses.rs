//! The addresses of pods.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use parking_lot::Mutex;

/// Addresses of one network: each is given once until it is given back, and then as late as can be.
#[derive(Debug)]
pub struct Addresses {
    /// The network's first address and how many there are.
    first: u32,
    count: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: u32,
    taken: BTreeSet<u32>,
}

impl Addresses {
    /// Those of the network that the podlet itself has this address in.
    pub fn new(own: Ipv4Addr, prefix: u8) -> Self {
        let own = u32::from(own);
        let count = 1_u32.checked_shl(32 - u32::from(prefix)).unwrap_or(u32::MAX);
        let first = own & !(count - 1);
        Self {
            first,
            count,
            state: Mutex::new(State {
                next: own - first + 1,
                taken: [own - first].into(),
            }),
        }
    }

    /// Takes one. `None` if all are taken.
    pub fn take(&self) -> Option<Ipv4Addr> {
        let mut state = self.state.lock();
        for _ in 0..self.count {
            let offset = state.next % self.count;
            state.next = offset + 1;
            // Neither the network's own address nor its broadcast.
            let usable = offset != 0 && offset != self.count - 1;
            if usable && state.taken.insert(offset) {
                return Some(Ipv4Addr::from(self.first + offset));
            }
        }
        None
    }

    /// Gives one back.
    pub fn release(&self, address: Ipv4Addr) {
        self.state.lock().taken.remove(&(u32::from(address) - self.first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_given_once_and_the_longest_unused_first() {
        let addresses = Addresses::new([10, 1, 2, 1].into(), 29);
        let all: Vec<_> = std::iter::from_fn(|| addresses.take()).collect();
        let last = |last: u8| Ipv4Addr::new(10, 1, 2, last);
        assert_eq!(all, [2, 3, 4, 5, 6].map(last));
        addresses.release(last(5));
        addresses.release(last(3));
        assert_eq!(addresses.take(), Some(last(3)));
        assert_eq!(addresses.take(), Some(last(5)));
        assert_eq!(addresses.take(), None);
    }
}
