//! Between tensors of any device and those of one backend.

use burn::tensor::{DispatchTensor, GradientCheckpointingStrategy};
use burn_backend::{Backend, tensor::FloatTensor};
use burn_dispatch::{BackendTensor, DispatchAutodiffContext, DispatchKindConversion};

/// A float tensor as one of backend `B`; an error if it is one of another.
pub(crate) fn into_primitive<B: Backend>(tensor: DispatchTensor) -> Result<FloatTensor<B>, String>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let tensor = <DispatchTensor as DispatchKindConversion<B>>::try_into_backend(tensor)?;
    Ok(tensor.float())
}

/// A float tensor of backend `B` as one of any device.
pub(crate) fn from_primitive<B: Backend>(tensor: FloatTensor<B>) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<B>,
{
    <DispatchTensor as DispatchKindConversion<B>>::from_backend(BackendTensor::Float(tensor))
}

/// Whether burn's own strategy to keep little is on.
pub(crate) fn is_balanced(tensor: &DispatchTensor) -> bool {
    let balanced = GradientCheckpointingStrategy::Balanced;
    tensor.autodiff == DispatchAutodiffContext::Enabled(balanced)
}
