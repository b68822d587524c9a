use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_memopt::nn::{relu, tanh};

use super::correlation::{Correlation, CorrelationField};
use super::encoder::{Encoder, NormKind};
use super::update::{FACTOR, HIDDEN, UpdateBlock, upsample_flow};
use crate::propainter::flow::Flows;
use crate::propainter::layers::{as_batch, as_frames, at_once, in_dtype, side_by_side};

/// Channels of the features that are compared.
const FEATURES: usize = 256;

/// How to build [`Raft`].
#[derive(Config, Debug)]
pub struct RaftConfig {
    /// How the features of two frames are compared. The default is all pixels with all pixels.
    #[config(default = "Correlation::AllPairs")]
    pub correlation: Correlation,
}

impl RaftConfig {
    /// Builds the network with random parameters on `device`.
    pub fn init(&self, device: &Device) -> Raft {
        Raft {
            fnet: Encoder::new(FEATURES, NormKind::Instance, device),
            cnet: Encoder::new(2 * HIDDEN, NormKind::Batch, device),
            update_block: UpdateBlock::new(device),
            correlation: self.correlation,
        }
    }
}

/// The optical flow between two frames.
///
/// Statistics of normalizations never change: this is a network to be used, with the weights of
/// others, next to the one that trains.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt_models::propainter::raft::{Correlation, RaftConfig};
///
/// let device = Device::flex();
/// let raft = RaftConfig::new()
///     .with_correlation(Correlation::ON_DEMAND)
///     .init(&device);
/// let frame = || Tensor::<4>::random([1, 3, 64, 72], Distribution::Uniform(-1.0, 1.0), &device);
/// let flow = raft.forward(frame(), frame(), 2);
/// assert_eq!(flow.full.dims(), [1, 2, 64, 72]);
/// ```
#[derive(Module, Debug)]
pub struct Raft {
    /// Features to compare, of both frames.
    pub fnet: Encoder,
    /// The first hidden state and the input of every correction, of the first frame.
    pub cnet: Encoder,
    /// A correction of the flow.
    update_block: UpdateBlock,
    #[module(skip)]
    correlation: Correlation,
}

/// What [`Raft`] takes from the first frame alone.
#[derive(Debug, Clone)]
pub struct RaftContext {
    /// The first hidden state, `[batch_size, 128, height / 8, width / 8]`.
    pub hidden: Tensor<4>,
    /// The input of every correction, `[batch_size, 128, height / 8, width / 8]`.
    pub input: Tensor<4>,
}

/// A flow in both resolutions; channel 0 points to the right, channel 1 down.
#[derive(Debug, Clone)]
pub struct RaftFlow {
    /// `[batch_size, 2, height / 8, width / 8]`, in pixels of that size.
    pub low: Tensor<4>,
    /// `[batch_size, 2, height, width]`, in pixels of the frames.
    pub full: Tensor<4>,
}

impl Raft {
    /// Compares the features of two frames in another way, with the same result.
    #[must_use]
    pub fn with_correlation(mut self, correlation: Correlation) -> Self {
        self.correlation = correlation;
        self
    }

    /// Computes the flow from `first` to `second` by `iterations` corrections.
    ///
    /// # Shapes
    /// - first, second: `[batch_size, 3, height, width]`, RGB from -1 to 1
    ///
    /// # Panics
    /// If the shapes differ, or a side is not a multiple of 8 or below 64.
    pub fn forward(&self, first: Tensor<4>, second: Tensor<4>, iterations: usize) -> RaftFlow {
        let context = self.context(first.clone());
        let mut steps = self.steps(self.features(first), self.features(second), context);
        (0..iterations).for_each(|_| steps.step());
        steps.flow()
    }

