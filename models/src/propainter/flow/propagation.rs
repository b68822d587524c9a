use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use burn_memopt::nn::conv2d;

use super::Direction;
use super::deform_align::DeformAlign;
use crate::propainter::layers::{apart, chain, clip, conv, frames, stage};

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
