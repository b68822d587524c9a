//! Adam and AdamW with moments in 8 bits.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::config::Config;
use burn::grad_clipping::GradientClippingConfig;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{
    Adam, AdamConfig, AdamState, AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState,
    LearningRate, ModuleOptimizer, Optimizer,
};
use burn::tensor::{Device, FloatDType, Tensor};

use super::blocks::Codec;
use super::moments::{Moments, is_packed};

/// Settings of [`Adam8bit`], with the names and defaults of burn's [`AdamConfig`].
#[derive(Config, Debug)]
pub struct Adam8bitConfig {
    /// How much stays of the first moment at a step. The default is `0.9`.
    #[config(default = 0.9)]
    beta_1: f32,
    /// How much stays of the second moment. The default is `0.999`.
    #[config(default = 0.999)]
    beta_2: f32,
    /// Added to the root of the second moment. The default is `1e-5`.
    #[config(default = 1e-5)]
    epsilon: f32,
    /// Whether the largest second moment so far is used. The default is `false`.
    #[config(default = false)]
    amsgrad: bool,
    /// Weight decay, as a part of the gradient. The default is none.
    weight_decay: Option<WeightDecayConfig>,
    /// Clipping of each gradient alone. The default is none.
    grad_clipping: Option<GradientClippingConfig>,
}

impl Adam8bitConfig {
    /// The optimizer of one parameter, for [`ModuleOptimizer::with_group`]; without the clipping.
    pub fn build(&self) -> Adam8bit {
        let config = AdamConfig::new()
            .with_beta_1(self.beta_1)
            .with_beta_2(self.beta_2)
            .with_epsilon(self.epsilon)
            .with_amsgrad(self.amsgrad)
            .with_weight_decay(self.weight_decay.clone());
        EightBit::new(config.build())
    }

    /// The optimizer of a module.
    pub fn init(&self) -> ModuleOptimizer {
        clipped(self.build(), self.grad_clipping.as_ref())
    }
}

/// Settings of [`AdamW8bit`], with the names and defaults of burn's [`AdamWConfig`].
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::optim::AdamW8bitConfig;
///
/// let device = Device::flex().autodiff();
/// let mut model: Linear = LinearConfig::new(128, 64).init(&device);
/// let mut optimizer = AdamW8bitConfig::new().with_weight_decay(0.01).init();
/// let loss = model.forward(Tensor::<2>::ones([2, 128], &device)).square().mean();
/// let grads = GradientsParams::from_grads(loss.backward(), &model);
/// model = optimizer.step(0.001, model, grads);
/// # assert_eq!(model.weight.dims(), [128, 64]);
/// ```
#[derive(Config, Debug)]
pub struct AdamW8bitConfig {
    /// How much stays of the first moment at a step. The default is `0.9`.
    #[config(default = 0.9)]
    beta_1: f32,
    /// How much stays of the second moment. The default is `0.999`.
    #[config(default = 0.999)]
    beta_2: f32,
    /// Added to the root of the second moment. The default is `1e-5`.
    #[config(default = 1e-5)]
    epsilon: f32,
    /// Decay of the weights, times the learning rate. The default is `1e-4`.
    #[config(default = 1e-4)]
    weight_decay: f32,
    /// Whether only weights that the step makes smaller decay. The default is `false`.
    #[config(default = false)]
    cautious_weight_decay: bool,
    /// Whether the largest second moment so far is used. The default is `false`.
    #[config(default = false)]
    amsgrad: bool,
    /// Clipping of each gradient alone. The default is none.
    grad_clipping: Option<GradientClippingConfig>,
}

impl AdamW8bitConfig {
    /// The optimizer of one parameter, for [`ModuleOptimizer::with_group`]; without the clipping.
    pub fn build(&self) -> AdamW8bit {
        let config = AdamWConfig::new()
            .with_beta_1(self.beta_1)
            .with_beta_2(self.beta_2)
            .with_epsilon(self.epsilon)
            .with_weight_decay(self.weight_decay)
            .with_cautious_weight_decay(self.cautious_weight_decay)
            .with_amsgrad(self.amsgrad);
        EightBit::new(config.build())
    }

    /// The optimizer of a module.
    pub fn init(&self) -> ModuleOptimizer {
        clipped(self.build(), self.grad_clipping.as_ref())
    }
}

fn clipped(optimizer: impl Optimizer, config: Option<&GradientClippingConfig>) -> ModuleOptimizer {
    let optimizer = ModuleOptimizer::from(optimizer);
    match config {
        Some(config) => optimizer.with_grad_clipping(config.init()),
        None => optimizer,
    }
}

/// Adam with moments in 8 bits; [`Adam8bitConfig`] makes it.
pub type Adam8bit = EightBit<Adam>;

