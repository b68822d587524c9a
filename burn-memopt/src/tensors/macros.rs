use burn::nn::attention::{GeneratePaddingMask, MhaOutput};
use burn::nn::{LstmState, RnnState};

/// Implements [`Tensors`](crate::tensors::Tensors) for a struct, given the names of all its fields.
///
/// Each field is [`Tensors`](crate::tensors::Tensors) itself. After `uncast` come fields of tensors
/// that autocast leaves in their precision, coordinates for instance; after `plain`, fields that hold
/// no tensors: `Clone`, `Send` and `'static`. The struct may have constant parameters.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::grad_checkpoint::grad_checkpoint;
/// use burn_memopt::impl_tensors;
///
/// struct State<const D: usize> {
///     hidden: Tensor<D>,
///     cell: Option<Tensor<D>>,
/// }
/// impl_tensors!(impl<const D: usize> State<D> { hidden, cell });
///
/// struct Step {
///     state: State<2>,
///     positions: Tensor<2>,
///     index: usize,
/// }
/// impl_tensors!(Step { state; uncast positions; plain index });
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(4, 4).init(&device);
/// let step = Step {
///     state: State { hidden: Tensor::ones([2, 4], &device), cell: None },
///     positions: Tensor::zeros([2, 2], &device),
///     index: 7,
/// };
/// let step = grad_checkpoint(&layer, step, |layer: &Linear, mut step: Step| {
///     step.state.hidden = layer.forward(step.state.hidden);
///     step.index += 1;
///     step
/// });
/// assert_eq!((step.index, step.positions.dims(), step.state.cell.is_none()), (8, [2, 2], true));
/// let grads = step.state.hidden.sum().backward();
/// assert!(layer.weight.val().grad(&grads).is_some());
/// ```
///
/// A field that is left out does not compile:
/// ```compile_fail,E0027
/// use burn::tensor::Tensor;
///
/// struct State {
///     hidden: Tensor<2>,
///     cell: Tensor<2>,
/// }
/// burn_memopt::impl_tensors!(State { hidden });
/// ```
#[macro_export]
macro_rules! impl_tensors {
    (@impl [$($generics:tt)*] $name:ty {
        $($field:ident),* $(,)?
        $(; uncast $($uncast:ident),+ $(,)?)?
        $(; plain $($plain:ident),+ $(,)?)?
    }) => {
        impl<$($generics)*> $crate::tensors::Tensors for $name {
            type Structure = $crate::tensors::private::Structure;

            fn flatten(
                self,
                parts: &mut ::std::vec::Vec<$crate::tensors::private::DispatchTensor>,
            ) -> Self::Structure {
                let Self { $($field,)* $($($uncast,)+)? $($($plain,)+)? } = self;
                // In this order: the tensors are put back in it.
                Self::Structure::from([
                    $($crate::tensors::private::taken_apart($field, parts),)*
                    $($($crate::tensors::private::taken_apart($uncast, parts),)+)?
                    $($($crate::tensors::private::erased($plain),)+)?
                ])
            }

            fn unflatten(
                structure: &Self::Structure,
                parts: &mut dyn ::std::iter::Iterator<
                    Item = $crate::tensors::private::DispatchTensor,
                >,
            ) -> Self {
                let mut structure = structure.iter();
                Self {
                    $($field: $crate::tensors::private::put_together(&mut structure, parts),)*
                    $($($uncast: $crate::tensors::private::put_together(&mut structure, parts),)+)?
                    $($($plain: ::std::clone::Clone::clone(
                        $crate::tensors::private::next(&mut structure),
                    ),)+)?
                }
            }

            fn cast_floats(self, dtype: $crate::tensors::private::FloatDType) -> Self {
                let Self { $($field,)* $($($uncast,)+)? $($($plain,)+)? } = self;
                Self {
                    $($field: $crate::tensors::Tensors::cast_floats($field, dtype),)*
                    $($($uncast,)+)?
                    $($($plain,)+)?
                }
            }
        }
    };
    (impl<$(const $parameter:ident: $kind:ty),+ $(,)?> $name:ty { $($fields:tt)* }) => {
        $crate::impl_tensors!(@impl [$(const $parameter: $kind),+] $name { $($fields)* });
    };
    ($name:ty { $($fields:tt)* }) => {
        $crate::impl_tensors!(@impl [] $name { $($fields)* });
    };
}

impl_tensors!(impl<const D: usize> LstmState<D> { cell, hidden });
impl_tensors!(impl<const D: usize> RnnState<D> { hidden });
impl_tensors!(MhaOutput { weights, context });
impl_tensors!(GeneratePaddingMask { tensor, mask });

/// What [`impl_tensors!`](crate::impl_tensors) expands to.
#[doc(hidden)]
pub mod private {
    use std::any::Any;

    pub use burn::tensor::{DispatchTensor, FloatDType};

    use crate::tensors::Tensors;

    /// The structures of the fields, in their order. Erased, because a macro that is given the names of
    /// fields does not know their types.
    pub type Structure = Vec<Erased>;

    /// The structure of a field, or the field itself if it holds no tensors.
    type Erased = Box<dyn Any + Send>;

    pub fn erased<T: Send + 'static>(plain: T) -> Erased {
        Box::new(plain)
    }

    pub fn taken_apart<T: Tensors>(field: T, parts: &mut Vec<DispatchTensor>) -> Erased {
        erased(field.flatten(parts))
    }

    pub fn put_together<'a, T: Tensors>(
        structure: &mut impl Iterator<Item = &'a Erased>,
        parts: &mut dyn Iterator<Item = DispatchTensor>,
    ) -> T {
        T::unflatten(next(structure), parts)
    }

    /// What the next field left in the structure.
    pub fn next<'a, T: 'static>(structure: &mut impl Iterator<Item = &'a Erased>) -> &'a T {
        let field = structure.next();
        let field = field.and_then(|field| field.downcast_ref());
        field.expect("invariant: as many fields, of the same types, as were taken apart")
    }
}
