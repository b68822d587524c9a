//! Optimizer state in host memory.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{DType, Device, Tensor};

use crate::memory::{copied_to_host, on_host};

/// Any optimizer of burn, whose state is in host memory between two steps.
///
/// At a step, the state of one parameter after the other is copied to the device of its gradient, and what becomes of it is
/// copied back. On a device that computes in host memory the state is there already: nothing is saved, and it is copied
/// all the same.
///
/// Records are those of the optimizer itself, so a run may go on with its state at the other place.
///
/// # Memory
/// On the device none between two steps, and the state of one parameter during the update. As many bytes on the host as it
/// took on the device.
///
/// # Exactness
/// Bit-equal to the optimizer itself.
///
/// # Panics
/// A step, if the device cannot compute the state: it is read, so that a lack of memory does not go unnoticed. And the
/// second step of parameters of another type than the device's default for floats, f32: burn 0.22.1 would bring their state back
/// as that.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::optim::HostState;
///
/// let device = Device::flex().autodiff();
/// let mut model: Linear = LinearConfig::new(4, 2).init(&device);
/// let mut optimizer = ModuleOptimizer::from(HostState::new(AdamWConfig::new().build()));
/// let loss = model.forward(Tensor::<2>::ones([2, 4], &device)).square().mean();
/// let grads = GradientsParams::from_grads(loss.backward(), &model);
/// model = optimizer.step(0.001, model, grads);
/// # assert_eq!(model.weight.dims(), [4, 2]);
/// ```
#[derive(Clone, Debug)]
pub struct HostState<O> {
    inner: O,
}

impl<O: Optimizer> HostState<O> {
    /// Keeps the state of `optimizer` on the host.
    pub fn new(optimizer: O) -> Self {
        Self { inner: optimizer }
    }
}

impl<O: Optimizer> Optimizer for HostState<O> {
    type State<const D: usize> = HeldState<O::State<D>>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let device = grad.device();
        let state = state.map(|state| state.bring(&device));
        let (tensor, state) = self.inner.step(lr, tensor, grad, state);
        let state = state.map(|state| HeldState::hold(&state, on_host(&device)));
        (tensor, state)
    }

    fn to_device<const D: usize>(state: Self::State<D>, _: &Device) -> Self::State<D> {
        state
    }
}

/// The state of one parameter in host memory, by the names of its record.
pub struct HeldState<S> {
    parts: Arc<StateSink>,
    of: PhantomData<fn() -> S>,
}

impl<S: RecordState> HeldState<S> {
    /// Copies a state to the host, unless its memory is there.
    fn hold(state: &S, shares_memory: bool) -> Self {
        let mut parts = StateSink::default();
        state.state_flatten("", &mut parts);
        if !shares_memory {
            let tensors = parts.tensors.into_iter();
            // burn's copy is made when it is first read.
            let copied = tensors.map(|(name, data)| (name, copied_to_host(data)));
            parts.tensors = copied.collect();
        }
        Self {
            parts: Arc::new(parts),
            of: PhantomData,
        }
    }

    /// The state on a device.
    fn bring(self, device: &Device) -> S {
        // Nobody else has it, unless the optimizer was cloned.
        let StateSink { tensors, scalars } =
            Arc::try_unwrap(self.parts).unwrap_or_else(|parts| StateSink {
                tensors: parts.tensors.clone(),
                scalars: parts.scalars.clone(),
            });
        let mut source = StateSource::new(scalars.into_iter().collect());
        let brought = DType::from(device.settings().float_dtype);
        for (name, data) in tensors {
            assert!(
                !data.dtype().is_float() || data.dtype() == brought,
                "an optimizer's state in {:?} cannot be kept on the host, as it would come back in {brought:?}: \
                 keep parameters in {brought:?}, as `precision` does for training in f16 and bf16, or use \
                 the optimizer without HostState",
                data.dtype(),
            );
            source.insert_tensor(name, data);
        }
        S::state_unflatten("", &mut source, device)
            .expect("invariant: a state has all parts that it was flattened to")
    }
}

impl<S> Clone for HeldState<S> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            of: PhantomData,
        }
    }
}

impl<S> fmt::Debug for HeldState<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.parts.tensors.iter().map(|(name, _)| name).collect();
        f.debug_struct("HeldState")
            .field("tensors", &names)
            .finish_non_exhaustive()
    }
}

impl<S: RecordState> RecordState for HeldState<S> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        for (name, data) in &self.parts.tensors {
            out.push_tensor(prefix, name, data.clone());
        }
        for (name, value) in &self.parts.scalars {
            out.push_scalar(prefix, name, *value);
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let state = S::state_unflatten(prefix, src, device)?;
        Some(Self::hold(&state, on_host(device)))
    }
}
