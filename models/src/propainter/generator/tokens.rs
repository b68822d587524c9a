//! Overlapping patches of a feature map and their sum: the tokens of the transformer.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Int, Tensor};
use burn_memopt::nn::conv2d;

use crate::projection::Projection;
use crate::propainter::layers::{conv, in_parts, stage};

/// Makes tokens of overlapping patches of feature maps.
///
/// # References
/// Liu et al. 2021, "FuseFormer", arXiv:2109.02974, section 3.3 (soft split).
#[derive(Module, Debug)]
pub struct SoftSplit {
    pub(in crate::propainter) embedding: Projection,
    pub(super) recompute: bool,
}

impl SoftSplit {
    /// Builds the layer for `channels` and tokens of `width` on `device`.
    pub fn new(channels: usize, width: usize, device: &Device) -> Self {
        Self {
            embedding: Projection::new([channels * PATCH_LEN, width], device),
            recompute: false,
        }
    }

    /// Makes the tokens, of as many frames at a time as their patches fit into `bytes`.
    ///
    /// # Shapes
    /// - x: `[frames, channels, height, width]`
    /// - output: `[frames, rows, columns, token_width]`
    pub fn forward(&self, x: Tensor<4>, bytes: usize) -> Tensor<4> {
        let [frames, channels, height, width] = x.dims();
        let [rows, columns] = token_grid([height, width]);
        let each = patch_bytes(channels, rows * columns);
        let tokens = in_parts(x, each, bytes, |x| {
            stage(self.recompute, &self.embedding, x, |embedding, x| {
                embedding.forward(unfold(x))
            })
        });
        tokens.reshape([frames as i64, rows as i64, columns as i64, -1])
    }
}

/// Makes feature maps of tokens: the sum of their patches, convolved.
///
/// # References
/// Liu et al. 2021, "FuseFormer", arXiv:2109.02974, section 3.3 (soft composition).
#[derive(Module, Debug)]
pub struct SoftComposition {
    embedding: Projection,
    bias_conv: Conv2d,
    pub(super) recompute: bool,
}

impl SoftComposition {
    /// Builds the layer for `channels` and tokens of `width` on `device`.
    pub fn new(channels: usize, width: usize, device: &Device) -> Self {
        Self {
            embedding: Projection::new([width, channels * PATCH_LEN], device),
            bias_conv: conv([channels, channels], 3, device),
            recompute: false,
        }
    }

    /// Makes feature maps of `size`, of as many frames at a time as their patches fit into `bytes`.
    ///
    /// # Shapes
    /// - tokens: `[frames, rows, columns, token_width]`
    /// - output: `[frames, channels, height, width]`
    pub fn forward(&self, tokens: Tensor<4>, size: [usize; 2], bytes: usize) -> Tensor<4> {
        let [_, rows, columns, width] = tokens.dims();
        let [channels, ..] = self.bias_conv.weight.dims();
        let each = patch_bytes(channels, rows * columns);
        in_parts(tokens, each, bytes, |tokens| {
            let frames = tokens.dims()[0];
            let tokens = tokens.reshape([frames, rows * columns, width]);
            stage(self.recompute, self, tokens, move |layers, tokens| {
                let sum = fold(layers.embedding.forward(tokens), size);
                conv2d(&layers.bias_conv, sum)
            })
        })
    }
}

/// What the patches of one frame need: twice their values.
fn patch_bytes(channels: usize, tokens: usize) -> usize {
    2 * size_of::<f32>() * channels * PATCH_LEN * tokens
}

/// Pixels in a row of a patch.
const KERNEL: usize = 7;
/// Pixels from one patch to the next.
const STRIDE: usize = 3;
/// Zeros before the first pixel.
const PADDING: usize = 3;
/// Pixels of a patch.
pub(crate) const PATCH_LEN: usize = KERNEL * KERNEL;
/// How many strides a patch covers, the last one in part.
const SHIFTS: usize = KERNEL.div_ceil(STRIDE);

/// Number of patches that begin in `size` pixels, along each axis.
pub(super) fn token_grid(size: [usize; 2]) -> [usize; 2] {
    size.map(|len| (len + 2 * PADDING - KERNEL) / STRIDE + 1)
}

