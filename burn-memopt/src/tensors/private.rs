//! What [`impl_tensors!`](crate::impl_tensors) expands to.

use std::any::Any;

pub use burn::tensor::{DispatchTensor, FloatDType};

use super::Tensors;

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
