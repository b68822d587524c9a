use core::ops::Range;

/// Who reads the outputs of a chain's blocks besides the next block.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Writer and reader of each skip.
    skips: Vec<(usize, usize)>,
}

impl Links {
    /// # Panics
    /// If a skip does not go from a block to a later one of the chain.
    pub(super) fn new(skips: Vec<(usize, usize)>, num_blocks: usize) -> Self {
        for &(writer, reader) in &skips {
            assert!(
                writer < reader && reader < num_blocks,
                "a skip must go from a block to a later one of {num_blocks}, got {writer} to {reader}"
            );
        }
        Self { skips }
    }

    /// The writers of the skips that a block reads, in the order in which they were given.
    fn read_by(&self, block: usize) -> impl Iterator<Item = usize> {
        let skips = self.skips.iter().filter(move |skip| skip.1 == block);
        skips.map(|skip| skip.0)
    }

    /// Whether one of the blocks reads a skip.
    fn is_read(&self, writer: usize, by: Range<usize>) -> bool {
        let mut skips = self.skips.iter();
        skips.any(|skip| skip.0 == writer && by.contains(&skip.1))
    }

    /// Index of the last block that reads an output.
    pub(super) fn last_use(&self, block: usize) -> usize {
        let skips = self.skips.iter().filter(|skip| skip.0 == block);
        skips.map(|skip| skip.1).fold(block + 1, usize::max)
    }

    /// Blocks before `range` whose skips are read inside.
    pub(super) fn wanted(&self, range: &Range<usize>) -> Vec<usize> {
        let is_wanted = |&writer: &usize| self.is_read(writer, range.clone());
        (0..range.start).filter(is_wanted).collect()
    }

    /// Blocks of `range` whose skips are read behind it.
    fn handed_on(&self, range: &Range<usize>) -> Vec<usize> {
        let is_read_behind = |writer: &usize| self.is_read(*writer, range.end..usize::MAX);
        range.clone().filter(is_read_behind).collect()
    }
}

/// The skips that wait for their readers while a range of blocks runs.
pub(super) struct Waiting<'a, T> {
    links: &'a Links,
    range: Range<usize>,
    skips: Vec<(usize, T)>,
}

impl<'a, T: Clone> Waiting<'a, T> {
    /// Those that a range [wants](Links::wanted), in that order.
    pub(super) fn new(
        links: &'a Links,
        range: Range<usize>,
        wanted: impl IntoIterator<Item = T>,
    ) -> Self {
        let skips = links.wanted(&range).into_iter().zip(wanted).collect();
        Self {
            links,
            range,
            skips,
        }
    }

    /// The range of blocks that runs.
    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Skips for a block, in the order in which they were given to the chain.
    pub(super) fn for_block(&mut self, block: usize) -> Vec<T> {
        let writers: Vec<_> = self.links.read_by(block).collect();
        self.hand_out(&writers, block + 1)
    }

    /// Skips that some blocks of the range [want](Links::wanted).
    pub(super) fn for_blocks(&mut self, blocks: &Range<usize>) -> Vec<T> {
        self.hand_out(&self.links.wanted(blocks), blocks.end)
    }

    /// Remembers a block's output if a later block reads it as a skip.
    pub(super) fn remember(&mut self, block: usize, output: &T) {
        if !self.links.handed_on(&(block..block + 1)).is_empty() {
            self.skips.push((block, output.clone()));
        }
    }

    /// Remembers what some blocks [handed on](Self::handed_on).
    pub(super) fn remember_all(&mut self, blocks: &Range<usize>, skips: Vec<T>) {
        let writers = self.links.handed_on(blocks);
        self.skips.extend(writers.into_iter().zip(skips));
    }

    /// The skips that the range leaves to the blocks behind it.
    pub(super) fn handed_on(mut self) -> Vec<T> {
        let writers = self.links.handed_on(&self.range);
        self.hand_out(&writers, usize::MAX)
    }

    /// Moves skips out, or copies those that blocks from `next` on read too.
    fn hand_out(&mut self, writers: &[usize], next: usize) -> Vec<T> {
        let hand = |&writer: &usize| {
            let at = self.skips.iter().position(|skip| skip.0 == writer);
            let at = at.expect("invariant: a skip waits from its writer to its last reader");
            // Skips of blocks before the range are needed inside only.
            let end = if writer < self.range.start {
                self.range.end
            } else {
                usize::MAX
            };
            if self.links.is_read(writer, next..end) {
                self.skips[at].1.clone()
            } else {
                self.skips.swap_remove(at).1
            }
        };
        writers.iter().map(hand).collect()
    }
}