/// AdamW with moments in 8 bits; [`AdamW8bitConfig`] makes it.
pub type AdamW8bit = EightBit<AdamW>;

/// burn's [`Adam`] or [`AdamW`], which keeps its moments in 8 bits between two steps.
///
/// A moment is kept in blocks of 256 values, in row-major order: a code of 8 bits for each value, and the largest
/// magnitude of the block in f32. The code is dense near zero and spans seven powers of ten. Parameters of
/// fewer than 4,096 values keep their moments in f32. At a step the moments of one parameter are f32 for the
/// time of its update, which is burn's.
///
/// # Memory
/// 2.03 bytes for each value instead of 8; with AMSGrad 3.05 instead of 12. Four codes share a word of 32 bits, which every device
/// has.
///
/// # Exactness
/// Not exact. A code is the number next to the value, to within 0.1 % of the value, of numbers that lie up to 1.4 % (first moment)
/// or 0.7 % (second) apart near the largest value of a block, and up to 14 % and 7 % near a tenth of it. A second moment
/// above 2.3e-16 of the largest of its block does not become zero, which would divide a step by ε alone.
///
/// # Records
/// Saved and loaded as those of any optimizer of burn. A record of burn's [`Adam`] or [`AdamW`] is loaded too, and
/// encoded; those of others are refused by [`load_optimizer`](super::load_optimizer).
///
/// # Source
/// Dettmers et al. 2022, [8-bit Optimizers via Block-wise Quantization](https://arxiv.org/abs/2110.02861), sections 2
/// and 3, with blocks of 256 as bitsandbytes has them.
#[derive(Clone)]
pub struct EightBit<O> {
    inner: O,
    /// Of the devices that parameters are on.
    codecs: Arc<Mutex<Vec<(Device, Codecs)>>>,
}

/// What both moments are encoded by.
#[derive(Clone)]
pub(super) struct Codecs {
    pub(super) first: Codec,
    pub(super) second: Codec,
}

impl Codecs {
    pub(super) fn new(device: &Device) -> Self {
        Self {
            first: Codec::signed(device),
            second: Codec::unsigned(device),
        }
    }
}

impl<O> EightBit<O> {
    fn new(inner: O) -> Self {
        Self {
            inner,
            codecs: Arc::default(),
        }
    }

    fn codecs(&self, device: &Device) -> Codecs {
        let mut all = self.codecs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, codecs)) = all.iter().find(|(of, _)| of == device) {
            return codecs.clone();
        }
        let codecs = Codecs::new(device);
        all.push((device.clone(), codecs.clone()));
        codecs
    }
}

impl<O> fmt::Debug for EightBit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EightBit").finish_non_exhaustive()
    }
}

impl<O: TwoMoments> Optimizer for EightBit<O> {
    type State<const D: usize> = Moments<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Moments<D>>,
    ) -> (Tensor<D>, Option<Moments<D>>) {
        let is_packed = is_packed(&grad.shape());
        let codecs = is_packed.then(|| self.codecs(&grad.device()));
        let dtype: FloatDType = grad.dtype().into();
        let state =
            state.map(|state| O::state(state.unpack(codecs.as_ref(), &grad.shape(), dtype)));
        let (tensor, state) = self.inner.step(lr, tensor, grad, state);
        let state = state.map(|state| Moments::pack(O::moments(state), codecs.as_ref()));
        (tensor, state)
    }

    fn to_device<const D: usize>(state: Moments<D>, device: &Device) -> Moments<D> {
        state.moved(device)
    }
}

/// An optimizer of burn whose state are Adam's moments.
pub trait TwoMoments: Optimizer + sealed::Sealed {
    /// Its state of given moments.
    #[doc(hidden)]
    fn state<const D: usize>(moments: AdaptiveMomentumState<D>) -> Self::State<D>;

    /// The moments of its state.
    #[doc(hidden)]
    fn moments<const D: usize>(state: Self::State<D>) -> AdaptiveMomentumState<D>;
}

impl TwoMoments for Adam {
    fn state<const D: usize>(moments: AdaptiveMomentumState<D>) -> AdamState<D> {
        AdamState::new(moments)
    }

    fn moments<const D: usize>(state: AdamState<D>) -> AdaptiveMomentumState<D> {
        state.momentum
    }
}

impl TwoMoments for AdamW {
    fn state<const D: usize>(moments: AdaptiveMomentumState<D>) -> AdamWState<D> {
        AdamWState::new(moments)
    }

    fn moments<const D: usize>(state: AdamWState<D>) -> AdaptiveMomentumState<D> {
        state.momentum
    }
}

mod sealed {
    use burn::optim::{Adam, AdamW};

    pub trait Sealed {}
    impl Sealed for Adam {}
    impl Sealed for AdamW {}
}
