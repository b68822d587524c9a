//! The dynamic 8-bit code: 256 numbers from 0 to 1, or from -1 to 1, dense near zero; and blocks of codes in host
//! memory.
//!
//! Pure.

use rayon::prelude::*;

/// Values of a block.
pub(super) const BLOCK: usize = 256;
/// Codes in a word.
pub(super) const CODES: usize = 4;
/// Words of a block.
pub(super) const WORDS: usize = BLOCK / CODES;

/// Cells that an axis of magnitudes is divided into to find codes.
pub(super) const CELLS: usize = 4096;

/// Blocks that a thread takes at least.
const LEAST_BLOCKS: usize = 64;

/// Powers of ten that the code spans.
const DECADES: i32 = 7;

/// A code, with what finds the code of a number.
#[derive(Debug)]
pub(super) struct Code {
    /// The number of each code, ascending.
    pub(super) levels: Vec<f32>,
    /// The code of each cell.
    pub(super) codes: Vec<i32>,
    /// Whether there are negative numbers.
    pub(super) is_signed: bool,
}

impl Code {
    /// For values of either sign.
    pub(super) fn signed() -> Self {
        let levels = signed_levels();
        Self {
            codes: signed_codes(&levels),
            levels,
            is_signed: true,
        }
    }

    /// For values that are not negative.
    pub(super) fn unsigned() -> Self {
        let levels = unsigned_levels();
        Self {
            codes: unsigned_codes(&levels),
            levels,
            is_signed: false,
        }
    }

    /// The words and scales of `values`, in blocks of which the last may have fewer.
    pub(super) fn encode(&self, values: &[f32]) -> (Vec<i32>, Vec<f32>) {
        let num_blocks = values.len().div_ceil(BLOCK);
        let (mut words, mut scales) = (vec![0; num_blocks * WORDS], vec![0.0; num_blocks]);
        let blocks = values.par_chunks(BLOCK).zip(words.par_chunks_mut(WORDS));
        blocks
            .zip(&mut scales)
            .with_min_len(LEAST_BLOCKS)
            .for_each(|((values, words), scale)| *scale = self.encode_block(values, words));
        (words, scales)
    }

    /// Writes the words of a block and returns its scale; NaN if a value is.
    fn encode_block(&self, values: &[f32], words: &mut [i32]) -> f32 {
        let largest = values
            .iter()
            .fold(0.0, |most: f32, value| most.max(value.abs()));
        let has_nan = values.iter().any(|value| value.is_nan());
        let scale = largest.max(f32::MIN_POSITIVE);
        let cells = CELLS as f32;
        let place = |value: f32| {
            let share = value / scale;
            let root = share.abs().sqrt().sqrt();
            match self.is_signed {
                true => root * share.signum() * cells + (cells + 0.5),
                false => root * cells + 0.5,
            }
        };
        let last = self.codes.len() - 1;
        let code = |value: f32| self.codes[(place(value) as usize).min(last)] as u8;
        // What is missing of the last block is zero.
        let mut codes = [code(0.0); BLOCK];
        for (code_of, &value) in codes.iter_mut().zip(values) {
            *code_of = code(value);
        }
        for (index, word) in words.iter_mut().enumerate() {
            *word = i32::from_le_bytes([0, 1, 2, 3].map(|byte| codes[byte * WORDS + index]));
        }
        if has_nan { f32::NAN } else { largest }
    }

    /// The first `num_values` values of the blocks.
    pub(super) fn decode(&self, words: &[i32], scales: &[f32], num_values: usize) -> Vec<f32> {
        let mut values = vec![0.0; num_values];
        let blocks = words.par_chunks(WORDS).zip(scales);
        values
            .par_chunks_mut(BLOCK)
            .zip(blocks)
            .with_min_len(LEAST_BLOCKS)
            .for_each(|(values, (words, scale))| {
                for (byte, values) in values.chunks_mut(WORDS).enumerate() {
                    for (value, word) in values.iter_mut().zip(words) {
                        let code = word.to_le_bytes()[byte];
                        *value = self.levels[usize::from(code)] * scale;
                    }
                }
            });
        values
    }
}

