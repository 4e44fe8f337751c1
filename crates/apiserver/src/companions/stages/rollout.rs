//! The arithmetic of a Deployment's rolling update: how many replicas each of its `ReplicaSets` is to have.

/// The replicas of a `ReplicaSet`: wanted, there, and available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) wanted: i64,
    pub(super) there: i64,
    pub(super) available: i64,
}

/// What a Deployment asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) replicas: i64,
    pub(super) surge: i64,
    pub(super) unavailable: i64,
}

impl Limits {
    /// The fewest pods that must be available.
    pub(super) fn least(&self) -> i64 {
        self.replicas - self.unavailable
    }
}

/// The size that the new `ReplicaSet` gets now, beside these old ones.
pub(super) fn new_size(limits: Limits, new: Size, old: &[Size]) -> i64 {
    if new.wanted > limits.replicas {
        return limits.replicas;
    }
    let total: i64 = new.wanted + old.iter().map(|size| size.wanted).sum::<i64>();
    let room = (limits.replicas + limits.surge - total).max(0);
    new.wanted + room.min(limits.replicas - new.wanted)
}

/// The sizes that the old ones get now, in their order (the oldest first).
pub(super) fn old_sizes(limits: Limits, new: Size, old: &[Size]) -> Vec<i64> {
    let mut sizes: Vec<i64> = old.iter().map(|size| size.wanted).collect();
    let total: i64 = new.wanted + sizes.iter().sum::<i64>();
    let mut room = total - limits.least() - (new.wanted - new.available);
    if room <= 0 {
        return sizes;
    }
    // What does not work goes first: it can't be missed.
    for (size, old) in sizes.iter_mut().zip(old) {
        let broken = (*size - old.available).clamp(0, room);
        *size -= broken;
        room -= broken;
    }
    let available: i64 = new.available + old.iter().map(|size| size.available).sum::<i64>();
    let mut spare = available - limits.least();
    for size in &mut sizes {
        let goes = (*size).clamp(0, spare.max(0));
        *size -= goes;
        spare -= goes;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(wanted: i64, available: i64) -> Size {
        Size {
            wanted,
            there: wanted,
            available,
        }
    }

    #[test]
    fn surges_before_it_takes() {
        let limits = Limits {
            replicas: 3,
            surge: 1,
            unavailable: 0,
        };
        assert_eq!(new_size(limits, size(0, 0), &[size(3, 3)]), 1);
        assert_eq!(old_sizes(limits, size(1, 0), &[size(3, 3)]), [3]);
        assert_eq!(old_sizes(limits, size(1, 1), &[size(3, 3)]), [2]);
    }

    proptest! {
        /// However fast pods get available, a rollout ends, with never too few available and never too many.
        #[test]
        fn a_rollout_ends_within_its_limits(
            replicas in 1..8_i64, surge in 0..4_i64, unavailable in 0..4_i64, ups in prop::collection::vec(any::<bool>(), 200)
        ) {
            let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(replicas) };
            let limits = Limits { replicas, surge, unavailable };
            let (mut new, mut old) = (size(0, 0), size(replicas, replicas));
            for up in ups {
                new.wanted = new_size(limits, new, &[old]);
                new.there = new.wanted;
                old.wanted = old_sizes(limits, new, &[old])[0];
                old.available = old.available.min(old.wanted);
                prop_assert!(new.wanted + old.wanted <= replicas + surge);
                prop_assert!(new.available + old.available >= limits.least());
                new.available = (new.available + i64::from(up)).min(new.wanted);
            }
            prop_assert!(new.wanted + old.wanted >= limits.least());
        }
    }
}
