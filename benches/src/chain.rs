use burn::{
    module::Module,
    nn::{
        GroupNorm, GroupNormConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    optim::GradientsParams,
    tensor::{Device, Distribution, Tensor, activation::relu},
};
use burn_memopt::{
    chunked::BoxError,
    grad_checkpoint::{Chain, Cut, Forward, PlanError, Policy, Segment},
    memory::{Bytes, PeakMeter},
};

use crate::bench::{Bench, Variant};

const ROUNDS: usize = 5;

/// Convolution 3×3, group normalisation, ReLU, convolution 3×3, around a residual.
#[derive(Module, Debug)]
struct ResidualBlock {
    first: Conv2d,
    norm: GroupNorm,
    second: Conv2d,
}

impl ResidualBlock {
    /// A block of 16 channels in 4 groups.
    fn new(device: &Device) -> Self {
        let conv =
            Conv2dConfig::new([16, 16], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        Self {
            first: conv.init(device),
            norm: GroupNormConfig::new(4, 16).init(device),
            second: conv.init(device),
        }
    }

    /// Runs the block.
    ///
    /// # Shapes
    /// - x and output: `[batch_size, 16, height, width]`
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.norm.forward(self.first.forward(x.clone())));
        x + self.second.forward(y)
    }
}

/// The chain and its input.
struct Workload {
    blocks: Vec<ResidualBlock>,
    x: Tensor<4>,
    device: Device,
}

impl Workload {
    fn new(bench: &Bench) -> Self {
        let device = bench.device.clone().autodiff();
        device.seed(0);
        let (num_blocks, shape) = bench.pick((32, [2, 16, 96, 96]), (8, [1, 16, 48, 48]));
        Self {
            blocks: (0..num_blocks)
                .map(|_| ResidualBlock::new(&device))
                .collect(),
            x: Tensor::random(shape, Distribution::Default, &device),
            device,
        }
    }

    fn chain(
        &self,
    ) -> Chain<'_, ResidualBlock, Tensor<4>, impl Forward<ResidualBlock, Tensor<4>> + use<>> {
        Chain::new(&self.blocks, ResidualBlock::forward)
            .with_segment(Segment::new().without_randomness())
    }

    fn step(&self, cut: &Cut) -> GradientsParams {
        let y = self.chain().run(cut, self.x.clone());
        GradientsParams::from_grads(y.mean().backward(), &self.blocks)
    }

    fn plain_peak(&self) -> Result<Bytes, BoxError> {
        let plain = Policy::None.into();
        drop(self.step(&plain));
        let meter = PeakMeter::start(&self.device);
        let grads = self.step(&plain);
        let peak = meter.finish().peak;
        drop(grads);
        peak.ok_or_else(|| "the device does not report its memory".into())
    }

    /// Measures the plain step, and with a technique.
    fn measure<'a>(&'a self, bench: &mut Bench, technique: Option<Variant<'a>>) {
        let plain = Policy::None.into();
        let plain = Variant::new("plain", move || self.step(&plain));
        let rounds = if technique.is_some() { ROUNDS } else { 1 };
        let variants: Vec<_> = [plain].into_iter().chain(technique).collect();
        bench.steps(&self.blocks, rounds, &variants);
    }

    fn planned(&self, bench: &mut Bench, policy: Policy) -> Result<(), BoxError> {
        let plan = match self.chain().plan(policy, self.x.clone()) {
            Err(PlanError::Budget(error)) => {
                eprintln!("  refused: {error}");
                self.measure(bench, None);
                return Ok(());
            }
            plan => plan?,
        };
        let cut = Cut::from(&plan);
        let technique = Variant::new("budget", move || self.step(&cut));
        self.measure(bench, Some(technique.with_prediction(plan.predicted_peak)));
        Ok(())
    }
}

/// Six segments (three, in the small chain) against plain.
pub(crate) fn segments(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Workload::new(bench);
    let (name, segments) = bench.pick(("segments=6", 6), ("segments=3", 3));
    let cut = Policy::Segments(segments).into();
    let technique = Variant::new(name, || work.step(&cut));
    work.measure(bench, Some(technique));
    Ok(())
}

/// The least memory that a plan finds.
pub(crate) fn least(bench: &mut Bench) -> Result<(), BoxError> {
    Workload::new(bench).planned(bench, Policy::Least)
}

/// A budget of some percent of the plain peak.
pub(crate) fn budget<const PERCENT: u64>(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Workload::new(bench);
    let budget = Bytes::new(work.plain_peak()?.get() * PERCENT / 100);
    work.planned(bench, Policy::Budget(budget))
}
