//! Numbers of 8 or 4 bits in words of 32, in blocks with a scale each.
//!
//! Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many bits a packed value has.
///
/// Written `q8` or `q4`, on the command line and in files.
///
/// Values are packed in blocks of consecutive ones, 64 or 32: the longer block that divides the number of
/// values. The scale of a block takes 16 bits. Of the f32 bytes a packed weight takes, and 4 bytes:
///
/// | scheme | in blocks of 64 | of 32 |
/// |---|---|---|
/// | `q8` | 0.258 | 0.266 |
/// | `q4` | 0.133 | 0.141 |
///
/// # Exactness
/// - [`Q8`](Self::Q8): an error of at most 1/254 of the largest value of its block, and 1/8,000,000 of the
///   largest of the weight. Blocks below 1e-30 become zero in both schemes.
/// - [`Q4`](Self::Q4): of several scales, a block gets the one with the least squared error. It may cut
///   the largest values off, so the bound is 1/3 of the largest value; most errors are below 1/14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// 8 bits a value, -127 to 127 times the scale.
    Q8,
    /// 4 bits a value, -8 to 7 times the scale.
    Q4,
}

impl Scheme {
    /// Every scheme, the more exact one first.
    pub const ALL: [Self; 2] = [Self::Q8, Self::Q4];

    /// Bits of a value.
    pub const fn bits(self) -> usize {
        match self {
            Self::Q8 => 8,
            Self::Q4 => 4,
        }
    }

    /// The block that a weight of this many values is packed in; `None` if none divides it.
    pub fn block(self, num_values: usize) -> Option<usize> {
        let mut fitting = BLOCKS
            .into_iter()
            .filter(|size| num_values.is_multiple_of(*size));
        fitting.next().filter(|_| num_values > 0)
    }

    /// Words for the values and for the scales of a weight of `num_values` in blocks of `block`.
    pub(super) fn num_words(self, num_values: usize, block: usize) -> [usize; 2] {
        let num_blocks = num_values / block;
        [num_values * self.bits() / 32, num_blocks.div_ceil(2)]
    }

    /// Bytes of a packed weight of `num_values` in blocks of `block`.
    pub(super) fn num_bytes(self, num_values: usize, block: usize) -> usize {
        let [values, scales] = self.num_words(num_values, block);
        (values + scales) * size_of::<i32>() + size_of::<f32>()
    }
}

/// Lengths of a block, the one with fewer scales first.
const BLOCKS: [usize; 2] = [64, 32];
/// The largest scale, as a multiple of the unit.
const MAX_SCALE: f32 = 32767.0;
/// Bits of a scale.
pub(super) const SCALE_BITS: usize = 16;

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        })
    }
}

/// No scheme has this name.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[error("there is no quantization scheme {0:?}; give q8 (8 bits a weight) or q4 (4 bits)")]
pub struct ParseSchemeError(String);

impl FromStr for Scheme {
    type Err = ParseSchemeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut named = Self::ALL
            .into_iter()
            .filter(|scheme| scheme.to_string() == text);
        named.next().ok_or_else(|| ParseSchemeError(text.into()))
    }
}

/// Packed values.
#[derive(Debug, PartialEq)]
pub(super) struct Packed {
    /// Multiples of the scales, as codes.
    pub(super) words: Vec<i32>,
    /// Multiples of the unit, as codes of 16 bits.
    pub(super) scales: Vec<i32>,
    pub(super) unit: f32,
}

/// Packs values that are finite, in blocks of `block`, which must divide their number.
pub(super) fn pack(values: &[f32], scheme: Scheme, block: usize) -> Packed {
    let [num_words, num_scale_words] = scheme.num_words(values.len(), block);
    let scales = values.chunks(block).map(|block| best_scale(block, scheme));
    let scales: Vec<f32> = scales.collect();
    let largest = scales.iter().fold(0.0_f32, |it, scale| it.max(scale.abs()));
    let unit = largest / MAX_SCALE;
    // Away from zero, so that no largest value is cut off.
    let multiple = |scale: f32| match unit {
        0.0 => 0.0,
        unit => ((scale / unit).abs().ceil().min(MAX_SCALE)).copysign(scale),
    };
    let scales = scales.into_iter().map(multiple);
    let scales: Vec<i32> = scales.map(|scale| scale as i32).collect();
    let of_block = values.chunks(block).zip(&scales);
    let levels = of_block.flat_map(|(block, &scale)| {
        let scale = scale as f32 * unit;
        block
            .iter()
            .map(move |&value| level(value, scale, scheme) as i32)
    });
    Packed {
        words: into_words(levels, scheme.bits(), num_words),
        scales: into_words(scales.iter().copied(), SCALE_BITS, num_scale_words),
        unit,
    }
}

/// Writes numbers of so many bits into words of 32.
///
/// The code of a number is the number plus half of the range, so that it is not negative. Field k of word
/// j, counted from the lowest bit, holds number k · (number of words) + j: the fields k of all words are a
/// part of the numbers in their order.
fn into_words(numbers: impl Iterator<Item = i32>, bits: usize, num_words: usize) -> Vec<i32> {
    let half = 1 << (bits - 1);
    let mut words = vec![0_u32; num_words];
    for (index, number) in numbers.enumerate() {
        words[index % num_words] |= ((number + half) as u32) << (index / num_words * bits);
    }
    words.into_iter().map(u32::cast_signed).collect()
}

