//! Networks that are chains of blocks, so that they can be cut for gradient checkpointing.

use burn::module::Module;
use burn::tensor::Tensor;
use burn_memopt::grad_checkpoint::{
    BlockCost, Chain, Cut, Plan, PlanError, Policy, Segment, UnmeasuredError, WithSkips,
    own_gradient,
};
use burn_memopt::tensors::Tensors;

/// What a block keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What burn keeps of every operation.
    All,
    /// The inputs of activations and normalizations; the rest of them is recomputed, which costs
    /// little.
    Input,
}

impl Keep {
    /// What blocks keep in a network that is cut so.
    pub(crate) fn when_cut(cut: &Cut) -> Self {
        if cut.recomputes() {
            Self::Input
        } else {
            Self::All
        }
    }

    /// Runs a layer without randomness, keeping its input alone where that is asked for.
    pub(crate) fn run<M, I>(self, layer: &M, input: I, forward: fn(&M, I) -> I) -> I
    where
        M: Module + 'static,
        I: Tensors + 'static,
    {
        match self {
            Self::All => forward(layer, input),
            Self::Input => Segment::new()
                .without_randomness()
                .run(layer, input, forward),
        }
    }

    /// Concatenates a skip and the decoder's features along the channels.
    ///
    /// Where little is kept, the skip's gradient is a tensor of its own: it waits until the
    /// encoder's turn and must not hold on to the gradient of both.
    pub(crate) fn join(self, skip: Tensor<4>, x: Tensor<4>) -> Tensor<4> {
        let skip = match self {
            Self::All => skip,
            Self::Input => own_gradient(skip, &x),
        };
        Tensor::cat(vec![skip, x], 1)
    }
}

/// A block of a network's chain.
pub trait Block: Module + 'static {
    /// Runs the block on the output of the block before it, and on its skip where it has one.
    fn run(&self, keep: Keep, x: Tensor<4>, skip: Option<Tensor<4>>) -> Tensor<4>;
}

/// The chain of a network's blocks.
pub(crate) type BlockChain<B> =
    Chain<'static, B, Tensor<4>, WithSkips<fn(&B, Tensor<4>, Vec<Tensor<4>>) -> Tensor<4>>>;

/// Links blocks to a chain; a skip is the index of the block that writes it and of the one that
/// reads it.
pub(crate) fn chain<B: Block>(
    blocks: Vec<B>,
    skips: Vec<(usize, usize)>,
    keep: Keep,
) -> BlockChain<B> {
    let forward: fn(&B, Tensor<4>, Vec<Tensor<4>>) -> Tensor<4> = match keep {
        Keep::All => |block, x, skips| block.run(Keep::All, x, skips.into_iter().next()),
        Keep::Input => |block, x, skips| block.run(Keep::Input, x, skips.into_iter().next()),
    };
    Chain::with_skips(blocks, skips, forward).with_segment(Segment::new().without_randomness())
}

/// A network that is a chain of blocks and recomputes those that a policy or a plan says.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::grad_checkpoint::Policy;
/// use burn_memopt_models::GradCheckpoint;
/// use burn_memopt_models::unet::UNetConfig;
///
/// let device = Device::flex().autodiff();
/// let unet = UNetConfig::new(1, 1).with_base_channels(4).with_depth(1).init(&device);
/// let unet = unet.with_grad_checkpoint(Policy::EveryBlock);
/// let grads = unet.forward(Tensor::ones([1, 1, 8, 8], &device)).sum().backward();
/// assert!(unet.outc.weight.val().grad(&grads).is_some());
/// ```
pub trait GradCheckpoint: Module {
    /// A block of the chain.
    type Block: Block;

    /// Computes the network's output for `[batch_size, channels, height, width]`.
    fn forward(&self, input: Tensor<4>) -> Tensor<4>;

    /// How the network is cut.
    fn cut(&self) -> &Cut;

    /// As [`cut`](Self::cut), to change it.
    #[doc(hidden)]
    fn cut_mut(&mut self) -> &mut Cut;

    /// The chain of blocks that keep as much as `keep` says.
    #[doc(hidden)]
    fn chain_keeping(&self, keep: Keep) -> BlockChain<Self::Block>;

    /// The network as a chain, as it runs.
    fn chain(&self) -> BlockChain<Self::Block> {
        self.chain_keeping(Keep::when_cut(self.cut()))
    }

    /// Cuts the network by a [`Policy`], or as a [`Plan`] says.
    ///
    /// [`Policy::Least`] and [`Policy::Budget`] are planned at the first forward pass of each shape
    /// (see [`Chain::run`]).
    #[must_use]
    fn with_grad_checkpoint(mut self, cut: impl Into<Cut>) -> Self {
        *self.cut_mut() = cut.into();
        self
    }

    /// Measures the blocks on a sample, of the size of a micro-batch, and plans where to cut.
    ///
    /// The network's running statistics stay as they are. The predicted peak counts activations
    /// and gradients, not parameters, optimizer state or what the loss itself needs.
    ///
    /// # Shapes
    /// - sample: as of [`forward`](Self::forward), on an autodiff device
    ///
    /// # Errors
    /// [`PlanError`] if the device's memory cannot be measured, or no cut fits a budget (it says
    /// the least that would do).
    fn plan(&self, policy: Policy, sample: Tensor<4>) -> Result<Plan, PlanError> {
        self.chain_keeping(Keep::Input).plan(policy, sample)
    }

    /// Measures what each block costs on a sample, without planning; statistics and shapes are
    /// those of [`plan`](Self::plan).
    ///
    /// # Errors
    /// [`UnmeasuredError`] if the device's memory cannot be measured.
    fn profile(&self, sample: Tensor<4>) -> Result<Vec<BlockCost>, UnmeasuredError> {
        self.chain_keeping(Keep::Input).profile(sample)
    }
}