    /// Computes the flows between neighbouring frames, both ways, by `iterations` corrections. What
    /// is computed of a frame serves the flow from it and to it.
    ///
    /// # Shapes
    /// - images: `[batch_size, frames, 3, height, width]`, RGB from -1 to 1
    /// - output: `[batch_size, frames - 1, 2, height, width]` each way
    ///
    /// # Panics
    /// If there is no pair of frames, or a side is not a multiple of 8 or below 64.
    pub fn clip_flows(&self, images: Tensor<5>, iterations: usize) -> Flows {
        let [batch_size, frames, ..] = images.dims();
        assert!(
            frames > 1,
            "a clip must have at least 2 frames, got {frames}"
        );
        let images = as_batch(images);
        let of_pairs = |of_frames: &Tensor<4>, first: usize| {
            let of_frames = as_frames(of_frames.clone(), batch_size);
            as_batch(of_frames.narrow(1, first, frames - 1))
        };
        let features = self.features(images.clone());
        let RaftContext { hidden, input } = self.context(images);
        let [_, _, height, width] = features.dims();
        let pairs = batch_size * (frames - 1);
        let together = self.correlation.pairs_at_once(pairs, [height, width]);
        // A single pair at a time stays a single one.
        let pieces = at_once(&features).min(together);
        let together = together.div_ceil(pieces);
        let flow = |(from, to, start): (usize, usize, usize)| {
            let len = together.min(pairs - start);
            let part =
                |of_frames: &Tensor<4>, first| of_pairs(of_frames, first).narrow(0, start, len);
            let context = RaftContext {
                hidden: part(&hidden, from),
                input: part(&input, from),
            };
            let (first, second) = (part(&features, from), part(&features, to));
            let mut steps = self.steps(first, second, context);
            (0..iterations).for_each(|_| steps.step());
            steps.flow().full
        };
        let starts = || (0..pairs).step_by(together);
        let forward = starts().map(|start| (0, 1, start));
        let backward = starts().map(|start| (1, 0, start));
        let mut flows = side_by_side(pieces, forward.chain(backward).collect(), flow);
        let backward = flows.split_off(flows.len() / 2);
        let [forward, backward] =
            [flows, backward].map(|parts| as_frames(Tensor::cat(parts, 0), batch_size));
        Flows { forward, backward }
    }

    /// The features of frames, which are compared, for the flow from and to each of them.
    ///
    /// # Shapes
    /// - frames: `[batch_size, 3, height, width]`
    /// - output: `[batch_size, 256, height / 8, width / 8]`
    ///
    /// # Panics
    /// If a side is not a multiple of 8.
    pub fn features(&self, frames: Tensor<4>) -> Tensor<4> {
        check_sides(&frames);
        self.fnet.forward(frames)
    }

    /// What is taken from frames from which the flow starts.
    ///
    /// # Shapes
    /// - frames: `[batch_size, 3, height, width]`
    ///
    /// # Panics
    /// If a side is not a multiple of 8.
    pub fn context(&self, frames: Tensor<4>) -> RaftContext {
        check_sides(&frames);
        let both = self.cnet.forward(frames);
        RaftContext {
            hidden: tanh(both.clone().narrow(1, 0, HIDDEN)),
            input: relu(both.narrow(1, HIDDEN, HIDDEN)),
        }
    }

    /// Begins with no flow between the frames whose features are `first` and `second`; `context` is
    /// the first one's.
    ///
    /// # Panics
    /// If the features' shapes differ or a side is below 8.
    pub fn steps(
        &self,
        first: Tensor<4>,
        second: Tensor<4>,
        context: RaftContext,
    ) -> RaftSteps<'_> {
        let [_, _, height, width] = first.dims();
        let flow = first.clone().narrow(1, 0, 2).zeros_like();
        let grid = in_dtype(grid(height, width, &first.device()), first.dtype());
        RaftSteps {
            block: &self.update_block,
            field: CorrelationField::new(first, second, self.correlation),
            context,
            grid,
            flow,
        }
    }
}

