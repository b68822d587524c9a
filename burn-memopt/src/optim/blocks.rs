//! Tensors in 8 bits: codes of blocks of values, with a scale for each block.

use std::sync::Arc;

use burn::tensor::{DType, Device, FloatDType, Int, IntDType, Shape, Tensor, TensorData};

use super::code::{BLOCK, CELLS, CODES, Code, WORDS};
use crate::memory::on_host;

/// The values of a tensor in row-major order, in blocks; the last one is filled up with zeros.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    /// `[num_blocks, WORDS]` in i32. Byte `k` of word `j`, the lowest first, has the code of value `k * WORDS + j`
    /// of the block.
    pub(super) words: Tensor<2, Int>,
    /// `[num_blocks, 1]` in f32: the largest magnitude of each block.
    pub(super) scales: Tensor<2>,
}

impl Blocks {
    pub(super) fn from_data(words: TensorData, scales: TensorData, device: &Device) -> Self {
        Self {
            words: Tensor::from_data(words, (device, DType::I32)),
            scales: Tensor::from_data(scales, (device, DType::F32)),
        }
    }

    pub(super) fn moved(self, device: &Device) -> Self {
        Self {
            words: self.words.to_device(device),
            scales: self.scales.to_device(device),
        }
    }
}

/// What encodes and decodes on a device.
#[derive(Clone, Debug)]
pub(super) struct Codec {
    code: Arc<Code>,
    /// `None` where the device computes in host memory.
    tables: Option<Tables>,
}

/// A code on a device.
#[derive(Clone, Debug)]
struct Tables {
    /// The number of each code, `[256]`.
    levels: Tensor<1>,
    /// The code of each cell.
    codes: Tensor<1, Int>,
}

impl Codec {
    /// For values of either sign.
    pub(super) fn signed(device: &Device) -> Self {
        Self::new(Code::signed(), device)
    }

    /// For values that are not negative.
    pub(super) fn unsigned(device: &Device) -> Self {
        Self::new(Code::unsigned(), device)
    }

    fn new(code: Code, device: &Device) -> Self {
        let tables = (!on_host(device)).then(|| Tables::new(&code, device));
        Self {
            code: code.into(),
            tables,
        }
    }

    /// The blocks of `values`.
    pub(super) fn encode<const D: usize>(&self, values: Tensor<D>) -> Blocks {
        let values = values.cast(FloatDType::F32);
        match &self.tables {
            Some(tables) => tables.encode(values, self.code.is_signed),
            None => {
                let device = values.device();
                let values = values.into_data();
                let values = values.as_slice::<f32>().expect("invariant: it was cast");
                let (words, scales) = self.code.encode(values);
                let num_blocks = scales.len();
                let words = TensorData::new(words, [num_blocks, WORDS]);
                let scales = TensorData::new(scales, [num_blocks, 1]);
                Blocks::from_data(words, scales, &device)
            }
        }
    }

    /// The values of `blocks`, in f32.
    ///
    /// # Panics
    /// If they are not blocks of as many values.
    pub(super) fn decode<const D: usize>(&self, blocks: Blocks, shape: Shape) -> Tensor<D> {
        let num_values = shape.num_elements();
        let [num_blocks, _] = blocks.scales.dims();
        assert!(
            num_blocks == num_values.div_ceil(BLOCK),
            "the optimizer's state must have {} blocks of {BLOCK} values for a parameter of {num_values}, got \
             {num_blocks}: it is the state of another model",
            num_values.div_ceil(BLOCK)
        );
        match &self.tables {
            Some(tables) => tables.decode(blocks, shape),
            None => {
                let device = blocks.scales.device();
                let (words, scales) = (blocks.words.into_data(), blocks.scales.into_data());
                let words = words.as_slice::<i32>().expect("invariant: words are i32");
                let scales = scales.as_slice::<f32>().expect("invariant: scales are f32");
                let values = self.code.decode(words, scales, num_values);
                Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32))
            }
        }
    }
}

impl Tables {
    fn new(code: &Code, device: &Device) -> Self {
        let levels = TensorData::new(code.levels.clone(), [code.levels.len()]);
        let codes = TensorData::new(code.codes.clone(), [code.codes.len()]);
        Self {
            levels: Tensor::from_data(levels, (device, DType::F32)),
            codes: Tensor::from_data(codes, (device, DType::I32)),
        }
    }

