use burn::tensor::ops::{GridSampleOptions, GridSamplePaddingMode, InterpolateMode};
use burn::tensor::{DType, Int, Tensor};
use burn_memopt::precision::ops::full;

use super::{Direction, Flows};
use crate::propainter::layers::{clip, frames, in_dtype, inverse};

/// What [`warp`] takes between pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// The weighted mean of the four pixels around.
    Bilinear,
    /// The closest pixel; halves go to the even one. No gradient reaches the flow.
    Nearest,
}

/// Moves every pixel of `x` from where `flow` points to, zero where that is outside.
///
/// Positions are computed in f32, whatever the types; the result has the type of `x`.
///
/// # Shapes
/// - x: `[batch_size, channels, height, width]`
/// - flow: `[batch_size, 2, height, width]`, to the right and down, in pixels
/// - output: that of `x`
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::propainter::{Sampling, warp};
///
/// let device = Device::flex();
/// let x = Tensor::<4>::from_floats([[[[1.0, 2.0, 3.0]]]], &device);
/// // Every pixel takes what is one to its right.
/// let right = Tensor::<4>::from_floats([[[[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0]]]], &device);
/// let moved = warp(x, right, Sampling::Nearest).into_data();
/// assert_eq!(moved.iter::<f32>().collect::<Vec<_>>(), [2.0, 3.0, 0.0]);
/// ```
///
/// # References
/// Jaderberg et al. 2015, arXiv:1506.02025, eq. 5 (bilinear sampling).
pub fn warp(x: Tensor<4>, flow: Tensor<4>, sampling: Sampling) -> Tensor<4> {
    let dtype = x.dtype();
    let warped = match sampling {
        Sampling::Bilinear => {
            let options = GridSampleOptions::new(InterpolateMode::Bilinear)
                .with_padding_mode(GridSamplePaddingMode::Zeros)
                .with_align_corners(true);
            full(x).grid_sample_2d(sampling_grid(flow), options)
        }
        Sampling::Nearest => closest(x, flow),
    };
    in_dtype(warped, dtype)
}

/// The positions that `flow` points to, as burn's grid sampling takes them: -1 and 1 are the
/// centres of the first and the last pixel.
///
/// # Shapes
/// - flow: `[batch_size, 2, height, width]`
/// - output: `[batch_size, height, width, 2]`
pub fn sampling_grid(flow: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = flow.dims();
    let normalized = |position: Tensor<4>, len: usize| {
        position.mul_scalar(2.0 / len.saturating_sub(1).max(1) as f64) - 1.0
    };
    let [x, y] = positions(flow);
    let [x, y] = [normalized(x, width), normalized(y, height)];
    // Not permuted: burn 0.22.1 takes both coordinates for neighbours in memory on CubeCL devices.
    Tensor::stack(vec![x.squeeze_dim::<3>(1), y.squeeze_dim::<3>(1)], 3)
}

/// Where a flow and the opposite flow cancel out: 1, elsewhere 0.
///
/// With `w` the opposite flow at the end of `flow`, that is where
/// `|flow + w|² < 0.01 (|flow|² + |w|²) + 0.5`.
///
/// # Shapes
/// - flow, opposite: `[batch_size, 2, height, width]`, in pixels
/// - output: `[batch_size, 1, height, width]`
///
/// # References
/// Sundaram et al. 2010, "Dense point trajectories by GPU-accelerated large displacement optical
/// flow", eq. 5; Zhou et al. 2023, arXiv:2309.03897, section 3.2.
pub fn consistency(flow: Tensor<4>, opposite: Tensor<4>) -> Tensor<4> {
    let flow = full(flow);
    let back = warp(full(opposite), flow.clone(), Sampling::Bilinear);
    let squared = |flow: Tensor<4>| flow.square().sum_dim(1);
    let difference = squared(flow.clone() + back.clone());
    let bound = (squared(flow) + squared(back)).mul_scalar(0.01) + 0.5;
    difference.lower(bound).float()
}

/// Columns and rows that the flow points to, in pixels.
fn positions(flow: Tensor<4>) -> [Tensor<4>; 2] {
    let [_, _, height, width] = flow.dims();
    let flow = full(flow);
    let device = flow.device();
    let pixels = |len: usize, shape: [usize; 4]| {
        let pixels = Tensor::<1, Int>::arange(0..len as i64, &device).float();
        in_dtype(pixels, DType::F32).reshape(shape)
    };
    [
        flow.clone().narrow(1, 0, 1) + pixels(width, [1, 1, 1, width]),
        flow.narrow(1, 1, 1) + pixels(height, [1, 1, height, 1]),
    ]
}

