use burn::tensor::module::{interpolate, max_pool2d};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions, MaxPoolOptions};
use burn::tensor::{Tensor, s};

use super::encoder::SCALE;
use super::feature_propagation::Flows;
use super::holes::Holes;
use super::layers::{as_batch, as_frames};
use super::warp::in_dtype;

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
            flows: Flows {
                forward: shrunk(flows.forward),
                backward: shrunk(flows.backward),
            },
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
        let tokens = as_frames(max_pool2d(as_batch(holes), options), batch_size);
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
    let small = interpolate(as_batch(flow), options).div_scalar(SCALE as f64);
    in_dtype(as_frames(small, batch_size), dtype)
}
