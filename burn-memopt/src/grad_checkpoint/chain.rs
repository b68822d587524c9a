use std::borrow::Cow;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use burn::module::Module;

use super::walk::{Forward, Links, PendingSkips, Walk, WithSkips, WithoutSkips};
use super::{Cut, PlanError, Policy, Segment, Span, Tensors, share_seed};

/// Blocks of one type that run one after the other, so that they can be cut into
/// segments anywhere between two of them.
///
/// A block may read outputs of earlier blocks too, like the skips of a U-Net. What
/// differs between blocks is in the block: an enum of layers is a module.
///
/// # Example
/// With options of a [`Segment`]; for none, [`Policy::run`] is one line:
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::grad_checkpoint::{Chain, Policy, Segment};
///
/// let device = Device::flex().autodiff();
/// let layers: Vec<_> = (0..6).map(|_| LinearConfig::new(4, 4).init(&device)).collect();
/// let chain = Chain::new(&layers, |layer: &Linear, x: Tensor<2>| layer.forward(x))
///     .with_segment(Segment::new().without_randomness());
/// let y = chain.run(Policy::Segments(3), Tensor::ones([2, 4], &device));
/// assert_eq!(y.dims(), [2, 4]);
/// ```
#[derive(Debug, Clone)]
pub struct Chain<'a, M: Clone, T, F> {
    pub(super) blocks: Cow<'a, [M]>,
    pub(super) walk: Walk<F>,
    pub(super) group_len: usize,
    state: PhantomData<fn(T) -> T>,
}

impl<'a, M, T, F> Chain<'a, M, T, WithoutSkips<F>>
where
    M: Module + 'static,
    T: Tensors + Clone,
    F: Fn(&M, T) -> T + Clone + Send + 'static,
{
    /// A chain of blocks, borrowed or its own, each run by `forward` on the output
    /// of the one before.
    pub fn new(blocks: impl Into<Cow<'a, [M]>>, forward: F) -> Self {
        Self::build(blocks.into(), Vec::new(), WithoutSkips(forward))
    }
}

impl<'a, M, T, F> Chain<'a, M, T, WithSkips<F>>
where
    M: Module + 'static,
    T: Tensors + Clone,
    F: Fn(&M, T, Vec<T>) -> T + Clone + Send + 'static,
{
    /// A chain whose blocks also read outputs of earlier blocks. `skips` are pairs of
    /// the block that writes and the block that reads; `forward` gets a block's
    /// skips in the order in which they are given here.
    ///
    /// # Panics
    /// If a skip does not go from a block to a later one.
    ///
    /// # Example
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::{Device, Tensor};
    /// use burn_memopt::grad_checkpoint::{Chain, Policy};
    ///
    /// let device = Device::flex().autodiff();
    /// let layers: Vec<_> = (0..4).map(|_| LinearConfig::new(4, 4).init(&device)).collect();
    /// let forward = |layer: &Linear, x: Tensor<2>, skips: Vec<Tensor<2>>| {
    ///     layer.forward(skips.into_iter().fold(x, |x, skip| x + skip))
    /// };
    /// // The last layer also reads the output of the first.
    /// let chain = Chain::with_skips(&layers, vec![(0, 3)], forward);
    /// let y = chain.run(Policy::EveryBlock, Tensor::ones([2, 4], &device));
    /// assert!(layers[0].weight.val().grad(&y.sum().backward()).is_some());
    /// ```
    pub fn with_skips(
        blocks: impl Into<Cow<'a, [M]>>,
        skips: Vec<(usize, usize)>,
        forward: F,
    ) -> Self {
        Self::build(blocks.into(), skips, WithSkips(forward))
    }
}

