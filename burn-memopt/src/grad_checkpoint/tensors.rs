use burn::tensor::{DispatchTensor, Tensor, kind::Basic};

/// The inputs or outputs of a segment: a tensor, or a nest of tuples, vectors,
/// arrays and options of tensors of any rank and kind.
///
/// A value is taken apart into its tensors and a [structure](Self::Structure)
/// that holds none of them, so that the tensors can be detached, stored in
/// another form and put back.
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Bool, Device, Int};

    #[test]
    fn nested_values_are_put_together_as_they_were() {
        type Nest = (
            Tensor<2>,
            Vec<Tensor<1, Int>>,
            Option<Tensor<3, Bool>>,
            [Tensor<1>; 2],
        );
        let device = Device::flex();
        let value: Nest = (
            Tensor::ones([2, 3], &device),
            vec![Tensor::arange(0..4, &device), Tensor::arange(4..9, &device)],
            None,
            [Tensor::zeros([1], &device), Tensor::ones([5], &device)],
        );
        let mut parts = Vec::new();
        let structure = value.clone().flatten(&mut parts);
        assert_eq!(parts.len(), 5);

        let again = Nest::unflatten(&structure, &mut parts.into_iter());
        assert_eq!(again.0.dims(), [2, 3]);
        assert_eq!(again.1[1].to_data(), value.1[1].to_data());
        assert!(again.2.is_none());
        assert_eq!(again.3[1].dims(), [5]);
    }
}