/// The numbers of the code for values of either sign, ascending. A code is a place in this list.
fn signed_levels() -> Vec<f32> {
    let magnitudes = magnitudes(1);
    let negative = magnitudes.iter().rev().map(|&level| -level);
    let levels = negative.chain([0.0]).chain(magnitudes.iter().copied());
    levels.chain([1.0]).collect()
}

/// The numbers of the code for values that are not negative, ascending.
fn unsigned_levels() -> Vec<f32> {
    let levels = [0.0].into_iter().chain(magnitudes(2));
    levels.chain([1.0]).collect()
}

/// The middles of bins, ascending: `first` bins of equal width in the lowest decade, twice as many in each
/// that follows, up to 1.
fn magnitudes(first: usize) -> Vec<f32> {
    let of_decade = |decade: i32| {
        let num_bins = first << decade;
        let top = 10_f64.powi(decade - DECADES + 1);
        (0..num_bins).map(move |bin| {
            let middle = (bin as f64 + 0.5) / num_bins as f64;
            (top * (0.1 + 0.9 * middle)) as f32
        })
    };
    (0..DECADES).flat_map(of_decade).collect()
}

/// The code of each cell of the axis from -1 to 1.
///
/// Cell `CELLS + k` is for the fourth power of `k / CELLS`, with the sign of `k`.
fn signed_codes(levels: &[f32]) -> Vec<i32> {
    let cells = CELLS as i32;
    let code = |cell: i32| {
        nearest(
            levels,
            magnitude(cell.unsigned_abs()) * cell.signum() as f32,
        )
    };
    (-cells..=cells).map(code).collect()
}

/// The code of each cell of the axis from 0 to 1. Only the first cell has code 0.
fn unsigned_codes(levels: &[f32]) -> Vec<i32> {
    let code = |cell: u32| nearest(levels, magnitude(cell)).max(i32::from(cell > 0));
    (0..=CELLS as u32).map(code).collect()
}

fn magnitude(cell: u32) -> f32 {
    (f64::from(cell) / CELLS as f64).powi(4) as f32
}

/// The place of the level next to `value`.
fn nearest(levels: &[f32], value: f32) -> i32 {
    let above = levels.partition_point(|&level| level < value);
    let above = above.clamp(1, levels.len() - 1);
    let is_below = value - levels[above - 1] < levels[above] - value;
    (above - usize::from(is_below)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_that_of_the_paper() {
        let (signed, unsigned) = (signed_levels(), unsigned_levels());
        for levels in [&signed, &unsigned] {
            assert_eq!(levels.len(), 256);
            assert!(levels.is_sorted() && levels.contains(&0.0));
            assert_eq!(levels.last(), Some(&1.0));
        }
        // `create_dynamic_map` of bitsandbytes.
        assert_eq!(signed[0], -0.992_968_74);
        assert_eq!(signed[128], 5.5e-7);
        assert_eq!(unsigned[1], 3.25e-7);
        assert_eq!(unsigned[254], 0.996_484_4);
    }

    #[test]
    fn every_level_keeps_its_code() {
        let signed = signed_levels();
        let codes = signed_codes(&signed);
        for (code, &level) in signed.iter().enumerate() {
            let cell = level.abs().sqrt().sqrt() * CELLS as f32 * level.signum();
            let cell = (cell.round() as i32 + CELLS as i32) as usize;
            assert_eq!(codes[cell], code as i32, "{level}");
        }
        let unsigned = unsigned_levels();
        let codes = unsigned_codes(&unsigned);
        for (code, &level) in unsigned.iter().enumerate() {
            let cell = (level.sqrt().sqrt() * CELLS as f32).round() as usize;
            assert_eq!(codes[cell], code as i32, "{level}");
        }
    }

    #[test]
    fn what_is_not_zero_never_becomes_zero_in_the_second_moment() {
        let codes = unsigned_codes(&unsigned_levels());
        assert_eq!(codes[..3], [0, 1, 1]);
    }
}
