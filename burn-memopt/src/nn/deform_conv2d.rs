//! 2-D deformable convolution.

use burn::nn::conv::DeformConv2d;
use burn::tensor::Tensor;

/// Applies a modulated deformable convolution on all cores of the CPU; burn's own `forward` uses one
/// for each item of a batch, and holds the columns of whole images.
///
/// On `flex` in f32 without autodiff. Anything else is burn's `forward`.
///
/// # Shapes
/// - x: `[batch_size, channels_in, height_in, width_in]`
/// - offset: `[batch_size, offset_groups * kernel_height * kernel_width * 2, height_out,
///   width_out]`, down and to the right, in pixels
/// - modulation: `[batch_size, offset_groups * kernel_height * kernel_width, height_out, width_out]`
/// - output: `[batch_size, channels_out, height_out, width_out]`
///
/// # Exactness
/// Equal to f32 rounding. The number of threads changes nothing.
///
/// # Panics
/// Where `layer.forward(x, offset, Some(modulation))` does.
///
/// # References
/// Zhu et al. 2019, "Deformable ConvNets v2", arXiv:1811.11168, equation 1.
pub fn deform_conv2d(
    layer: &DeformConv2d,
    x: Tensor<4>,
    offset: Tensor<4>,
    modulation: Tensor<4>,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(output) = flex::deform_conv2d(layer, &x, &offset, &modulation) {
        return output;
    }
    layer.forward(x, offset, Some(modulation))
}

#[cfg(feature = "flex")]
mod flex {
    use burn::nn::PaddingConfig2d;

    use super::super::columns::{Columns, Place, Sizes, Source, product};
    use super::super::operation::{Primitive, run_plain, tensor};
    use super::{DeformConv2d, Tensor};

    pub(super) fn deform_conv2d(
        layer: &DeformConv2d,
        x: &Tensor<4>,
        offset: &Tensor<4>,
        modulation: &Tensor<4>,
    ) -> Option<Tensor<4>> {
        let [batch_size, channels_in, height, width] = x.dims();
        let [_, offsets, height_out, width_out] = offset.dims();
        let weight = layer.weight.val();
        let [channels_out, group_in, ..] = weight.dims();
        let taps = layer.kernel_size[0] * layer.kernel_size[1];
        let padding = match layer.padding {
            PaddingConfig2d::Valid => [0, 0],
            PaddingConfig2d::Explicit(top, left, bottom, right)
                if top == bottom && left == right =>
            {
                [top, left]
            }
            _ => return None,
        };
        let points = layer.offset_groups * taps;
        let fits = offset.dims() == [batch_size, 2 * points, height_out, width_out]
            && modulation.dims() == [batch_size, points, height_out, width_out]
            && channels_in == group_in * layer.weight_groups
            && offsets > 0
            && !x.dims().contains(&0)
            && height_out * width_out > 0;
        if !fits {
            return None;
        }
        let sampling = Sampling {
            sizes: Sizes {
                batch_size,
                frames: 1,
                groups: layer.weight_groups,
                channels_out: channels_out / layer.weight_groups,
                channels_in: group_in,
                taps,
                output: [height_out, width_out],
            },
            input: [height, width],
            kernel_width: layer.kernel_size[1],
            stride: layer.stride,
            padding,
            dilation: layer.dilation,
            offset_groups: layer.offset_groups,
        };
        let inputs = [x, offset, modulation, &weight].into_iter().cloned();
        let inputs = inputs.map(Tensor::into_dispatch);
        let bias = layer.bias.as_ref().map(|bias| bias.val().into_dispatch());
        let output = run_plain(inputs.chain(bias).collect(), |inputs| sampling.run(inputs));
        output.map(Tensor::from_dispatch)
    }

    /// Where a deformable convolution looks.
    struct Sampling {
        sizes: Sizes,
        input: [usize; 2],
        kernel_width: usize,
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        offset_groups: usize,
    }

    impl Sampling {
        /// Runs on `x`, offsets, modulation, the weight, and the bias if there is one.
        fn run(&self, inputs: Vec<Primitive>) -> Primitive {
            let inputs = inputs.iter().map(|input| input.to_contiguous());
            let inputs: Vec<_> = inputs.collect();
            let samples = Samples {
                sampling: self,
                x: inputs[0].storage(),
                offset: inputs[1].storage(),
                modulation: inputs[2].storage(),
            };
            let bias = inputs.get(4).map(|bias| bias.storage());
            let values = product(&self.sizes, inputs[3].storage(), bias, &samples);
            let [height, width] = self.sizes.output;
            let channels = self.sizes.groups * self.sizes.channels_out;
            tensor(values, [self.sizes.batch_size, channels, height, width])
        }
    }

