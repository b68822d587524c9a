//! How the blocks of a chain run: in which spans, and with which skips.

use core::ops::Range;
use std::sync::Arc;

use burn::module::Module;

use super::{Segment, Span, Tensors};

/// How blocks are run, without the blocks.
#[derive(Debug, Clone)]
pub(super) struct Walk<F> {
    pub(super) links: Arc<Links>,
    pub(super) forward: F,
    pub(super) segment: Segment,
}

impl<F> Walk<F> {
    /// Runs the blocks of the range that `waiting` is of, cut into spans.
    pub(super) fn run<M, T>(
        &self,
        blocks: &[M],
        spans: &[Span],
        x: T,
        waiting: &mut PendingSkips<T>,
    ) -> T
    where
        M: Module + 'static,
        T: Tensors + Clone,
        F: Forward<M, T>,
    {
        let first = waiting.range().start;
        spans.iter().fold(x, |x, span| {
            let own = &blocks[span.blocks.start - first..span.blocks.end - first];
            if span.recompute {
                return self.run_segment(own, span, x, waiting);
            }
            let indices = span.blocks.clone();
            indices.zip(own).fold(x, |x, (index, block)| {
                let output = self.forward.forward(block, x, waiting.for_block(index));
                waiting.remember(index, &output);
                output
            })
        })
    }

    /// Runs a span as a segment that owns its blocks only and takes only the skips they
    /// read. When it runs again, its own cut makes segments inside of it.
    fn run_segment<M, T>(&self, blocks: &[M], span: &Span, x: T, waiting: &mut PendingSkips<T>) -> T
    where
        M: Module + 'static,
        T: Tensors + Clone,
        F: Forward<M, T>,
    {
        let range = span.blocks.clone();
        let inner = span.when_recomputed();
        let walk = self.clone();
        let own = range.clone();
        let inputs = (x, waiting.for_blocks(&range));
        let forward = move |blocks: &Vec<M>, (x, wanted): (T, Vec<T>)| {
            let mut waiting = PendingSkips::new(&walk.links, own.clone(), wanted);
            let x = walk.run(blocks, &inner, x, &mut waiting);
            (x, waiting.handed_on())
        };
        let (x, handed_on) = self.segment.run(&blocks.to_vec(), inputs, forward);
        waiting.remember_all(&range, handed_on);
        x
    }
}

/// Runs one block on the output of the block before and on its skips.
pub trait Forward<M, T>: Clone + Send + 'static {
    /// Runs it.
    fn forward(&self, block: &M, x: T, skips: Vec<T>) -> T;
}

/// The forward pass of blocks that read the output of the block before alone.
#[derive(Debug, Clone, Copy)]
pub struct WithoutSkips<F>(pub(super) F);

/// The forward pass of blocks that read outputs of earlier blocks too.
#[derive(Debug, Clone, Copy)]
pub struct WithSkips<F>(pub(super) F);

impl<M, T, F: Fn(&M, T) -> T + Clone + Send + 'static> Forward<M, T> for WithoutSkips<F> {
    fn forward(&self, block: &M, x: T, _: Vec<T>) -> T {
        (self.0)(block, x)
    }
}

impl<M, T, F: Fn(&M, T, Vec<T>) -> T + Clone + Send + 'static> Forward<M, T> for WithSkips<F> {
    fn forward(&self, block: &M, x: T, skips: Vec<T>) -> T {
        (self.0)(block, x, skips)
    }
}

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
pub(super) struct PendingSkips<'a, T> {
    links: &'a Links,
    range: Range<usize>,
    skips: Vec<(usize, T)>,
}

impl<'a, T: Clone> PendingSkips<'a, T> {
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
