use burn::tensor::{Bool, FloatDType, Int, Tensor};

use super::dtype::is_castable;

/// Inputs or outputs of a model whose float tensors can be cast.
///
/// Tensors of any rank and kind, and tuples, vectors, arrays and options of
/// them. Integer and boolean tensors pass unchanged. Implement it for structs
/// of your own by casting each field.
pub trait CastFloats: Sized {
    /// Casts every float tensor to `dtype`, inside the autodiff graph.
    #[must_use]
    fn cast_floats(self, dtype: FloatDType) -> Self;
}

impl<const D: usize> CastFloats for Tensor<D> {
    fn cast_floats(self, dtype: FloatDType) -> Self {
        // A quantized tensor stays packed.
        if is_castable(self.dtype()) {
            self.cast(dtype)
        } else {
            self
        }
    }
}

impl<const D: usize> CastFloats for Tensor<D, Int> {
    fn cast_floats(self, _dtype: FloatDType) -> Self {
        self
    }
}

impl<const D: usize> CastFloats for Tensor<D, Bool> {
    fn cast_floats(self, _dtype: FloatDType) -> Self {
        self
    }
}

impl<T: CastFloats> CastFloats for Option<T> {
    fn cast_floats(self, dtype: FloatDType) -> Self {
        self.map(|value| value.cast_floats(dtype))
    }
}

impl<T: CastFloats> CastFloats for Vec<T> {
    fn cast_floats(self, dtype: FloatDType) -> Self {
        self.into_iter()
            .map(|value| value.cast_floats(dtype))
            .collect()
    }
}

impl<T: CastFloats, const N: usize> CastFloats for [T; N] {
    fn cast_floats(self, dtype: FloatDType) -> Self {
        self.map(|value| value.cast_floats(dtype))
    }
}

impl CastFloats for () {
    fn cast_floats(self, _dtype: FloatDType) -> Self {}
}

macro_rules! cast_tuple {
    ($($name:ident),+) => {
        impl<$($name: CastFloats),+> CastFloats for ($($name,)+) {
            #[allow(non_snake_case)]
            fn cast_floats(self, dtype: FloatDType) -> Self {
                let ($($name,)+) = self;
                ($($name.cast_floats(dtype),)+)
            }
        }
    };
}

cast_tuple!(A);
cast_tuple!(A, B);
cast_tuple!(A, B, C);
cast_tuple!(A, B, C, D);
cast_tuple!(A, B, C, D, E);
cast_tuple!(A, B, C, D, E, F);

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    #[test]
    fn integers_pass_and_floats_are_cast_in_nested_inputs() {
        let device = Device::flex();
        let image = Tensor::<4>::zeros([1, 1, 2, 2], &device);
        let tokens = Tensor::<2, Int>::zeros([1, 3], &device);
        let before = tokens.dtype();

        let inputs = (vec![image], Some(tokens)).cast_floats(FloatDType::F16);

        let (images, Some(tokens)) = inputs else {
            panic!("the shape of the input is kept")
        };
        assert_eq!(images[0].dtype(), DType::F16);
        assert_eq!(tokens.dtype(), before);
    }
}
