//! Features aligned by deformable convolutions, and those of incomplete flows carried through time.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, DeformConv2d, DeformConv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Int, Tensor};
use burn_memopt::grad_checkpoint::Segment;
use burn_memopt::memory::on_host;
use burn_memopt::nn::{conv2d, deform_conv2d, sigmoid, tanh};
use burn_memopt::precision::ops::full;

use super::Direction;
use crate::propainter::layers::{
    apart, chain, clip, conv, conv_config, frames, in_dtype, inverse, stage,
};

/// Groups of channels with offsets of their own.
const GROUPS: usize = 16;
/// Pixels of the kernel, over all groups.
const POINTS: usize = 9 * GROUPS;

/// Aligns features by a modulated deformable convolution, whose offsets and weights are predicted
/// from a condition.
///
/// # References
/// Zhu et al. 2019, "Deformable ConvNets v2", arXiv:1811.11168, eq. 1; Chan et al. 2022,
/// "BasicVSR++", arXiv:2104.13371, section 3.2 (offsets around a flow).
#[derive(Module, Debug)]
pub struct DeformAlign {
    deform: DeformConv2d,
    /// From the condition to offsets and weights.
    pub conv_offset: Vec<Conv2d>,
    reach: f64,
}

impl DeformAlign {
    /// Builds the layer for input and output `channels`, a condition of `condition` channels and
    /// offsets of up to `reach` pixels on `device`.
    ///
    /// The last layer begins with zeros: no offsets, all weights one half.
    pub(crate) fn new(channels: [usize; 2], condition: usize, reach: f64, device: &Device) -> Self {
        let width = channels[1];
        let deform = DeformConv2dConfig::new(channels, [3, 3])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .with_offset_groups(GROUPS);
        let last = conv_config([width, 3 * POINTS], 3).with_initializer(Initializer::Zeros);
        Self {
            deform: deform.init(device),
            conv_offset: vec![
                conv([condition, width], 3, device),
                conv([width, width], 3, device),
                conv([width, width], 3, device),
                last.init(device),
            ],
            reach,
        }
    }

    /// Convolves `x` where the offsets predicted from `condition`, around `flow` if there is one,
    /// point to.
    ///
    /// # Shapes
    /// - x: `[batch_size, channels, height, width]`
    /// - condition: `[batch_size, condition, height, width]`
    /// - flow: `[batch_size, 2, height, width]`, to the right and down, in pixels
    /// - output: `[batch_size, channels, height, width]`
    pub(crate) fn forward(
        &self,
        x: Tensor<4>,
        condition: Tensor<4>,
        flow: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let predicted = chain(&self.conv_offset, 0.1, condition);
        let offset = tanh(predicted.clone().narrow(1, 0, 2 * POINTS));
        let offset = offset.mul_scalar(self.reach);
        let offset = match flow {
            None => offset,
            Some(flow) => {
                // Offsets go down first.
                let flow = in_dtype(flow, offset.dtype()).flip([1]);
                offset + flow.repeat_dim(1, POINTS)
            }
        };
        let weights = sigmoid(predicted.narrow(1, 2 * POINTS, POINTS));
        deformable(&self.deform, x, offset, weights)
    }
}

/// Runs a deformable convolution of 3×3 pixels that keeps height and width.
///
/// burn 0.22.1 computes the gradient of its own operator on the host once per pair of input and
/// output channels; there it is put together from gathering and a matrix product, recomputed in
/// the backward pass, so that only the inputs are kept.
///
/// # Shapes
/// - x: `[batch_size, channels, height, width]`
/// - offset: `[batch_size, groups * 9 * 2, height, width]`, down and to the right, in pixels
/// - modulation: `[batch_size, groups * 9, height, width]`
/// - output: `[batch_size, channels, height, width]`
///
/// # Exactness
/// Both ways are equal to rounding.
pub(crate) fn deformable(
    conv: &DeformConv2d,
    x: Tensor<4>,
    offset: Tensor<4>,
    modulation: Tensor<4>,
) -> Tensor<4> {
    if !x.is_autodiff() || !on_host(&x.device()) {
        return deform_conv2d(conv, x, offset, modulation);
    }
    let inputs = (x, offset, modulation);
    let segment = Segment::new().without_randomness();
    segment.run(conv, inputs, |conv, (x, offset, modulation)| {
        by_gathering(conv, x, offset, modulation)
    })
}

/// The same from gathering and a matrix product.
fn by_gathering(
    conv: &DeformConv2d,
    x: Tensor<4>,
    offset: Tensor<4>,
    modulation: Tensor<4>,
) -> Tensor<4> {
    let [batch_size, channels, height, width] = x.dims();
    let weight = conv.weight.val();
    let [outputs, ..] = weight.dims();
    let columns = columns(x, offset, modulation, conv.offset_groups);
    let columns = in_dtype(columns, weight.dtype());
    let columns = columns.reshape([batch_size, channels * 9, height * width]);
    let weight = weight.reshape([1, outputs, channels * 9]);
    let y = weight.matmul(columns);
    let y = match &conv.bias {
        None => y,
        Some(bias) => y + bias.val().reshape([1, outputs, 1]),
    };
    y.reshape([batch_size, outputs, height, width])
}

