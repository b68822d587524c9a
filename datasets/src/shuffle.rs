//! The order of items in an epoch: a pure function of seed, epoch and length, and for
//! streams of the size of the buffer.

mod buffer;

pub use buffer::ShuffleBuffer;

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
pub fn epoch_order(seed: Option<u64>, epoch: u64, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    if let Some(seed) = seed {
        order.shuffle(&mut StdRng::seed_from_u64(mix(seed, epoch)));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
