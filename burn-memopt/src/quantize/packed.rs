//! A weight that is packed, and becomes float where it is used.

use burn::module::{Module, Param, ParamId, Reparameterization};
use burn::tensor::{DType, Device, FloatDType, Int, Shape, Tensor, TensorData};

use super::pack::{SCALE_BITS, Scheme, pack, unpack};
use crate::memory::{Bytes, on_host};

/// What is stored for a packed weight; [`Param::val`] makes floats of it at each use.
///
/// `weight.reparameterization::<PackedWeight>()` returns it. Its parameters `words` and `scales` are
/// saved, moved and counted as those of any module.
#[derive(Module, Debug)]
pub struct PackedWeight {
    /// Values, several to a word; i32, since WGSL has no shorter integers.
    words: Param<Tensor<1, Int>>,
    /// Scales of the blocks, two to a word.
    scales: Param<Tensor<1, Int>>,
    /// The unit of the scales, in f32.
    unit: Param<Tensor<1>>,
    bits: usize,
    block: usize,
}

impl PackedWeight {
    /// Packs `values`, which are finite, in blocks of `block`.
    pub(super) fn new(values: &[f32], scheme: Scheme, block: usize, device: &Device) -> Self {
        let packed = pack(values, scheme, block);
        let ints = |words: Vec<i32>| {
            let shape = [words.len()];
            let words = TensorData::new(words, shape);
            let words = Tensor::from_data(words, (device, DType::I32));
            Param::initialized(ParamId::new(), words)
        };
        let unit = Tensor::from_data([packed.unit], (device, DType::F32));
        Self {
            words: ints(packed.words),
            scales: ints(packed.scales),
            unit: Param::initialized(ParamId::new(), unit),
            bits: scheme.bits(),
            block,
        }
    }

    /// Room for a weight of `num_values`, to be loaded: nothing is allocated before.
    pub(super) fn empty(num_values: usize, scheme: Scheme, block: usize, device: &Device) -> Self {
        let ints = |num_words: usize| {
            let zeros = move |device: &Device, _| Tensor::zeros([num_words], (device, DType::I32));
            let shape = Shape::new([num_words]);
            Param::uninitialized(ParamId::new(), zeros, device.clone(), false, shape)
        };
        let [words, scales] = scheme.num_words(num_values, block).map(ints);
        let unit = |device: &Device, _| Tensor::zeros([1], (device, DType::F32));
        let shape = Shape::new([1]);
        Self {
            words,
            scales,
            unit: Param::uninitialized(ParamId::new(), unit, device.clone(), false, shape),
            bits: scheme.bits(),
            block,
        }
    }

    /// What is stored.
    pub fn bytes(&self) -> Bytes {
        let numbers = [&self.words, &self.scales].map(|words| words.lazy_shape().num_elements());
        Bytes::new(((numbers[0] + numbers[1]) * size_of::<i32>() + size_of::<f32>()) as u64)
    }
}

impl PackedWeight {
    /// The weight in the shape of `base`, in one pass that takes no memory but for its floats.
    fn values_on_host<const D: usize>(&self, base: &Tensor<D>) -> Tensor<D> {
        let [words, scales] = [&self.words, &self.scales].map(|words| words.val().into_data());
        let ints = [&words, &scales].map(|words| {
            words
                .as_slice::<i32>()
                .expect("invariant: the words are i32")
        });
        let unit = self.unit.val().into_scalar::<f32>();
        let values = unpack(ints, unit, self.bits, self.block);
        let values = TensorData::new(values, base.shape());
        Tensor::from_data(values, (&base.device(), DType::F32))
    }
}

impl Reparameterization for PackedWeight {
    const NAME: &'static str = "packed";

    /// The weight in the shape and dtype of `base`, whose values are not read.
    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let dtype = FloatDType::from(base.dtype());
        if on_host(&base.device()) {
            return self.values_on_host(&base).cast(dtype);
        }
        let num_blocks = base.shape().num_elements() / self.block;
        // A view in half precision has its unit cast as well.
        let unit = self.unit.val().cast(FloatDType::F32);
        let scales = numbers(self.scales.val(), SCALE_BITS).mul(unit);
        // Of an odd number of blocks, the last word has a field too many.
        let scales = scales.narrow(0, 0, num_blocks).reshape([num_blocks, 1]);
        let levels = numbers(self.words.val(), self.bits);
        let values = levels.reshape([num_blocks, self.block]).mul(scales);
        values.reshape(base.shape()).cast(dtype)
    }
}

/// The numbers in words, in f32.
fn numbers(words: Tensor<1, Int>, bits: usize) -> Tensor<1> {
    let (mask, half) = ((1_i32 << bits) - 1, 1 << (bits - 1));
    // Field k of all words is part k of the numbers.
    let parts = (0..32 / bits).map(|field| {
        let shifted = words
            .clone()
            .bitwise_right_shift_scalar((field * bits) as i32);
        shifted.bitwise_and_scalar(mask).cast(FloatDType::F32)
    });
    Tensor::cat(parts.collect(), 0).sub_scalar(half)
}

/// A parameter in the place of a weight that is kept elsewhere: with its shape, dtype and device, in the
/// memory of one number.
///
/// Its values are NaN, so that what reads them instead of [`Param::val`] does not pass for a result.
pub(super) fn stand_in<const D: usize>(
    id: ParamId,
    shape: Shape,
    dtype: FloatDType,
    device: &Device,
) -> Param<Tensor<D>> {
    let value = Tensor::<D>::full([1; D], f32::NAN, (device, DType::from(dtype)));
    let param = Param::initialized(id, value.expand(shape));
    // Stays with the parameter when `Module::materialize` gives it its values.
    param.save_mapper(|value: Tensor<D>| {
        let first = value.clone().slice::<[_; D]>(std::array::from_fn(|_| 0..1));
        assert!(
            !first.into_scalar::<f32>().is_nan(),
            "a record of burn's would hold the packed or streamed weights in float, with no values: \
             save a quantized model by `quantize::save`, a streamed one before it is streamed, or either \
             in float after `Module::materialize`"
        );
        value
    })
}