    struct Samples<'x> {
        sampling: &'x Sampling,
        x: &'x [f32],
        offset: &'x [f32],
        modulation: &'x [f32],
    }

    /// Four pixels of a channel, with their shares: 0 where they are outside.
    #[derive(Clone, Copy, Default)]
    struct Corners {
        places: [u32; 4],
        shares: [f32; 4],
    }

    impl Source for Samples<'_> {
        fn columns<'a>(&'a self, place: &Place, scratch: &'a mut [f32]) -> Columns<'a> {
            let Sampling {
                sizes,
                input,
                offset_groups,
                ..
            } = self.sampling;
            let [item, _, group] = place.image;
            let plane = input[0] * input[1];
            let channels_in = sizes.groups * sizes.channels_in;
            let per_offset = channels_in / offset_groups;
            let len = place.band.len();
            let columns = &mut scratch[..place.channels.len() * sizes.taps * len];
            let first = group * sizes.channels_in + place.channels.start;
            let mut corners = vec![Corners::default(); sizes.taps * len];
            let mut known = None;
            let channels = columns.chunks_exact_mut(sizes.taps * len);
            for (channel, columns) in (first..).zip(channels) {
                let offset_group = channel / per_offset;
                if known != Some(offset_group) {
                    self.look(item, offset_group, place.band.start, len, &mut corners);
                    known = Some(offset_group);
                }
                let x = &self.x[(item * channels_in + channel) * plane..][..plane];
                for (value, Corners { places, shares }) in columns.iter_mut().zip(&corners) {
                    let pixel = |at: usize| x[places[at] as usize] * shares[at];
                    *value = (pixel(0) + pixel(1)) + (pixel(2) + pixel(3));
                }
            }
            Columns {
                values: columns,
                stride: len,
            }
        }
    }

    impl Samples<'_> {
        /// Finds the corners of `[taps, len]` points, those of output pixels from `start` on.
        fn look(&self, item: usize, group: usize, start: usize, len: usize, to: &mut [Corners]) {
            let sampling = self.sampling;
            let [height, width] = sampling.input;
            let pixels = sampling.sizes.output[0] * sampling.sizes.output[1];
            let taps = sampling.sizes.taps;
            for (tap, to) in to.chunks_exact_mut(len).enumerate() {
                let point = (item * sampling.offset_groups + group) * taps + tap;
                let line = |number: usize| number * pixels + start..number * pixels + start + len;
                let down = &self.offset[line(2 * point)];
                let right = &self.offset[line(2 * point + 1)];
                let share = &self.modulation[line(point)];
                let (ky, kx) = (tap / sampling.kernel_width, tap % sampling.kernel_width);
                for (at, to) in to.iter_mut().enumerate() {
                    let pixel = start + at;
                    let [y, x] = [
                        pixel / sampling.sizes.output[1],
                        pixel % sampling.sizes.output[1],
                    ];
                    let base = |axis: usize, pixel: usize, tap: usize| {
                        (pixel * sampling.stride[axis] + tap * sampling.dilation[axis]) as f32
                            - sampling.padding[axis] as f32
                    };
                    let rows = neighbours(base(0, y, ky) + down[at], height);
                    let columns = neighbours(base(1, x, kx) + right[at], width);
                    for corner in 0..4 {
                        let (row, of_row) = rows[corner / 2];
                        let (column, of_column) = columns[corner % 2];
                        to.places[corner] = (row * width + column) as u32;
                        to.shares[corner] = of_row * of_column * share[at];
                    }
                }
            }
        }
    }

    /// The pixels before and after a position along an axis of `len` pixels, with their shares: 0 for
    /// those outside, in whose place there is the first pixel.
    fn neighbours(position: f32, len: usize) -> [(usize, f32); 2] {
        let before = position.floor();
        let after_share = position - before;
        let pixel = |at: f32, share: f32| {
            if at >= 0.0 && at < len as f32 {
                (at as usize, share)
            } else if position.is_nan() {
                (0, position)
            } else {
                (0, 0.0)
            }
        };
        [
            pixel(before, 1.0 - after_share),
            pixel(before + 1.0, after_share),
        ]
    }
}
