//! What goes into a piece of a model and what comes out of it: tensors, and structs of tensors.
//!
//! [`Tensors`] is implemented for tensors of any rank and kind, for tuples, vectors, arrays and
//! options of them, and for burn's own structs whose fields are public. For a struct of your own use
//! [`impl_tensors!`](crate::impl_tensors).
//!
//! | burn's struct | is [`Tensors`] |
//! |---|---|
//! | `LstmState`, `RnnState`, `MhaOutput`, `GeneratePaddingMask` | yes |
//! | `MhaInput`, `TransformerEncoderInput`, `TransformerDecoderInput` | no: private fields |
//! | `MhaCache`, `CrossAttentionCache`, `TensorCache`, autoregressive caches | no: private fields, and for inference alone |
//!
//! Where the fields are private, the tensors are the input and the struct is built inside the
//! closure. The same way a mask reaches a checkpointed segment:
//!
//! ```
//! use burn::nn::attention::{MhaInput, MhaOutput, MultiHeadAttention, MultiHeadAttentionConfig};
//! use burn::tensor::{Bool, Device, Tensor};
//! use burn_memopt::grad_checkpoint::grad_checkpoint;
//!
//! let device = Device::flex().autodiff();
//! let attention = MultiHeadAttentionConfig::new(8, 2).with_dropout(0.0).init(&device);
//! let x = Tensor::<3>::ones([1, 4, 8], &device);
//! let mask = Tensor::<3, Bool>::tril_mask([1, 4, 4], 0, &device);
//!
//! // The mask as an input ...
//! let forward = |attention: &MultiHeadAttention, (x, mask): (Tensor<3>, Tensor<3, Bool>)| {
//!     attention.forward(MhaInput::self_attn(x).mask_attn(mask))
//! };
//! let output: MhaOutput = grad_checkpoint(&attention, (x.clone(), mask.clone()), forward);
//!
//! // ... or a clone of it moved into the closure, which must own all it uses: it runs again in the
//! // backward pass. What needs a gradient must be an input; a mask needs none.
//! let of_segment = mask.clone();
//! let again = grad_checkpoint(&attention, x, move |attention: &MultiHeadAttention, x| {
//!     attention.forward(MhaInput::self_attn(x).mask_attn(of_segment.clone()))
//! });
//! assert_eq!(output.context.into_data(), again.context.into_data());
//! ```

mod macros;

use burn::tensor::kind::Basic;
use burn::tensor::{DispatchTensor, FloatDType, GradientCheckpointingStrategy, Tensor};
use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, TensorMetadata};
use burn_dispatch::{BackendTensor, DispatchAutodiffContext, DispatchKindConversion};

use crate::precision::is_castable;

#[doc(hidden)]
pub use macros::private;

/// The inputs or outputs of a piece of a model: a tensor, or a nest of tuples, vectors, arrays,
/// options and structs of tensors of any rank and kind.
///
/// A value is taken apart into its tensors and a [structure](Self::Structure) that holds none of
/// them, so that the tensors can be detached, stored in another form or cast, and put back. For a
/// struct of your own use [`impl_tensors!`](crate::impl_tensors).
///
/// # Example
/// A type that is not implemented is refused with what to do:
/// ```compile_fail,E0277
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::precision::{Autocast, Precision};
///
/// struct State {
///     hidden: Tensor<2>,
/// }
/// // burn_memopt::impl_tensors!(State { hidden });
///
/// let device = Device::flex();
/// let layer = LinearConfig::new(4, 4).init(&device);
/// let state = State { hidden: Tensor::ones([2, 4], &device) };
/// Autocast::new(Precision::F16).run(&layer, state, |layer, state| layer.forward(state.hidden));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the input or output of a segment or of autocast",
    label = "`Tensors` is not implemented for `{Self}`",
    note = "for a struct of your own write `burn_memopt::impl_tensors!(Name {{ field, other_field }});`",
    note = "`MhaInput`, `TransformerEncoderInput`, `TransformerDecoderInput` and caches have private \
            fields: pass a tuple of their tensors and build the struct inside the closure",
    note = "what is no tensor and never changes can be moved into the closure instead"
)]
pub trait Tensors: Sized + 'static {
    /// What is left of the value without its tensors.
    type Structure: Send + 'static;

    /// Takes the value apart, appending its tensors to `parts` in a fixed order.
    fn flatten(self, parts: &mut Vec<DispatchTensor>) -> Self::Structure;

    /// Puts a value together from the tensors of `parts`, in the same order.
    ///
    /// # Panics
    /// If `parts` ends early, or holds a tensor of another kind.
    fn unflatten(
        structure: &Self::Structure,
        parts: &mut dyn Iterator<Item = DispatchTensor>,
    ) -> Self;

    /// Casts every float tensor to `dtype`, inside the autodiff graph. Integer, boolean and
    /// quantized tensors pass unchanged.
    #[must_use]
    fn cast_floats(self, dtype: FloatDType) -> Self {
        let mut parts = Vec::new();
        let structure = self.flatten(&mut parts);
        let mut parts = parts.into_iter().map(|part| cast(part, dtype));
        Self::unflatten(&structure, &mut parts)
    }
}

