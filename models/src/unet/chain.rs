use std::ops::Range;

/// One block of the chain that a U-Net is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Encoder stage `level`: the input convolutions at level 0, then one pooling stage a level.
    Encoder {
        /// 0 for the full resolution, `depth` for the coarsest.
        level: usize,
    },
    /// Decoder stage that climbs back to `level` and consumes the skip of that level.
    Decoder {
        /// `depth - 1` for the first decoder stage, 0 for the last.
        level: usize,
    },
    /// The final 1×1 convolution.
    Head,
}

/// The order of a U-Net's blocks and the skips that cross any cut between them.
///
/// A U-Net of depth `d` has `2 d + 2` blocks: encoder levels `0..=d`, decoder levels `d-1..=0`,
/// and the head. Encoder level `i < d` produces skip `i`, decoder level `i` consumes it.
/// This type holds only integers; [`UNet::run_blocks`](super::UNet::run_blocks) does the work.
///
/// # Example
/// ```
/// use burn_memopt_models::unet::BlockChain;
///
/// let chain = BlockChain::new(2); // enc0 enc1 enc2 dec1 dec0 head
/// assert_eq!(chain.num_blocks(), 6);
/// assert_eq!(chain.skips_out(0..2), [0, 1]);
/// assert_eq!(chain.skips_in(2..4), [1]);
/// assert_eq!(chain.skips_in(4..6), [0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockChain {
    depth: usize,
}

impl BlockChain {
    /// Describes a U-Net with `depth` pooling stages.
    pub fn new(depth: usize) -> Self {
        Self { depth }
    }

    /// Returns the number of blocks, `2 * depth + 2`.
    pub fn num_blocks(&self) -> usize {
        2 * self.depth + 2
    }

    /// Returns what block `index` is.
    ///
    /// # Panics
    /// If `index` is not below [`num_blocks`](Self::num_blocks).
    pub fn block(&self, index: usize) -> Block {
        assert!(
            index < self.num_blocks(),
            "block index must be below {}, got {index}",
            self.num_blocks()
        );
        if index <= self.depth {
            Block::Encoder { level: index }
        } else if index <= 2 * self.depth {
            Block::Decoder {
                level: 2 * self.depth - index,
            }
        } else {
            Block::Head
        }
    }

    /// Returns the skips that blocks `range` consume but do not produce, in ascending order.
    pub fn skips_in(&self, range: Range<usize>) -> Vec<usize> {
        self.skips()
            .filter(|&skip| range.contains(&self.consumer(skip)) && !range.contains(&skip))
            .collect()
    }

    /// Returns the skips that blocks `range` produce for a later block, in ascending order.
    ///
    /// When the range ends right behind the encoder block that produced the last of them, that
    /// skip is the same tensor as the range's output.
    pub fn skips_out(&self, range: Range<usize>) -> Vec<usize> {
        self.skips()
            .filter(|&skip| range.contains(&skip) && self.consumer(skip) >= range.end)
            .collect()
    }

    /// Panics unless `ranges` follow each other without gaps and cover all blocks.
    pub(super) fn assert_partition(&self, ranges: &[Range<usize>]) {
        let mut next = 0;
        for range in ranges {
            assert!(
                range.start == next && range.end > range.start,
                "block ranges must be non-empty and follow each other, got {range:?} after block {next}"
            );
            next = range.end;
        }
        assert!(
            next == self.num_blocks(),
            "block ranges must end at block {}, got {next}",
            self.num_blocks()
        );
    }

    /// Skip indices; skip `i` is produced by block `i`.
    fn skips(&self) -> Range<usize> {
        0..self.depth
    }

    /// The block that consumes `skip`.
    fn consumer(&self, skip: usize) -> usize {
        2 * self.depth - skip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_named_in_execution_order() {
        let chain = BlockChain::new(1);
        let blocks: Vec<Block> = (0..chain.num_blocks()).map(|i| chain.block(i)).collect();
        assert_eq!(
            blocks,
            [
                Block::Encoder { level: 0 },
                Block::Encoder { level: 1 },
                Block::Decoder { level: 0 },
                Block::Head
            ]
        );
    }

    #[test]
    fn the_whole_network_needs_and_leaves_no_skip() {
        for depth in 1..6 {
            let chain = BlockChain::new(depth);
            assert!(chain.skips_in(0..chain.num_blocks()).is_empty());
            assert!(chain.skips_out(0..chain.num_blocks()).is_empty());
        }
    }

    #[test]
    fn every_cut_is_crossed_by_what_was_produced_and_not_yet_consumed() {
        for depth in 1..5 {
            let chain = BlockChain::new(depth);
            let last = chain.num_blocks();
            for cut in 0..=last {
                assert_eq!(chain.skips_out(0..cut), chain.skips_in(cut..last));
            }
        }
    }

    #[test]
    #[should_panic(expected = "block ranges must end at block 6, got 4")]
    fn a_partition_that_stops_early_is_refused() {
        BlockChain::new(2).assert_partition(&[0..2, 2..4]);
    }
}