/// The values that each output pixel's kernel sees: `[batch_size, groups, channels / groups,
/// 9 * height * width]`.
fn columns(x: Tensor<4>, offset: Tensor<4>, modulation: Tensor<4>, groups: usize) -> Tensor<4> {
    let [batch_size, channels, height, width] = x.dims();
    let points = 9 * height * width;
    let x = full(x).reshape([batch_size, groups, channels / groups, height * width]);
    let offset = full(offset).reshape([batch_size, groups, 9, 2, height, width]);
    let [row, column] = positions(offset);
    let modulation = full(modulation).reshape([batch_size, groups, 9, height, width]);
    let rows = corners(row, height);
    let columns = corners(column, width);
    let pairs = rows
        .iter()
        .flat_map(|row| columns.iter().map(move |column| (row, column)));
    let seen = pairs.map(|((row, down), (column, right))| {
        let index = row.clone().mul_scalar(width as i64) + column.clone();
        let index = index.reshape([batch_size, groups, 1, points]);
        let index = index.expand([batch_size, groups, channels / groups, points]);
        let share = down.clone() * right.clone() * modulation.clone();
        x.clone().gather(3, index) * share.reshape([batch_size, groups, 1, points])
    });
    seen.reduce(|sum, corner| sum + corner)
        .expect("a pixel has four neighbours")
}

/// Rows and columns of the points of the kernel: `[batch_size, groups, 9, height,
/// width]`.
fn positions(offset: Tensor<6>) -> [Tensor<5>; 2] {
    let [_, _, _, _, height, width] = offset.dims();
    let device = offset.device();
    let grid = |len: usize, shape: [usize; 5]| {
        let grid = Tensor::<1, Int>::arange(0..len as i64, &device).float();
        in_dtype(grid, offset.dtype()).reshape(shape)
    };
    // Relative to the pixel in the middle, row by row.
    let point = grid(9, [1, 1, 9, 1, 1]);
    let down = point.clone().div_scalar(3.0).floor();
    let right = point - down.clone().mul_scalar(3.0);
    let moved = |axis: usize| offset.clone().narrow(3, axis, 1).squeeze_dim::<5>(3);
    [
        moved(0) + grid(height, [1, 1, 1, height, 1]) + down - 1.0,
        moved(1) + grid(width, [1, 1, 1, 1, width]) + right - 1.0,
    ]
}

/// The pixels before and after a position along one axis, with their shares: 0 outside.
fn corners(position: Tensor<5>, len: usize) -> [(Tensor<5, Int>, Tensor<5>); 2] {
    let before = position.clone().detach().floor();
    let after_share = position - before.clone();
    let last = (len - 1) as f64;
    let corner = |at: Tensor<5>, share: Tensor<5>| {
        let outside = at
            .clone()
            .lower_elem(0)
            .bool_or(at.clone().greater_elem(last));
        (at.clamp(0.0, last).int(), share.mask_fill(outside, 0.0))
    };
    let before_share = inverse(after_share.clone());
    [
        corner(before.clone(), before_share),
        corner(before + 1.0, after_share),
    ]
}

/// The largest offset, in pixels.
const REACH: f64 = 5.0;

/// Carries features of incomplete flows through time, backward and then forward, aligned with
/// those of the last two frames.
///
/// # References
/// Chan et al. 2022, "BasicVSR++", arXiv:2104.13371, section 3.1 (second-order grid propagation);
/// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.2.
#[derive(Module, Debug)]
pub struct FlowPropagation {
    pub backward: FlowPass,
    /// Sees the results of the other.
    pub forward: FlowPass,
    fusion: Conv2d,
    pub(super) recompute: bool,
}

/// One direction of time.
#[derive(Module, Debug)]
pub struct FlowPass {
    /// Brings the features of the last two frames to this one.
    pub deform_align: DeformAlign,
    pub backbone: Vec<Conv2d>,
}

impl FlowPropagation {
    pub(super) fn new(channels: usize, device: &Device) -> Self {
        Self {
            backward: FlowPass::new(channels, 2, device),
            forward: FlowPass::new(channels, 3, device),
            fusion: Conv2dConfig::new([2 * channels, channels], [1, 1]).init(device),
            recompute: false,
        }
    }

