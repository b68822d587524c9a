//! The order of items in an epoch: a pure function of seed, epoch and length, and for
//! streams of the size of the buffer.
//! Pure.

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

/// A seed that depends on every bit of `seed` and `position`.
///
/// Neighbouring seeds and positions give unrelated results, unlike their
/// sum or exclusive or: seed 1 in epoch 0 must not repeat seed 0 in epoch 1.
///
/// # References
/// The finalizer is that of SplitMix64: Steele, Lea and Flood 2014, fig. 16.
pub fn mix(seed: u64, position: u64) -> u64 {
    let finalize = |mut bits: u64| {
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let golden = 0x9e37_79b9_7f4a_7c15u64;
    finalize(finalize(seed.wrapping_add(golden)).wrapping_add(position.wrapping_mul(golden)))
}

/// The items `0..len` in the order of `epoch`; in their own order without a seed.
pub(crate) fn epoch_order(seed: Option<u64>, epoch: u64, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    if let Some(seed) = seed {
        order.shuffle(&mut StdRng::seed_from_u64(mix(seed, epoch)));
    }
    order
}

/// The order in which a stream's records leave a shuffle buffer: numbers, never records.
///
/// The buffer is filled with the numbers that are read, one after the other; then one of
/// them leaves, chosen by the seed and by how many have left before, and another is read in
/// its place. What it holds is all that there is to save: see [`restored`](Self::restored).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShuffleBuffer {
    seed: u64,
    size: usize,
    start: u64,
    next: u64,
    held: Vec<u64>,
}

impl ShuffleBuffer {
    /// An empty buffer for `size` records, of which record `start` is read first. A
    /// buffer of one leaves the order as it is.
    ///
    /// # Panics
    /// If `size` is zero.
    pub(crate) fn new(seed: u64, size: usize, start: u64) -> Self {
        assert!(size > 0, "size must be at least 1, got 0");
        Self {
            seed,
            size,
            start,
            next: start,
            held: Vec::new(),
        }
    }

    /// This buffer as it was when it held the records `held` and record `next` was the
    /// next to be read; `None` if no buffer of this size and start can ever have been so.
    pub(crate) fn restored(&self, next: u64, held: Vec<u64>) -> Option<Self> {
        let (size, start) = (self.size, self.start);
        let mut sorted = held.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let is_sound = next >= start
            && held.len() <= size
            && sorted.len() == held.len()
            && sorted.first().is_none_or(|&number| number >= start)
            && sorted.last().is_none_or(|&number| number < next);
        is_sound.then_some(Self {
            next,
            held,
            ..*self
        })
    }

    /// The record that is to be read before another leaves; `None` if the buffer is full.
    pub(crate) fn wants(&self) -> Option<u64> {
        (self.held.len() < self.size).then_some(self.next)
    }

    /// Takes in the next record.
    pub(crate) fn read(&mut self) {
        self.held.push(self.next);
        self.next += 1;
    }

    /// The record that leaves next; `None` if the buffer is empty.
    pub(crate) fn draw(&mut self) -> Option<u64> {
        let len = self.held.len() as u64;
        let slot = mix(self.seed, self.drawn()).checked_rem(len)?;
        Some(self.held.swap_remove(slot as usize))
    }

    /// Reads and draws `count` times, as the reader of a stream of `end` records did; while
    /// the end was not met, `end` is `None`.
    pub(crate) fn advance(&mut self, count: u64, end: Option<u64>) {
        for _ in 0..count {
            while let Some(number) = self.wants()
                && end.is_none_or(|end| number < end)
            {
                self.read();
            }
            self.draw();
        }
    }

    /// Records that have left.
    pub(crate) fn drawn(&self) -> u64 {
        self.next - self.start - self.held.len() as u64
    }

    /// Room for records.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The record read first.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The record to be read next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The records in the buffer; their order matters for what leaves next.
    pub(crate) fn held(&self) -> &[u64] {
        &self.held
    }

    /// The smallest record that is still to leave: reading from there on, once, gives all
    /// that is needed.
    pub(crate) fn first_needed(&self) -> u64 {
        self.held.iter().copied().min().unwrap_or(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn neighbouring_seeds_and_epochs_never_share_a_shuffle() {
        let mixed: HashSet<u64> = (0..64)
            .flat_map(|seed| (0..64).map(move |epoch| mix(seed, epoch)))
            .collect();
        assert_eq!(mixed.len(), 64 * 64);
    }

    #[test]
    fn every_epoch_has_another_order_of_the_same_items() {
        let (first, second) = (epoch_order(Some(3), 0, 100), epoch_order(Some(3), 1, 100));
        assert_ne!(first, second);
        assert_eq!(first, epoch_order(Some(3), 0, 100));
        let items: HashSet<usize> = second.into_iter().collect();
        assert_eq!(items.len(), 100);
    }

    /// Draws from a stream of the records `start..end` until nothing is left.
    fn drain(mut buffer: ShuffleBuffer, end: u64) -> Vec<u64> {
        let mut order = Vec::new();
        loop {
            while buffer.wants().is_some_and(|number| number < end) {
                buffer.read();
            }
            match buffer.draw() {
                Some(number) => order.push(number),
                None => return order,
            }
        }
    }

    proptest! {
        #[test]
        fn every_record_leaves_once_and_none_before_its_turn(
            seed in any::<u64>(), size in 1usize..20, start in 0u64..5, len in 0u64..60,
        ) {
            let order = drain(ShuffleBuffer::new(seed, size, start), start + len);
            for (position, &number) in order.iter().enumerate() {
                prop_assert!(number < start + (position + size) as u64);
            }
            let mut sorted = order;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (start..start + len).collect::<Vec<_>>());
        }

        #[test]
        fn a_restored_buffer_goes_on_as_if_nothing_had_been(
            seed in any::<u64>(), size in 1usize..12, len in 1u64..40, stop in 0u64..40,
        ) {
            let stop = stop.min(len);
            let whole = drain(ShuffleBuffer::new(seed, size, 0), len);
            let mut buffer = ShuffleBuffer::new(seed, size, 0);
            buffer.advance(stop, Some(len));
            prop_assert_eq!(buffer.drawn(), stop);
            let held = buffer.held().to_vec();
            let first = buffer.first_needed();
            prop_assert!(whole[stop as usize..].iter().all(|&number| number >= first));
            let restored = ShuffleBuffer::new(seed, size, 0).restored(buffer.next(), held);
            prop_assert_eq!(restored.as_ref(), Some(&buffer));
            prop_assert_eq!(&drain(buffer, len), &whole[stop as usize..]);
        }
    }

    #[test]
    fn a_buffer_of_one_keeps_the_order() {
        let order = drain(ShuffleBuffer::new(3, 1, 2), 6);
        assert_eq!(order, [2, 3, 4, 5]);
    }

    #[test]
    fn a_buffer_that_cannot_have_been_is_not_restored() {
        let restore =
            |next, held: &[u64]| ShuffleBuffer::new(0, 2, 1).restored(next, held.to_vec());
        assert!(restore(4, &[1, 3]).is_some());
        assert!(restore(0, &[]).is_none(), "before the start");
        assert!(restore(4, &[1, 2, 3]).is_none(), "too many");
        assert!(restore(4, &[4]).is_none(), "not read yet");
        assert!(restore(4, &[0]).is_none(), "before the start");
        assert!(restore(4, &[2, 2]).is_none(), "twice");
    }
}