fn closest(x: Tensor<4>, flow: Tensor<4>) -> Tensor<4> {
    let [batch_size, channels, height, width] = x.dims();
    let [column, row] = positions(flow.detach()).map(Tensor::round);
    let outside = |position: &Tensor<4>, len: usize| {
        let before = position.clone().lower_elem(0);
        before.bool_or(position.clone().greater_elem((len - 1) as f64))
    };
    let hidden = outside(&column, width).bool_or(outside(&row, height));
    let index = |position: Tensor<4>, len: usize| position.clamp(0.0, (len - 1) as f64).int();
    let index = index(row, height).mul_scalar(width as i64) + index(column, width);
    let pixels = height * width;
    let index = index
        .reshape([batch_size, 1, pixels])
        .expand([batch_size, channels, pixels]);
    let moved = x.reshape([batch_size, channels, pixels]).gather(2, index);
    let moved = moved.reshape([batch_size, channels, height, width]);
    moved.mask_fill(hidden.expand([batch_size, channels, height, width]), 0.0)
}

/// Fills holes with pixels of other frames that the completed flows lead to, backward and then
/// forward in time; has no parameters.
///
/// # References
/// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.3 (image propagation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePropagation {
    /// How pixels are taken from other frames; holes always bilinearly.
    pub sampling: Sampling,
}

/// A frame and the hole that is left in it.
#[derive(Clone, Debug)]
pub struct MaskedFrame {
    /// `[batch_size, 3, height, width]`.
    pub image: Tensor<4>,
    /// 1 where a pixel is still unknown: `[batch_size, 1, height, width]`.
    pub mask: Tensor<4>,
}

impl ImagePropagation {
    /// Fills what can be filled.
    ///
    /// # Shapes
    /// - images: `[batch_size, frames, 3, height, width]`, 0 in the holes
    /// - flows: at this height and width
    /// - masks: `[batch_size, frames, 1, height, width]`, 1 in the holes
    /// - output: images and masks of the same shapes; only pixels of holes are meaningful
    pub fn forward(
        &self,
        images: Tensor<5>,
        flows: &Flows,
        masks: Tensor<5>,
    ) -> (Tensor<5>, Tensor<5>) {
        let given = frames(images).into_iter().zip(frames(masks));
        let given = given.map(|(image, mask)| MaskedFrame { image, mask });
        let filled = self.backward(given.collect(), flows);
        let filled = self.pass(Direction::Forward, filled, flows).into_iter();
        let (images, masks) = filled.map(|frame| (frame.image, frame.mask)).unzip();
        (clip(images), clip(masks))
    }

    /// The first of the two passes, against the direction of time.
    pub fn backward(&self, given: Vec<MaskedFrame>, flows: &Flows) -> Vec<MaskedFrame> {
        self.pass(Direction::Backward, given, flows)
    }

    fn pass(
        &self,
        direction: Direction,
        given: Vec<MaskedFrame>,
        flows: &Flows,
    ) -> Vec<MaskedFrame> {
        direction.run(given.len(), |at, before: Option<(usize, &MaskedFrame)>| {
            let current = given[at].clone();
            match before {
                None => current,
                Some((from, carried)) => {
                    self.fill(current, carried.clone(), flows.between(at, from))
                }
            }
        })
    }

    /// Fills the hole of one frame from its neighbour.
    fn fill(
        &self,
        current: MaskedFrame,
        carried: MaskedFrame,
        [flow, opposite]: [Tensor<4>; 2],
    ) -> MaskedFrame {
        let MaskedFrame { image, mask } = current;
        let dtype = image.dtype();
        let valid = consistency(flow.clone(), opposite);
        let warped = warp(carried.image, flow.clone(), self.sampling);
        let unknown = binary(warp(carried.mask, flow, Sampling::Bilinear));
        // Where the flow can be trusted and leads to a known pixel.
        let known = in_dtype(valid, dtype) * inverse(unknown);
        let fill = binary(mask.clone() * known.clone());
        let mask = binary(mask * inverse(known));
        let kept = inverse(fill.clone());
        let image = fill * warped + kept * image;
        MaskedFrame { image, mask }
    }
}

/// 1 above a tenth, else 0.
fn binary(mask: Tensor<4>) -> Tensor<4> {
    let dtype: DType = mask.dtype();
    in_dtype(mask.greater_elem(0.1).float(), dtype)
}
