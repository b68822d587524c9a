use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};

use crate::propainter::flow::{DeformAlign, Direction, Flows, Sampling, consistency, warp};
use crate::propainter::layers::{apart, chain, clip, conv, frames, in_dtype, stage};

/// The largest offset from the flow, in pixels.
const REACH: f64 = 3.0;
/// Channels of the mask: the hole, and what is still unknown of it.
const MASKS: usize = 2;

/// Carries features along completed flows, backward and then forward in time, and aligns them by
/// deformable convolutions.
///
/// # References
/// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.3 (feature propagation).
#[derive(Module, Debug)]
pub struct FeaturePropagation {
    backward: FeaturePass,
    forward: FeaturePass,
    fuse: Vec<Conv2d>,
    pub(super) recompute: bool,
}

/// One direction of time.
#[derive(Module, Debug)]
struct FeaturePass {
    deform_align: DeformAlign,
    backbone: Vec<Conv2d>,
}

impl FeaturePropagation {
    /// Builds the propagation for features of `channels` on `device`.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            backward: FeaturePass::new(channels, device),
            forward: FeaturePass::new(channels, device),
            fuse: vec![
                conv([2 * channels + MASKS, channels], 3, device),
                conv([channels, channels], 3, device),
            ],
            recompute: false,
        }
    }

    /// Propagates through all frames.
    ///
    /// # Shapes
    /// - x and output: `[batch_size, frames, channels, height, width]`
    /// - flows: at this height and width, in its pixels
    /// - masks: `[batch_size, frames, 2, height, width]`
    pub fn forward(&self, x: Tensor<5>, flows: &Flows, masks: Tensor<5>) -> Tensor<5> {
        let (x, masks) = (frames(x), frames(masks));
        let [backward, forward] = self.passes(x.clone(), flows, &masks);
        let both = backward.into_iter().zip(forward);
        let fused = both.zip(masks).zip(x).map(|(((b, f), mask), x)| {
            let inputs = (vec![b, f, mask], x);
            stage(self.recompute, &self.fuse, inputs, |fuse, (all, x)| {
                chain(fuse, 0.2, Tensor::cat(all, 1)) + x
            })
        });
        clip(fused.collect())
    }

    /// The results of the backward and of the forward pass, frame by frame.
    pub fn passes(
        &self,
        x: Vec<Tensor<4>>,
        flows: &Flows,
        masks: &[Tensor<4>],
    ) -> [Vec<Tensor<4>>; 2] {
        let run = |pass: &FeaturePass, direction: Direction, x: &[Tensor<4>]| {
            pass.run(direction, x, flows, masks, self.recompute)
        };
        let backward = run(&self.backward, Direction::Backward, &x);
        // Besides the next step of its own pass, each has two more uses: two sums of two gradients
        // are the same in any order.
        let backward: Vec<Tensor<4>> = backward.into_iter().map(apart).collect();
        let forward = run(&self.forward, Direction::Forward, &backward);
        [backward, forward]
    }
}

impl FeaturePass {
    fn new(channels: usize, device: &Device) -> Self {
        // Features here and there, the flow, where it can be trusted, and the masks.
        let condition = 2 * channels + 2 + 1 + MASKS;
        Self {
            deform_align: DeformAlign::new([channels; 2], condition, REACH, device),
            backbone: vec![
                conv([2 * channels + MASKS, channels], 3, device),
                conv([channels, channels], 3, device),
            ],
        }
    }

    fn run(
        &self,
        direction: Direction,
        x: &[Tensor<4>],
        flows: &Flows,
        masks: &[Tensor<4>],
        recompute: bool,
    ) -> Vec<Tensor<4>> {
        direction.run(x.len(), |at, before: Option<(usize, &Tensor<4>)>| {
            let before = before.map(|(from, carried)| (carried.clone(), flows.between(at, from)));
            let inputs = (x[at].clone(), masks[at].clone(), before);
            stage(recompute, self, inputs, |pass, (current, mask, before)| {
                pass.step(current, mask, before)
            })
        })
    }

    /// The result of a frame from that of the frame before it and the flows between them.
    fn step(
        &self,
        current: Tensor<4>,
        mask: Tensor<4>,
        before: Option<(Tensor<4>, [Tensor<4>; 2])>,
    ) -> Tensor<4> {
        let current = apart(current);
        let carried = match before {
            None => current.clone(),
            Some((carried, flow)) => {
                self.align(apart(carried), current.clone(), flow, mask.clone())
            }
        };
        let seen = Tensor::cat(vec![current, carried.clone(), mask], 1);
        carried + chain(&self.backbone, 0.2, seen)
    }

    /// Brings `carried` to where the `current` features are.
    fn align(
        &self,
        carried: Tensor<4>,
        current: Tensor<4>,
        [flow, opposite]: [Tensor<4>; 2],
        mask: Tensor<4>,
    ) -> Tensor<4> {
        let dtype = current.dtype();
        let warped = warp(apart(carried.clone()), flow.clone(), Sampling::Bilinear);
        let valid = consistency(flow.clone(), opposite);
        let [guide, valid] = [flow.clone(), valid].map(|x| in_dtype(x, dtype));
        let condition = Tensor::cat(vec![current, warped, guide, valid, mask], 1);
        self.deform_align.forward(carried, condition, Some(flow))
    }
}