/// Cuts a feature map into overlapping patches of 7×7 pixels, one every 3.
///
/// # Shapes
/// - x: `[batch_size, channels, height, width]`
/// - output: `[batch_size, rows * columns, channels * 49]`, channels outermost
///
/// # Exactness
/// Values are copied. Slices of the map seen in steps of the stride make up the patches, so that
/// both passes are copies on every backend; burn's `unfold4d` with padding is a convolution with
/// one weight per pair of channels.
pub fn unfold(x: Tensor<4>) -> Tensor<3> {
    let [batch_size, channels, height, width] = x.dims();
    let [rows, columns] = token_grid([height, width]);
    let lens = [rows, columns].map(|patches| STRIDE * (patches + SHIFTS - 1));
    let after = [lens[0] - PADDING - height, lens[1] - PADDING - width];
    let x = x.pad(
        [(PADDING, after[0]), (PADDING, after[1])],
        PadMode::Constant(0.0),
    );
    // A patch of 7 rows is two strips of 3 rows and the first row of a third one:
    // [b, c, strips, 3, w] -> [b, c, rows, 7, w].
    let strips = x.reshape([batch_size, channels, lens[0] / STRIDE, STRIDE, lens[1]]);
    let shifted = (0..SHIFTS).map(|shift| {
        let strip = strips.clone().narrow(2, shift, rows);
        strip.narrow(3, 0, part_len(shift))
    });
    let x = Tensor::cat(shifted.collect(), 3);
    // The same across: [b, c, rows, 7, strips, 3] -> [b, c, rows, 7, columns, 7].
    let strips = x.reshape([batch_size, channels, rows, KERNEL, lens[1] / STRIDE, STRIDE]);
    let shifted = (0..SHIFTS).map(|shift| {
        let strip = strips.clone().narrow(4, shift, columns);
        strip.narrow(5, 0, part_len(shift))
    });
    let patches = Tensor::cat(shifted.collect(), 5);
    let patches = patches.permute([0, 2, 4, 1, 3, 5]);
    patches.reshape([batch_size, rows * columns, channels * PATCH_LEN])
}

/// Sums patches where they overlap: the adjoint of [`unfold`].
///
/// # Shapes
/// - patches: `[batch_size, rows * columns, channels * 49]`
/// - output: `[batch_size, channels, height, width]`
///
/// # Panics
/// If the number of patches is not that of an image of `size`.
pub fn fold(patches: Tensor<3>, size: [usize; 2]) -> Tensor<4> {
    let [batch_size, count, values] = patches.dims();
    let [rows, columns] = token_grid(size);
    assert!(
        count == rows * columns,
        "patches must be the {rows}×{columns} of the image, got {count}"
    );
    let channels = values / PATCH_LEN;
    let patches = patches.reshape([batch_size, rows, columns, channels, KERNEL, KERNEL]);
    let patches = patches.permute([0, 3, 1, 4, 2, 5]);
    // Each third of a patch, moved on by its strips, is added to the map: first across, then down.
    let x = sum_of_shifts(|shift| {
        let part = patches.clone().narrow(5, STRIDE * shift, part_len(shift));
        let part = part.pad([(0, STRIDE - part_len(shift))], PadMode::Constant(0.0));
        part.reshape([batch_size, channels, rows, KERNEL, columns * STRIDE])
    });
    let x = x.narrow(4, PADDING, size[1]);
    let x = sum_of_shifts(|shift| {
        let part = x.clone().narrow(3, STRIDE * shift, part_len(shift));
        let missing = STRIDE - part_len(shift);
        let part = part.pad([(0, missing), (0, 0)], PadMode::Constant(0.0));
        let part = part.reshape([batch_size, channels, rows * STRIDE, size[1]]);
        part.swap_dims(2, 3)
    });
    x.narrow(3, PADDING, size[0]).swap_dims(2, 3)
}

/// How many patches contain each pixel.
///
/// # Shapes
/// - output: `[1, 1, height, width]`
pub fn overlaps(size: [usize; 2], device: &Device) -> Tensor<4> {
    let along = |len: usize, patches: usize| {
        let count = (0..len).map(|pixel| {
            let starts = (0..patches).map(|patch| STRIDE * patch);
            let covers = |&start: &usize| (start..start + KERNEL).contains(&(pixel + PADDING));
            starts.filter(covers).count() as i64
        });
        let count: Vec<i64> = count.collect();
        Tensor::<1, Int>::from_data(&count[..], device).float()
    };
    let [rows, columns] = token_grid(size);
    let rows = along(size[0], rows).reshape([1, 1, size[0], 1]);
    rows * along(size[1], columns).reshape([1, 1, 1, size[1]])
}

/// How many pixels of the stride after `shift` strides belong to the patch.
fn part_len(shift: usize) -> usize {
    STRIDE.min(KERNEL - STRIDE * shift)
}

/// Sums parts along the last axis, each moved on by its number of strides.
fn sum_of_shifts<const D: usize>(part: impl Fn(usize) -> Tensor<D>) -> Tensor<D> {
    let moved = |shift: usize| {
        let around = (STRIDE * shift, STRIDE * (SHIFTS - 1 - shift));
        part(shift).pad([around], PadMode::Constant(0.0))
    };
    (1..SHIFTS).fold(moved(0), |sum, shift| sum + moved(shift))
}