/// A float tensor of any rank in another precision.
fn cast(part: DispatchTensor, dtype: FloatDType) -> DispatchTensor {
    if is_castable(part.dtype()) {
        Tensor::<1>::from_dispatch(part).cast(dtype).into_dispatch()
    } else {
        part
    }
}

impl<const D: usize, K: Basic + 'static> Tensors for Tensor<D, K> {
    type Structure = ();

    fn flatten(self, parts: &mut Vec<DispatchTensor>) {
        parts.push(self.into_dispatch());
    }

    fn unflatten(_: &(), parts: &mut dyn Iterator<Item = DispatchTensor>) -> Self {
        let part = parts
            .next()
            .expect("invariant: as many tensors as were flattened");
        Tensor::from_dispatch(part)
    }
}

impl<T: Tensors> Tensors for Vec<T> {
    type Structure = Vec<T::Structure>;

    fn flatten(self, parts: &mut Vec<DispatchTensor>) -> Self::Structure {
        self.into_iter().map(|item| item.flatten(parts)).collect()
    }

    fn unflatten(
        structure: &Self::Structure,
        parts: &mut dyn Iterator<Item = DispatchTensor>,
    ) -> Self {
        structure.iter().map(|s| T::unflatten(s, parts)).collect()
    }

    fn cast_floats(self, dtype: FloatDType) -> Self {
        let items = self.into_iter();
        items.map(|item| item.cast_floats(dtype)).collect()
    }
}

impl<T: Tensors, const N: usize> Tensors for [T; N] {
    type Structure = [T::Structure; N];

    fn flatten(self, parts: &mut Vec<DispatchTensor>) -> Self::Structure {
        self.map(|item| item.flatten(parts))
    }

    fn unflatten(
        structure: &Self::Structure,
        parts: &mut dyn Iterator<Item = DispatchTensor>,
    ) -> Self {
        structure.each_ref().map(|s| T::unflatten(s, parts))
    }

    fn cast_floats(self, dtype: FloatDType) -> Self {
        self.map(|item| item.cast_floats(dtype))
    }
}

impl<T: Tensors> Tensors for Option<T> {
    type Structure = Option<T::Structure>;

    fn flatten(self, parts: &mut Vec<DispatchTensor>) -> Self::Structure {
        self.map(|item| item.flatten(parts))
    }

    fn unflatten(
        structure: &Self::Structure,
        parts: &mut dyn Iterator<Item = DispatchTensor>,
    ) -> Self {
        structure.as_ref().map(|s| T::unflatten(s, parts))
    }

    fn cast_floats(self, dtype: FloatDType) -> Self {
        self.map(|item| item.cast_floats(dtype))
    }
}

macro_rules! impl_tensors_for_tuples {
    ($(($($T:ident $i:tt),*))*) => { $(
        #[allow(unused_variables, clippy::unused_unit)]
        impl<$($T: Tensors),*> Tensors for ($($T,)*) {
            type Structure = ($($T::Structure,)*);

            fn flatten(self, parts: &mut Vec<DispatchTensor>) -> Self::Structure {
                ($(self.$i.flatten(parts),)*)
            }

            fn unflatten(
                structure: &Self::Structure,
                parts: &mut dyn Iterator<Item = DispatchTensor>,
            ) -> Self {
                ($($T::unflatten(&structure.$i, parts),)*)
            }

            fn cast_floats(self, dtype: FloatDType) -> Self {
                ($(self.$i.cast_floats(dtype),)*)
            }
        }
    )* };
}

impl_tensors_for_tuples! {
    ()
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}

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
