//! What is kept of a parameter between two steps.

use burn::optim::{AdaptiveMomentumState, RecordState, StateSink, StateSource, join_path};
use burn::tensor::{Device, FloatDType, Shape, Tensor};

use super::blocks::{Blocks, Codec};
use super::code::BLOCK;
use super::eight_bit::Codecs;

/// Values from which on a parameter has its moments in 8 bits.
const LEAST_VALUES: usize = 4096;

/// Bytes of a moment of `num_values` in 8 bits; `None` if it is kept in f32.
pub(crate) fn packed_bytes(num_values: usize) -> Option<u64> {
    let num_blocks = num_values.div_ceil(BLOCK);
    let of_block = BLOCK + size_of::<f32>();
    (num_values >= LEAST_VALUES).then_some((num_blocks * of_block) as u64)
}

/// Whether a parameter of this shape has its moments in 8 bits.
pub(super) fn is_packed(shape: &Shape) -> bool {
    packed_bytes(shape.num_elements()).is_some()
}

/// The moments of one parameter, as [`EightBit`](super::EightBit) keeps them.
///
/// Its record has the names of Adam's: a moment in f32 is a tensor `momentum.moment_1`, one in 8 bits the tensors
/// `momentum.moment_1.words` and `momentum.moment_1.scales`.
#[derive(Clone, Debug)]
pub struct Moments<const D: usize> {
    time: usize,
    first: Moment<D>,
    second: Moment<D>,
    largest: Option<Moment<D>>,
}

#[derive(Clone, Debug)]
enum Moment<const D: usize> {
    Full(Box<Tensor<D>>),
    Packed(Box<Blocks>),
}

impl<const D: usize> Moments<D> {
    /// Encodes moments, if there is what does it.
    pub(super) fn pack(moments: AdaptiveMomentumState<D>, codecs: Option<&Codecs>) -> Self {
        let first = codecs.map(|codecs| &codecs.first);
        let second = codecs.map(|codecs| &codecs.second);
        Self {
            time: moments.time,
            first: Moment::pack(moments.moment_1, first),
            second: Moment::pack(moments.moment_2, second),
            largest: moments
                .max_moment_2
                .map(|largest| Moment::pack(largest, second)),
        }
    }

    pub(super) fn unpack(
        self,
        codecs: Option<&Codecs>,
        shape: &Shape,
        dtype: FloatDType,
    ) -> AdaptiveMomentumState<D> {
        let first = codecs.map(|codecs| &codecs.first);
        let second = codecs.map(|codecs| &codecs.second);
        let unpack = |moment: Moment<D>, codec| moment.unpack(codec, shape).cast(dtype);
        let mut moments = AdaptiveMomentumState::new(
            self.time,
            unpack(self.first, first),
            unpack(self.second, second),
        );
        moments.max_moment_2 = self.largest.map(|largest| unpack(largest, second));
        moments
    }

    pub(super) fn moved(self, device: &Device) -> Self {
        Self {
            time: self.time,
            first: self.first.moved(device),
            second: self.second.moved(device),
            largest: self.largest.map(|largest| largest.moved(device)),
        }
    }
}

impl<const D: usize> Moment<D> {
    fn pack(values: Tensor<D>, codec: Option<&Codec>) -> Self {
        match codec {
            Some(codec) => Self::Packed(codec.encode(values).into()),
            None => Self::Full(values.into()),
        }
    }

    fn unpack(self, codec: Option<&Codec>, shape: &Shape) -> Tensor<D> {
        match (self, codec) {
            (Self::Full(values), _) => *values,
            (Self::Packed(blocks), Some(codec)) => codec.decode(*blocks, shape.clone()),
            (Self::Packed(_), None) => panic!(
                "a parameter of fewer than {LEAST_VALUES} values must have its moments in f32, got 8 bits: the \
                 optimizer's state is that of another model"
            ),
        }
    }

    fn moved(self, device: &Device) -> Self {
        match self {
            Self::Full(values) => Self::Full(values.to_device(device).into()),
            Self::Packed(blocks) => Self::Packed(blocks.moved(device).into()),
        }
    }

    fn flatten(&self, prefix: &str, name: &str, out: &mut StateSink) {
        match self {
            Self::Full(values) => out.push_tensor(prefix, name, values.to_data()),
            Self::Packed(blocks) => {
                let prefix = join_path(prefix, name);
                out.push_tensor(&prefix, "words", blocks.words.to_data());
                out.push_tensor(&prefix, "scales", blocks.scales.to_data());
            }
        }
    }

    /// A moment of f32 is encoded, if the parameter is large enough.
    fn unflatten(
        prefix: &str,
        name: &str,
        src: &mut StateSource,
        device: &Device,
        codec: impl FnOnce() -> Codec,
    ) -> Option<Self> {
        if let Some(values) = src.take_tensor(prefix, name) {
            let values = Tensor::from_data(values, device);
            return Some(match is_packed(&values.shape()) {
                true => Self::pack(values, Some(&codec())),
                false => Self::Full(values.into()),
            });
        }
        let prefix = join_path(prefix, name);
        let words = src.take_tensor(&prefix, "words")?;
        let scales = src.take_tensor(&prefix, "scales")?;
        let blocks = Blocks::from_data(words, scales, device);
        Some(Self::Packed(blocks.into()))
    }
}

const MOMENTUM: &str = "momentum";
const NAMES: [&str; 3] = ["moment_1", "moment_2", "max_moment_2"];

impl<const D: usize> RecordState for Moments<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        let prefix = join_path(prefix, MOMENTUM);
        out.push_scalar(&prefix, "time", self.time.into());
        let all = [Some(&self.first), Some(&self.second), self.largest.as_ref()];
        for (moment, name) in all.into_iter().zip(NAMES) {
            if let Some(moment) = moment {
                moment.flatten(&prefix, name, out);
            }
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let prefix = join_path(prefix, MOMENTUM);
        let time = usize::try_from(src.take_scalar(&prefix, "time")?).ok()?;
        let [first, second, largest] = NAMES;
        let of = |name, src: &mut StateSource, codec: fn(&Device) -> Codec| {
            Moment::unflatten(&prefix, name, src, device, || codec(device))
        };
        Some(Self {
            time,
            first: of(first, src, Codec::signed)?,
            second: of(second, src, Codec::unsigned)?,
            largest: of(largest, src, Codec::unsigned),
        })
    }
}
