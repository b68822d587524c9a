use burn::tensor::module::{interpolate, max_pool2d};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions, MaxPoolOptions};
use burn::tensor::{Tensor, s};
use burn_memopt::impl_tensors;
use burn_memopt::nn::canonical_strides;

use super::codec::SCALE;
use super::windows::Holes;
use crate::propainter::flow::{Flows, ImagePropagation};
use crate::propainter::layers::{as_batch, as_frames, in_dtype, inverse, with_references};

/// The frames of one call of an [`InpaintGenerator`](super::InpaintGenerator): local ones,
/// neighbours in time, first, and reference frames from elsewhere in the video after them.
#[derive(Clone, Debug)]
pub struct GeneratorInput {
    /// Frames with what image propagation filled in: `[batch_size, frames, 3, height, width]`, in
    /// [-1, 1], 0 where unknown.
    pub frames: Tensor<5>,
    /// Completed flows between the local frames, at full size.
    pub flows: Flows,
    /// 1 in the hole: `[batch_size, frames, 1, height, width]`.
    pub masks: Tensor<5>,
    /// 1 where image propagation left a pixel unknown, of the same shape.
    pub updated_masks: Tensor<5>,
    /// How many of the frames are local.
    pub num_local: usize,
}

// Flows stay in f32: they say where pixels come from.
impl_tensors!(GeneratorInput { frames, masks, updated_masks; uncast flows; plain num_local });

impl GeneratorInput {
    /// Fills the holes of the local frames with pixels of each other first, and blanks what is
    /// left of the holes of all.
    ///
    /// # Shapes
    /// - frames: `[batch_size, frames, 3, height, width]`, in [-1, 1], the local ones first
    /// - flows: completed, between the local frames
    /// - masks: `[batch_size, frames, 1, height, width]`, 1 in the hole
    pub fn propagated(
        frames: Tensor<5>,
        flows: Flows,
        masks: Tensor<5>,
        num_local: usize,
        propagation: ImagePropagation,
    ) -> Self {
        let known = frames * inverse(masks.clone());
        let local = |x: &Tensor<5>| x.clone().narrow(1, 0, num_local);
        let (filled, left) = propagation.forward(local(&known), &flows, local(&masks));
        let filled = local(&known) + filled * local(&masks);
        Self {
            frames: with_references(filled, known),
            updated_masks: with_references(left, masks.clone()),
            flows,
            masks,
            num_local,
        }
    }

    /// Panics if a side is no multiple of 4, or there is no local frame.
    pub(super) fn check(&self) {
        let [_, count, _, height, width] = self.frames.dims();
        assert!(
            height.is_multiple_of(SCALE) && width.is_multiple_of(SCALE),
            "frame sides must be multiples of {SCALE} pixels, got {height}×{width}"
        );
        assert!(
            (1..=count).contains(&self.num_local),
            "local frames must be 1 to all {count}, got {}",
            self.num_local
        );
    }
}

/// Flows and masks at the size of the features.
#[derive(Clone, Debug)]
pub struct Guides {
    /// Flows, in pixels of that size.
    pub flows: Flows,
    /// Mask of the hole and of what is still unknown:
    /// `[batch_size, frames, 2, height / 4, width / 4]`.
    pub masks: Tensor<5>,
}

impl Guides {
    /// Shrinks flows and masks to a quarter; see [`GeneratorInput`](super::GeneratorInput) for
    /// their shapes.
    pub fn new(flows: Flows, masks: Tensor<5>, updated_masks: Tensor<5>) -> Self {
        let masks = Tensor::cat(vec![masks, updated_masks], 2);
        Self {
            flows: flows.map(shrunk),
            masks: masks.slice(s![.., .., .., ..;4, ..;4]),
        }
    }

    /// Finds the windows where one of the first `frames` frames has a hole.
    pub fn holes(&self, frames: usize) -> Holes {
        let batch_size = self.masks.dims()[0];
        let holes = self.masks.clone().narrow(1, 0, frames).narrow(2, 0, 1);
        let options = MaxPoolOptions::new([7, 7])
            .with_stride([3, 3])
            .with_padding([3, 3]);
        let tokens = max_pool2d(as_batch(holes), options);
        let tokens = as_frames(canonical_strides(tokens), batch_size);
        Holes::find(tokens.squeeze_dim(2))
    }
}

fn shrunk(flow: Tensor<5>) -> Tensor<5> {
    let [batch_size, pairs, _, height, width] = flow.dims();
    let size = [height / SCALE, width / SCALE];
    if pairs == 0 {
        return flow.slice(s![.., .., .., 0..size[0], 0..size[1]]);
    }
    let options = InterpolateOptions::new(InterpolateMode::Bilinear)
        .with_align_corners(false)
        .with_output_size(size);
    let dtype = flow.dtype();
    let small = canonical_strides(interpolate(as_batch(flow), options)).div_scalar(SCALE as f64);
    in_dtype(as_frames(small, batch_size), dtype)
}
