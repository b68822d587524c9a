use std::sync::Arc;

use burn::module::Module;

use super::links::{Links, Waiting};
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
        waiting: &mut Waiting<T>,
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
    fn run_segment<M, T>(&self, blocks: &[M], span: &Span, x: T, waiting: &mut Waiting<T>) -> T
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
            let mut waiting = Waiting::new(&walk.links, own.clone(), wanted);
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