    fn encode<const D: usize>(&self, values: Tensor<D>, is_signed: bool) -> Blocks {
        let num_values = values.shape().num_elements();
        let num_blocks = num_values.div_ceil(BLOCK);
        let mut flat = values.reshape([num_values]);
        let missing = num_blocks * BLOCK - num_values;
        if missing > 0 {
            let zeros = Tensor::zeros([missing], (&flat.device(), DType::F32));
            flat = Tensor::cat(vec![flat, zeros], 0);
        }
        let blocks = flat.reshape([num_blocks, BLOCK]);
        let scales = blocks.clone().abs().max_dim(1);
        // A block of zeros has the scale zero.
        let shares = blocks / scales.clone().clamp_min(f32::MIN_POSITIVE);
        let cells = CELLS as f32;
        let root = shares.clone().abs().sqrt().sqrt();
        // Half a cell more, as integers are cut off.
        let places = match is_signed {
            true => (root * shares.sign())
                .mul_scalar(cells)
                .add_scalar(cells + 0.5),
            false => root.mul_scalar(cells).add_scalar(0.5),
        };
        let places = places.cast(IntDType::I32).reshape([num_blocks * BLOCK]);
        let codes = self.codes.clone().select(0, places);
        let codes = codes.reshape([num_blocks, CODES, WORDS]);
        let byte = |k: usize| {
            let codes = codes.clone().narrow(1, k, 1).reshape([num_blocks, WORDS]);
            codes.bitwise_left_shift_scalar(8 * k as i32)
        };
        let words = (1..CODES).fold(byte(0), |words, k| words.bitwise_or(byte(k)));
        Blocks { words, scales }
    }

    fn decode<const D: usize>(&self, blocks: Blocks, shape: Shape) -> Tensor<D> {
        let num_values = shape.num_elements();
        let [num_blocks, _] = blocks.scales.dims();
        let byte = |k: usize| {
            let words = blocks.words.clone();
            let codes = words.bitwise_right_shift_scalar(8 * k as i32);
            codes.bitwise_and_scalar(0xff)
        };
        let codes = Tensor::cat((0..CODES).map(byte).collect(), 1);
        let shares = self.levels.clone();
        let shares = shares.select(0, codes.reshape([num_blocks * BLOCK]));
        let values = shares.reshape([num_blocks, BLOCK]) * blocks.scales;
        let values = values.reshape([num_blocks * BLOCK]);
        values.narrow(0, 0, num_values).reshape(shape)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    /// What host memory and the operations of a device make of the same values.
    fn agree(code: Code, values: &Tensor<2>) {
        let device = Device::flex();
        let tables = Tables::new(&code, &device);
        let is_signed = code.is_signed;
        let codec = Codec::new(code, &device);
        let (on_host, by_operations) = (
            codec.encode(values.clone()),
            tables.encode(values.clone(), is_signed),
        );
        let data = |blocks: &Blocks| (blocks.words.to_data(), blocks.scales.to_data());
        assert_eq!(data(&on_host), data(&by_operations));
        let decoded = codec.decode::<2>(on_host, values.shape());
        let expected = tables.decode::<2>(by_operations, values.shape());
        assert_eq!(decoded.to_data(), expected.to_data());
        // Steps of the code near one are a seventieth and a hundred and fortieth.
        let scale = values.clone().abs().max().into_scalar::<f32>();
        let off = (decoded - values.clone()).abs().max().into_scalar::<f32>();
        assert!(off <= 0.008 * scale, "{off} of {scale}");
    }

    #[test]
    fn operations_of_a_device_give_what_host_memory_gives() {
        let device = Device::flex();
        let _stream = crate::grad_checkpoint::hold_random_stream().seeded(&device, 7);
        let values = Tensor::<2>::random([100, 41], Distribution::Normal(0.0, 1e-3), &device);
        agree(Code::signed(), &values);
        agree(Code::unsigned(), &values.square());
        agree(Code::signed(), &Tensor::zeros([30, 100], &device));
        agree(Code::unsigned(), &Tensor::ones([16, 256], &device));
    }
}