/// A flow that is corrected step by step.
#[derive(Debug)]
pub struct RaftSteps<'a> {
    block: &'a UpdateBlock,
    field: CorrelationField,
    context: RaftContext,
    grid: Tensor<4>,
    flow: Tensor<4>,
}

impl RaftSteps<'_> {
    /// Corrects the flow once. Gradients do not pass from one correction to the next by the flow.
    pub fn step(&mut self) {
        let flow = self.flow.clone().detach();
        let correlation = self.field.lookup(self.grid.clone() + flow.clone());
        let RaftContext { hidden, input } = self.context.clone();
        let hidden = self.block.forward(hidden, input, correlation, flow.clone());
        self.flow = flow + self.block.flow_head.forward(hidden.clone());
        self.context.hidden = hidden;
    }

    /// The flow so far.
    pub fn flow(&self) -> RaftFlow {
        let weights = self.block.weights(self.context.hidden.clone());
        RaftFlow {
            low: self.flow.clone(),
            full: upsample_flow(self.flow.clone(), weights),
        }
    }
}

/// The position of each pixel, x then y.
///
/// # Shapes
/// - output: `[1, 2, height, width]`
fn grid(height: usize, width: usize, device: &Device) -> Tensor<4> {
    let axis = |len: usize| Tensor::arange(0..len as i64, device).float();
    let x = axis(width).reshape([1, 1, 1, width]);
    let y = axis(height).reshape([1, 1, height, 1]);
    let shape = [1, 1, height, width];
    Tensor::cat(vec![x.expand(shape), y.expand(shape)], 1)
}

fn check_sides(frames: &Tensor<4>) {
    let [_, _, height, width] = frames.dims();
    assert!(
        height.is_multiple_of(FACTOR) && width.is_multiple_of(FACTOR),
        "sides of frames must be multiples of {FACTOR}, got {height}×{width}"
    );
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};
    use burn_memopt::grad_checkpoint::hold_random_stream;
    use rstest::rstest;

    use super::*;
    use crate::propainter::raft::encoder::Norm;

    fn frames(num_frames: usize, [height, width]: [usize; 2]) -> Tensor<4> {
        let shape = [num_frames, 3, height, width];
        Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Device::flex())
    }

    #[test]
    fn frames_of_a_batch_do_not_see_each_other() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let raft = RaftConfig::new().init(&Device::flex());
        let (first, second) = (frames(2, [64, 64]), frames(2, [64, 64]));
        let together = raft.forward(first.clone(), second.clone(), 2);
        let alone = raft.forward(first.narrow(0, 1, 1), second.narrow(0, 1, 1), 2);
        let tolerance = Tolerance::<f32>::rel_abs(1e-4, 1e-4);
        let full = together.full.narrow(0, 1, 1).into_data();
        full.assert_approx_eq::<f32>(&alone.full.into_data(), tolerance);
    }

    #[test]
    fn statistics_stay_as_they_are_on_a_device_with_autodiff() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex().autodiff();
        let raft = RaftConfig::new().init(&device);
        let frames = Tensor::random([1, 3, 64, 64], Distribution::Default, &device);
        let Norm::Batch(norm) = &raft.cnet.norm1 else {
            panic!("the context encoder has batch normalization");
        };
        let before = norm.running_mean.value().into_data();
        drop(raft.context(frames));
        drop(raft.valid());
        assert_eq!(norm.running_mean.value().into_data(), before);
    }

    #[rstest]
    #[case::height([60, 64])]
    #[case::width([64, 60])]
    #[should_panic(expected = "multiples of 8, got")]
    fn other_sides_are_refused(#[case] size: [usize; 2]) {
        RaftConfig::new()
            .init(&Device::flex())
            .features(frames(1, size));
    }

    #[test]
    #[should_panic(expected = "at least 8 cells, got 7×8")]
    fn frames_without_a_coarsest_level_are_refused() {
        let raft = RaftConfig::new().init(&Device::flex());
        raft.forward(frames(1, [56, 64]), frames(1, [56, 64]), 1);
    }
}
