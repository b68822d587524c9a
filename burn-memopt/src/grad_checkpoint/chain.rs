use core::{marker::PhantomData, ops::Range};

use burn::module::Module;

use super::{Policy, Segment, Span, Tensors};

/// A model whose forward pass is a chain of blocks, so that it can be cut into
/// segments anywhere between two of them.
///
/// A block may read outputs of blocks before the previous one (the skips of a
/// UNet): they are part of the state that runs along the chain.
pub trait Chain {
    /// What runs along the chain.
    type State: Tensors + Clone;

    /// Number of blocks.
    fn num_blocks(&self) -> usize;

    /// Runs some contiguous blocks.
    fn run_blocks(&self, blocks: Range<usize>, state: Self::State) -> Self::State;

    /// Runs some contiguous blocks as one checkpointed segment, which should own
    /// the modules of these blocks only and take only the tensors they read.
    fn run_segment(
        &self,
        segment: &Segment,
        blocks: Range<usize>,
        state: Self::State,
    ) -> Self::State;

    /// Index of the last block that reads the output of a block. The default is
    /// the next block.
    fn last_use(&self, block: usize) -> usize {
        block + 1
    }
}

/// Runs a chain cut into spans.
pub fn run_chain<C: Chain>(
    chain: &C,
    segment: &Segment,
    spans: &[Span],
    state: C::State,
) -> C::State {
    spans
        .iter()
        .fold(state, |state, span| match span.recompute {
            true => chain.run_segment(segment, span.blocks.clone(), state),
            false => chain.run_blocks(span.blocks.clone(), state),
        })
}

/// Modules of one type that run one after the other.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::grad_checkpoint::{Policy, Segment, Sequence, run_chain};
///
/// let device = Device::flex().autodiff();
/// let layers: Vec<_> = (0..6).map(|_| LinearConfig::new(4, 4).init(&device)).collect();
/// let chain = Sequence::new(&layers, |layer: &Linear, x: Tensor<2>| layer.forward(x));
/// let spans = Policy::Segments(3).spans(layers.len()).unwrap();
/// let y = run_chain(&chain, &Segment::new(), &spans, Tensor::ones([2, 4], &device));
/// assert_eq!(y.dims(), [2, 4]);
/// ```
pub struct Sequence<'a, M, T, F> {
    blocks: &'a [M],
    forward: F,
    state: PhantomData<fn(T) -> T>,
}

impl<'a, M, T, F> Sequence<'a, M, T, F>
where
    M: Module + 'static,
    T: Tensors + Clone,
    F: Fn(&M, T) -> T + Clone + Send + 'static,
{
    /// A sequence of blocks, each run by `forward`.
    pub fn new(blocks: &'a [M], forward: F) -> Self {
        Self {
            blocks,
            forward,
            state: PhantomData,
        }
    }
}

impl<M, T, F> Chain for Sequence<'_, M, T, F>
where
    M: Module + 'static,
    T: Tensors + Clone,
    F: Fn(&M, T) -> T + Clone + Send + 'static,
{
    type State = T;

    fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn run_blocks(&self, blocks: Range<usize>, state: T) -> T {
        let blocks = self.blocks[blocks].iter();
        blocks.fold(state, |state, block| (self.forward)(block, state))
    }

    fn run_segment(&self, segment: &Segment, blocks: Range<usize>, state: T) -> T {
        let forward = self.forward.clone();
        let blocks = self.blocks[blocks].to_vec();
        segment.run(&blocks, state, move |blocks: &Vec<M>, state| {
            blocks
                .iter()
                .fold(state, |state, block| forward(block, state))
        })
    }
}

/// Runs modules one after the other, cut into `num_segments` segments of equal
/// length; the last one is not recomputed, since its backward pass comes at once.
///
/// # Exactness
/// See [`grad_checkpoint`](super).
///
/// # Panics
/// If `num_segments` is zero.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::grad_checkpoint::checkpoint_sequential;
///
/// let device = Device::flex().autodiff();
/// let layers: Vec<_> = (0..6).map(|_| LinearConfig::new(4, 4).init(&device)).collect();
/// let x = Tensor::<2>::ones([2, 4], &device);
/// let y = checkpoint_sequential(&layers, 3, x, |layer: &Linear, x| layer.forward(x));
/// assert!(layers[0].weight.val().grad(&y.sum().backward()).is_some());
/// ```
pub fn checkpoint_sequential<M, T, F>(blocks: &[M], num_segments: usize, inputs: T, forward: F) -> T
where
    M: Module + 'static,
    T: Tensors + Clone,
    F: Fn(&M, T) -> T + Clone + Send + 'static,
{
    let spans = Policy::Segments(num_segments).spans(blocks.len());
    let spans = spans.expect("invariant: only a budget needs costs");
    run_chain(
        &Sequence::new(blocks, forward),
        &Segment::new(),
        &spans,
        inputs,
    )
}
