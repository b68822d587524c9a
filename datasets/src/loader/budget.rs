//! How many bytes may be in flight.
//! Pure.

/// Bytes of the items that were admitted and that the consumer has not got yet.
///
/// Rules:
/// 1. Items that are loading or wait for their turn, the items *ahead*, take at most
///    the bound; or they are one item, which is larger than it.
/// 2. With those *gathered* in batches they take at most the bound; or all of them are fewer
///    items than a batch, which has to be gathered, however large it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Budget {
    bound: u64,
    batch_size: usize,
    ahead: u64,
    ahead_items: usize,
    gathered: u64,
    gathered_items: usize,
    peak: u64,
}

impl Budget {
    pub(super) fn new(bound: u64, batch_size: usize) -> Self {
        Self {
            bound,
            batch_size,
            ..Self::default()
        }
    }

    /// Whether another item may be loaded now.
    pub(super) fn admits(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).is_some_and(|sum| sum <= self.bound);
        let batch_needs_it = self.ahead_items + self.gathered_items < self.batch_size;
        let goes_alone = self.ahead_items == 0;
        fits(self.in_flight()) || (batch_needs_it && (goes_alone || fits(self.ahead)))
    }

    /// An item is going to be loaded.
    pub(super) fn admit(&mut self, bytes: u64) {
        self.ahead = self.ahead.saturating_add(bytes);
        self.ahead_items += 1;
        self.peak = self.peak.max(self.in_flight());
    }

    /// An item was put into a batch.
    pub(super) fn gather(&mut self, bytes: u64) {
        self.give_up(bytes);
        self.gathered = self.gathered.saturating_add(bytes);
        self.gathered_items += 1;
    }

    /// An item that was admitted is not there after all.
    pub(super) fn give_up(&mut self, bytes: u64) {
        self.ahead = self.ahead.saturating_sub(bytes);
        self.ahead_items -= 1;
    }

    /// The consumer got a batch.
    pub(super) fn hand_over(&mut self, bytes: u64, items: usize) {
        self.gathered = self.gathered.saturating_sub(bytes);
        self.gathered_items -= items;
    }

    fn in_flight(&self) -> u64 {
        self.ahead.saturating_add(self.gathered)
    }

    /// The most bytes that were in flight.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Rules 1 and 2, and that a loader never gets stuck, for any interleaving of what can
        /// happen.
        #[test]
        fn the_bound_is_kept_and_something_can_always_be_done(
            bound in 0u64..40,
            batch_size in 1usize..5,
            sizes in prop::collection::vec(0u64..25, 1..60),
            choices in prop::collection::vec(any::<u8>(), 300),
        ) {
            let largest = sizes.iter().copied().max().unwrap_or(0);
            let mut budget = Budget::new(bound, batch_size);
            let (mut coming, mut ahead) = (VecDeque::from(sizes), VecDeque::new());
            let (mut open, mut full) = (Vec::new(), VecDeque::new());
            for choice in choices {
                let can_admit = coming.front().is_some_and(|&bytes| budget.admits(bytes));
                let can: Vec<u8> = [can_admit, !ahead.is_empty(), !full.is_empty()]
                    .into_iter().zip(0u8..).filter_map(|(can, what)| can.then_some(what)).collect();
                prop_assert!(!can.is_empty() || coming.is_empty(), "stuck");
                let Some(&what) = can.get(usize::from(choice) % can.len().max(1)) else { break };
                match what {
                    0 => {
                        let bytes = coming.pop_front().unwrap();
                        budget.admit(bytes);
                        ahead.push_back(bytes);
                    }
                    1 if choice > 230 => budget.give_up(ahead.pop_front().unwrap()),
                    1 => {
                        let bytes = ahead.pop_front().unwrap();
                        budget.gather(bytes);
                        open.push(bytes);
                        if open.len() == batch_size {
                            full.push_back(std::mem::take(&mut open));
                        }
                    }
                    _ => {
                        let batch: Vec<u64> = full.pop_front().unwrap();
                        budget.hand_over(batch.iter().sum(), batch.len());
                    }
                }
                let waiting: u64 = ahead.iter().sum();
                prop_assert!(waiting <= bound.max(largest));
                let held: u64 = open.iter().chain(full.iter().flatten()).sum();
                prop_assert_eq!(budget.in_flight(), waiting + held);
                prop_assert!(waiting + held <= bound.max(batch_size as u64 * largest));
            }
        }
    }

    #[test]
    fn an_item_above_the_bound_goes_alone() {
        let mut budget = Budget::new(10, 4);
        assert!(budget.admits(50));
        budget.admit(50);
        assert!(!budget.admits(1) && !budget.admits(0));
        budget.gather(50);
        assert!(budget.admits(1), "its batch has to be completed");
        assert_eq!(budget.peak(), 50);
    }
}
