use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};

use super::deform_align::DeformAlign;
use super::direction::Direction;
use super::layers::{chain, clip, conv3x3, frames};

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
    /// Against the direction of time.
    pub backward: FlowPass,
    /// In the direction of time; sees the results of the other.
    pub forward: FlowPass,
    /// From the results of both to features.
    pub fusion: Conv2d,
}

/// One direction of [`FlowPropagation`].
#[derive(Module, Debug)]
pub struct FlowPass {
    /// Brings the features of the last two frames to this one.
    pub deform_align: DeformAlign,
    /// Adds what follows from all.
    pub backbone: Vec<Conv2d>,
}

impl FlowPropagation {
    /// Builds the propagation for features of `channels` on `device`.
    ///
    /// The alignment begins without offsets.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            backward: FlowPass::new(channels, 2, device),
            forward: FlowPass::new(channels, 3, device),
            fusion: Conv2dConfig::new([2 * channels, channels], [1, 1]).init(device),
        }
    }

    /// Propagates through all frames.
    ///
    /// # Shapes
    /// - x and output: `[batch_size, frames, channels, height, width]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let x = frames(x);
        let alone: Vec<Vec<Tensor<4>>> = x.iter().map(|x| vec![x.clone()]).collect();
        let backward = self.backward.run(Direction::Backward, alone);
        let beside = x.iter().zip(&backward);
        let beside = beside.map(|(x, b)| vec![x.clone(), b.clone()]).collect();
        let forward = self.forward.run(Direction::Forward, beside);
        let both = backward.into_iter().zip(forward).zip(x);
        let fused = both.map(|((b, f), x)| self.fusion.forward(Tensor::cat(vec![b, f], 1)) + x);
        clip(fused.collect())
    }
}

impl FlowPass {
    fn new(channels: usize, seen: usize, device: &Device) -> Self {
        let align = [2 * channels, channels];
        Self {
            deform_align: DeformAlign::new(align, 3 * channels, REACH, device),
            backbone: vec![
                conv3x3([seen * channels, channels], device),
                conv3x3([channels, channels], device),
            ],
        }
    }

    /// Visits all frames; `seen` holds the features of each, the current ones first.
    fn run(&self, direction: Direction, seen: Vec<Vec<Tensor<4>>>) -> Vec<Tensor<4>> {
        type Carried = (Tensor<4>, Tensor<4>);
        let results = direction.run(seen.len(), |at, before: Option<(usize, &Carried)>| {
            let current = &seen[at][0];
            let (first, carried) = match before {
                None => (current.zeros_like(), current.zeros_like()),
                Some((_, (first, second))) => {
                    let condition =
                        Tensor::cat(vec![first.clone(), current.clone(), second.clone()], 1);
                    let pair = Tensor::cat(vec![first.clone(), second.clone()], 1);
                    let carried = self.deform_align.forward(pair, condition, None);
                    (first.clone(), carried)
                }
            };
            let mut all = seen[at].clone();
            all.push(carried.clone());
            let result = carried + chain(&self.backbone, 0.1, Tensor::cat(all, 1));
            // What the frame after this one sees as its last and its last but one.
            (result, first)
        });
        results.into_iter().map(|(result, _)| result).collect()
    }
}
