//! The columns of an ordinary convolution: the patches of an image that its kernel sees.

use std::ops::Range;

use rayon::prelude::*;

use super::columns::{Columns, Place, Sizes, Source};

/// The sizes of a 2-D convolution, or of a 3-D one of frames each for itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patches {
    pub batch_size: usize,
    pub frames: usize,
    pub groups: usize,
    /// Input channels of all groups.
    pub channels_in: usize,
    /// Output channels of all groups.
    pub channels_out: usize,
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Zeros above and to the left.
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
}

impl Patches {
    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            batch_size: self.batch_size,
            frames: self.frames,
            groups: self.groups,
            channels_out: self.channels_out / self.groups,
            channels_in: self.channels_in / self.groups,
            taps: self.taps(),
            output: self.output,
        }
    }

    /// The convolution that turns the gradient of the output into that of the input, of a
    /// convolution of stride 1 whose padding its kernel covers. Its weight is [`flipped`].
    ///
    /// [`flipped`]: Self::flipped
    pub(super) fn transposed(&self) -> Option<Self> {
        let reach = |axis: usize| self.dilation[axis] * (self.kernel[axis] - 1);
        let padding = |axis: usize| reach(axis).checked_sub(self.padding[axis]);
        let padding = [padding(0)?, padding(1)?];
        (self.stride == [1, 1]).then_some(Self {
            channels_in: self.channels_out,
            channels_out: self.channels_in,
            input: self.output,
            output: self.input,
            padding,
            ..*self
        })
    }

    /// A weight `[groups, out, in, taps]` as `[groups, in, out, taps]`, the taps from last to first.
    pub(super) fn flipped(&self, weight: &[f32]) -> Vec<f32> {
        let taps = self.taps();
        let (inputs, outputs) = (
            self.channels_in / self.groups,
            self.channels_out / self.groups,
        );
        let mut flipped = vec![0.0; weight.len()];
        let channels = flipped.par_chunks_exact_mut(outputs * taps).enumerate();
        channels.for_each(|(channel, to)| {
            let (group, input) = (channel / inputs, channel % inputs);
            for (output, to) in to.chunks_exact_mut(taps).enumerate() {
                let at = ((group * outputs + output) * inputs + input) * taps;
                to.copy_from_slice(&weight[at..at + taps]);
                to.reverse();
            }
        });
        flipped
    }

    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.input == self.output
    }

    /// Copies what the kernel sees of some channels, row by row: `[channels * taps, band]`.
    fn gather<'x>(
        &self,
        planes: impl Iterator<Item = &'x [f32]>,
        band: &Range<usize>,
        columns: &mut [f32],
    ) {
        let [height, width] = self.input;
        let width_out = self.output[1];
        // A band is rows, or a part of one.
        let rows = band.start / width_out..band.end.div_ceil(width_out);
        let left = band.start - rows.start * width_out;
        let row_len = if rows.len() == 1 {
            band.len()
        } else {
            width_out
        };
        let mut lines = columns.chunks_exact_mut(band.len());
        for plane in planes {
            for (ky, kx) in
                (0..self.kernel[0]).flat_map(|y| (0..self.kernel[1]).map(move |x| (y, x)))
            {
                let line = lines
                    .next()
                    .expect("invariant: a line for every channel and tap");
                let shift = left * self.stride[1] + kx * self.dilation[1];
                for (y, to) in rows.clone().zip(line.chunks_exact_mut(row_len)) {
                    let y = y * self.stride[0] + ky * self.dilation[0];
                    match y.checked_sub(self.padding[0]).filter(|&y| y < height) {
                        None => to.fill(0.0),
                        Some(y) => {
                            let from = &plane[y * width..][..width];
                            copy_shifted(from, shift, self.padding[1], self.stride[1], to);
                        }
                    }
                }
            }
        }
    }
}

/// The patches of a batch of images.
pub(super) struct PatchesOf<'x> {
    pub patches: Patches,
    /// `[batch_size, channels_in, frames, height, width]`
    pub x: &'x [f32],
}

impl Source for PatchesOf<'_> {
    fn columns<'a>(&'a self, place: &Place, scratch: &'a mut [f32]) -> Columns<'a> {
        let patches = &self.patches;
        let [item, frame, group] = place.image;
        let plane = patches.input[0] * patches.input[1];
        let channel = patches.frames * plane;
        let first = item * patches.channels_in + group * (patches.channels_in / patches.groups);
        let x = &self.x[(first + place.channels.start) * channel + frame * plane..];
        if patches.is_pointwise() {
            return Columns {
                values: &x[place.band.start..],
                stride: channel,
            };
        }
        let columns = &mut scratch[..place.channels.len() * patches.taps() * place.band.len()];
        let planes = x.chunks(channel).take(place.channels.len());
        patches.gather(planes.map(|x| &x[..plane]), &place.band, columns);
        Columns {
            values: columns,
            stride: place.band.len(),
        }
    }

    fn needs_scratch(&self) -> bool {
        !self.patches.is_pointwise()
    }
}

/// Copies every `stride`-th value of a row from `shift - padding` on; there are zeros around it.
fn copy_shifted(from: &[f32], shift: usize, padding: usize, stride: usize, to: &mut [f32]) {
    // The first output that is within the row, and the one after the last.
    let begin = padding.saturating_sub(shift).div_ceil(stride).min(to.len());
    let end = (from.len() + padding)
        .saturating_sub(shift)
        .div_ceil(stride);
    let end = end.clamp(begin, to.len());
    to[..begin].fill(0.0);
    to[end..].fill(0.0);
    if begin == end {
        return;
    }
    let from = &from[begin * stride + shift - padding..];
    if stride == 1 {
        to[begin..end].copy_from_slice(&from[..end - begin]);
    } else {
        let values = from.iter().step_by(stride);
        for (to, &value) in to[begin..end].iter_mut().zip(values) {
            *to = value;
        }
    }
}