/// The values of packed words and scales.
pub(super) fn unpack(
    [words, scales]: [&[i32]; 2],
    unit: f32,
    bits: usize,
    block: usize,
) -> Vec<f32> {
    let scales: Vec<f32> = numbers(scales, SCALE_BITS).map(|it| it * unit).collect();
    let mut values = Vec::with_capacity(words.len() * 32 / bits);
    let blocks = block.trailing_zeros();
    let levels = numbers(words, bits).enumerate();
    values.extend(levels.map(|(index, level)| level * scales[index >> blocks]));
    values
}

/// The numbers that [`into_words`] wrote, and those of fields that it left over.
fn numbers(words: &[i32], bits: usize) -> impl Iterator<Item = f32> {
    let (mask, half) = ((1 << bits) - 1, 1 << (bits - 1));
    (0..32 / bits).flat_map(move |field| {
        let numbers = words
            .iter()
            .map(move |word| (word >> (field * bits)) & mask);
        numbers.map(move |code| (code - half) as f32)
    })
}

/// The multiple of `scale` next to `value` that the scheme has.
fn level(value: f32, scale: f32, scheme: Scheme) -> f32 {
    let [lowest, highest] = match scheme {
        Scheme::Q8 => [-127.0, 127.0],
        Scheme::Q4 => [-8.0, 7.0],
    };
    if scale == 0.0 {
        return 0.0;
    }
    (value / scale).round().clamp(lowest, highest)
}

/// The scale of a block; zero where all values are, or next to it.
///
/// 16 levels are few, and one more below zero than above. So for 4 bits scales of both signs are
/// tried, from the one that reaches the largest value down to one that cuts the largest third off.
fn best_scale(values: &[f32], scheme: Scheme) -> f32 {
    let largest = values
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    // The unit of smaller scales would be no normal number.
    if largest < 1e-30 {
        return 0.0;
    }
    match scheme {
        Scheme::Q8 => largest / 127.0,
        Scheme::Q4 => {
            let tried = (0..=16).flat_map(|step| {
                let scale = largest / 8.0 * (1.15 - 0.03 * step as f32);
                [scale, -scale]
            });
            let error = |scale: f32| -> f64 {
                let errors = values
                    .iter()
                    .map(|&value| f64::from(value - scale * level(value, scale, scheme)));
                errors.map(|error| error * error).sum()
            };
            let tried = tried.map(|scale| (scale, error(scale)));
            let (scale, _) = tried
                .reduce(|best, next| if next.1 < best.1 { next } else { best })
                .expect("invariant: scales are tried");
            scale
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn unpack(packed: &Packed, scheme: Scheme, block: usize) -> Vec<f32> {
        super::unpack(
            [&packed.words, &packed.scales],
            packed.unit,
            scheme.bits(),
            block,
        )
    }

    #[rstest]
    #[case::longer(Scheme::Q8, 3 * 64, Some(64))]
    #[case::shorter(Scheme::Q4, 3 * 32, Some(32))]
    #[case::none_divides(Scheme::Q8, 8 * 27, None)]
    #[case::nothing(Scheme::Q4, 0, None)]
    fn a_block_divides_the_values(
        #[case] scheme: Scheme,
        #[case] num_values: usize,
        #[case] block: Option<usize>,
    ) {
        assert_eq!(scheme.block(num_values), block);
    }

    #[test]
    fn a_scheme_is_written_as_it_is_read() {
        for scheme in Scheme::ALL {
            assert_eq!(scheme.to_string().parse(), Ok(scheme));
        }
        let error = "q5".parse::<Scheme>().unwrap_err().to_string();
        assert!(error.contains("\"q5\"") && error.contains("q8"), "{error}");
    }

    #[test]
    fn values_on_the_grid_come_back() {
        let grid: Vec<f32> = (0..64).map(|index| (4 * index - 127) as f32).collect();
        let again = unpack(&pack(&grid, Scheme::Q8, 64), Scheme::Q8, 64);
        let differences = grid.iter().zip(&again).map(|(a, b)| (a - b).abs());
        assert!(differences.fold(0.0, f32::max) < 1e-4, "{again:?}");
        let zeros = vec![0.0; 64];
        for scheme in Scheme::ALL {
            assert_eq!(unpack(&pack(&zeros, scheme, 64), scheme, 64), zeros);
        }
    }

    proptest! {
        #[test]
        fn values_come_back_within_the_stated_error(
            values in prop::collection::vec(-2.0_f32..2.0, 4 * 64),
            factor in prop::sample::select(vec![1e-20_f32, 1e-3, 1.0, 1e20]),
        ) {
            let values: Vec<_> = values.iter().map(|value| value * factor).collect();
            for (scheme, share) in [(Scheme::Q8, 1.0 / 254.0), (Scheme::Q4, 1.0 / 3.0)] {
                let again = unpack(&pack(&values, scheme, 64), scheme, 64);
                let rounding = factor * 2.0 / 8e6;
                for (block, again) in values.chunks(64).zip(again.chunks(64)) {
                    let largest = block.iter().fold(0.0_f32, |it, value| it.max(value.abs()));
                    for (value, again) in block.iter().zip(again) {
                        prop_assert!((value - again).abs() <= largest * share * 1.0001 + rounding);
                    }
                }
            }
        }
    }
}