    /// Propagates through all frames: `[batch_size, frames, channels, height, width]`.
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let x = frames(x);
        // Both passes see it, and the sum at the end.
        let seen: Vec<Tensor<4>> = x.iter().cloned().map(apart).collect();
        let run = |pass: &FlowPass, direction, others: &[Tensor<4>]| {
            pass.run(direction, &seen, others, self.recompute)
        };
        let backward = run(&self.backward, Direction::Backward, &[]);
        // The other pass and the fusion see it, besides the next steps of its own pass.
        let backward: Vec<Tensor<4>> = backward.into_iter().map(apart).collect();
        let forward = run(&self.forward, Direction::Forward, &backward);
        let both = backward.into_iter().zip(forward).zip(x);
        let fused = both.map(|((b, f), x)| {
            stage(self.recompute, &self.fusion, (b, f), |fusion, (b, f)| {
                conv2d(fusion, Tensor::cat(vec![b, f], 1))
            }) + x
        });
        clip(fused.collect())
    }
}

impl FlowPass {
    fn new(channels: usize, seen: usize, device: &Device) -> Self {
        let align = [2 * channels, channels];
        Self {
            deform_align: DeformAlign::new(align, 3 * channels, REACH, device),
            backbone: vec![
                conv([seen * channels, channels], 3, device),
                conv([channels, channels], 3, device),
            ],
        }
    }

    /// Visits all frames; each step sees the features of its frame, and what the other
    /// pass made of it, if that ran before.
    fn run(
        &self,
        direction: Direction,
        seen: &[Tensor<4>],
        others: &[Tensor<4>],
        recompute: bool,
    ) -> Vec<Tensor<4>> {
        // The result of a step, the same for the next two steps, and that of the step before.
        type Carried = [Tensor<4>; 3];
        let results = direction.run(seen.len(), |at, before: Option<(usize, &Carried)>| {
            let before = before.map(|(_, [_, first, second])| [first.clone(), second.clone()]);
            let first = match &before {
                None => seen[at].zeros_like(),
                Some([first, _]) => first.clone(),
            };
            let inputs = (seen[at].clone(), others.get(at).cloned(), before);
            let result = stage(recompute, self, inputs, |pass, (current, other, before)| {
                pass.step(current, other, before)
            });
            [result.clone(), apart(result), first]
        });
        results.into_iter().map(|[result, ..]| result).collect()
    }

    /// The result of a frame from those of the two frames before it, the last one first.
    fn step(
        &self,
        current: Tensor<4>,
        other: Option<Tensor<4>>,
        before: Option<[Tensor<4>; 2]>,
    ) -> Tensor<4> {
        let current = apart(current);
        let carried = match before {
            None => current.zeros_like(),
            Some(before) => {
                let [first, second] = before.map(apart);
                let condition =
                    Tensor::cat(vec![first.clone(), current.clone(), second.clone()], 1);
                let pair = Tensor::cat(vec![first, second], 1);
                self.deform_align.forward(pair, condition, None)
            }
        };
        let all = [current].into_iter().chain(other).chain([carried.clone()]);
        carried + chain(&self.backbone, 0.1, Tensor::cat(all.collect(), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::PaddingConfig2d;
    use burn::nn::conv::DeformConv2dConfig;
    use burn::tensor::{Device, Distribution, Tolerance};
    use burn_memopt::grad_checkpoint::hold_random_stream;
    use rstest::rstest;

    #[rstest]
    fn values_and_gradients_are_those_of_the_operator_in_burn(#[values(1, 2, 4)] groups: usize) {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex().autodiff();
        let conv = DeformConv2dConfig::new([4, 6], [3, 3])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .with_offset_groups(groups)
            .init(&device);
        let random = |channels: usize, spread: f64| {
            let normal = Distribution::Normal(0.1, spread);
            let x = Tensor::<4>::random([2, channels, 5, 7], normal, &device);
            x.require_grad()
        };
        // Offsets that also lead outside.
        let (x, offset, modulation) = (
            random(4, 1.0),
            random(18 * groups, 3.0),
            random(9 * groups, 1.0),
        );
        let cotangent = random(6, 1.0).detach();
        let check = |mine: Tensor<4>, burns: Tensor<4>| {
            let [mine_grads, burns_grads] =
                [&mine, &burns].map(|y| (y.clone() * cotangent.clone()).sum().backward());
            let tolerance = Tolerance::<f32>::rel_abs(1e-4, 1e-4);
            let equal = |mine: Tensor<4>, burns: Tensor<4>| {
                mine.into_data()
                    .assert_approx_eq::<f32>(&burns.into_data(), tolerance);
            };
            equal(mine, burns);
            for input in [&x, &offset, &modulation, &conv.weight.val()] {
                let grads = [&mine_grads, &burns_grads];
                let [mine, burns] = grads.map(|grads| input.grad(grads).expect("it is tracked"));
                equal(mine, burns);
            }
        };
        let mine = deformable(&conv, x.clone(), offset.clone(), modulation.clone());
        let burns = conv.forward(x.clone(), offset.clone(), Some(modulation.clone()));
        check(mine, burns);
    }
}