impl<'a, M, T, F> Chain<'a, M, T, F>
where
    M: Module + 'static,
    T: Tensors + Clone,
    F: Forward<M, T>,
{
    fn build(blocks: Cow<'a, [M]>, skips: Vec<(usize, usize)>, forward: F) -> Self {
        let walk = Walk {
            links: Arc::new(Links::new(skips, blocks.len())),
            forward,
            segment: Segment::new(),
        };
        Self {
            blocks,
            walk,
            group_len: 1,
            state: PhantomData,
        }
    }

    /// Sets the options of the segments that are recomputed. The default is
    /// [`Segment::new`].
    pub fn with_segment(mut self, segment: Segment) -> Self {
        self.walk.segment = segment;
        self
    }

    /// Keeps groups of `group_len` blocks together where a policy asks for every block or a
    /// number of segments: those cut between groups only. Planned cuts
    /// ([`Policy::Least`], [`Policy::Budget`]) go between any two blocks. The default is 1.
    ///
    /// # Panics
    /// If `group_len` is zero.
    pub fn with_groups_of(mut self, group_len: usize) -> Self {
        assert!(group_len > 0, "group_len must be at least 1, got 0");
        self.group_len = group_len;
        self
    }

    /// Number of blocks.
    pub fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Runs the chain, cut by a policy or as it was planned before. No blocks return their input.
    ///
    /// [`Policy::Least`] and [`Policy::Budget`] are planned when the chain first runs
    /// with tracked tensors: the blocks are measured on copies with statistics of their
    /// own, which takes the time of about five steps. The plan is kept in the process for the
    /// same blocks (by the identity of their parameters), shapes and dtypes of `x` and
    /// policy. Where nothing is tracked (inference), the blocks simply run. Inside another
    /// segment, a chain with random numbers is not planned: every block is a segment.
    ///
    /// # Exactness
    /// See [`grad_checkpoint`](super).
    ///
    /// # Panics
    /// If a budget cannot be kept or the device's memory not be measured
    /// ([`try_run`](Self::try_run) returns that as an error); if a policy asks for zero
    /// segments, or spans do not cover the chain.
    pub fn run(&self, cut: impl Into<Cut>, x: T) -> T {
        self.try_run(cut, x)
            .unwrap_or_else(|error| panic!("cannot cut a chain of blocks: {error}"))
    }

    /// As [`run`](Self::run).
    ///
    /// # Errors
    /// [`PlanError`] if the device's memory cannot be measured, or no cut fits a budget
    /// (it contains the least that fits).
    ///
    /// # Panics
    /// If a policy asks for zero segments, or spans do not cover the chain.
    pub fn try_run(&self, cut: impl Into<Cut>, x: T) -> Result<T, PlanError> {
        let spans = match cut.into() {
            Cut::Spans(spans) => spans,
            Cut::Policy(policy) => match policy.spans_of_groups(&self.groups()) {
                Some(spans) => spans,
                None => self.planned_spans(policy, &x)?,
            },
        };
        assert_cover(&spans, self.num_blocks());
        let mut waiting = PendingSkips::new(&self.walk.links, 0..self.num_blocks(), []);
        let run = || self.walk.run(&self.blocks, &spans, x, &mut waiting);
        Ok(share_seed(run))
    }
}

impl<M: Clone, T, F> Chain<'_, M, T, F> {
    fn groups(&self) -> Vec<Range<usize>> {
        let num_blocks = self.blocks.len();
        let starts = (0..num_blocks).step_by(self.group_len);
        let group = |start: usize| start..num_blocks.min(start + self.group_len);
        starts.map(group).collect()
    }
}

fn assert_cover(spans: &[Span], num_blocks: usize) {
    let end = spans.iter().fold(0, |next, span| {
        let Range { start, end } = span.blocks;
        assert!(
            start == next && end >= start,
            "spans must follow each other without gaps, got {start}..{end} behind block {next}"
        );
        end
    });
    assert!(
        end == num_blocks,
        "spans must cover all {num_blocks} blocks of the chain, got {end}"
    );
}

impl Policy {
    /// Runs modules one after the other, recomputing what the policy selects: gradient
    /// checkpointing of a `Vec` of blocks in one line. See [`Chain::run`].
    ///
    /// # Exactness
    /// See [`grad_checkpoint`](super).
    ///
    /// # Panics
    /// As [`Chain::run`].
    ///
    /// # Example
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::{Device, Tensor};
    /// use burn_memopt::grad_checkpoint::Policy;
    /// use burn_memopt::memory::{Bytes, CountingAllocator};
    ///
    /// #[global_allocator]
    /// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
    ///
    /// # fn main() {
    /// let device = Device::flex().autodiff();
    /// let layers: Vec<_> = (0..6).map(|_| LinearConfig::new(16, 16).init(&device)).collect();
    /// let x = Tensor::<2>::ones([64, 16], &device);
    /// let y = Policy::Budget(Bytes::mib(1)).run(&layers, x, |layer: &Linear, x| layer.forward(x));
    /// assert!(layers[0].weight.val().grad(&y.sum().backward()).is_some());
    /// # }
    /// ```
    pub fn run<M, T, F>(self, blocks: &[M], x: T, forward: F) -> T
    where
        M: Module + 'static,
        T: Tensors + Clone,
        F: Fn(&M, T) -> T + Clone + Send + 'static,
    {
        Chain::new(blocks, forward).run(self, x)
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
    Policy::Segments(num_segments).run(blocks, inputs, forward)
}
