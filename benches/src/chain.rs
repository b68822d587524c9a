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
    grad_checkpoint::{Chain, Cut, Forward, PlanError, Policy, Segment},
    memory::{Bytes, PeakMeter},
};

use crate::{Row, Variant, measure::compare};

const NUM_BLOCKS: usize = 32;
const ROUNDS: usize = 5;

/// Convolution 3×3, group normalisation, ReLU, convolution 3×3, around a residual.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    first: Conv2d,
    norm: GroupNorm,
    second: Conv2d,
}

impl ResidualBlock {
    /// A block of 16 channels in 4 groups.
    pub fn new(device: &Device) -> Self {
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
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
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
    fn new(device: &Device) -> Self {
        let device = device.clone().autodiff();
        device.seed(0);
        Self {
            blocks: (0..NUM_BLOCKS)
                .map(|_| ResidualBlock::new(&device))
                .collect(),
            x: Tensor::random([2, 16, 96, 96], Distribution::Default, &device),
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

    fn plain_peak(&self) -> Result<Bytes, String> {
        let plain = Policy::None.into();
        drop(self.step(&plain));
        let meter = PeakMeter::start(&self.device);
        let grads = self.step(&plain);
        let peak = meter.finish().peak;
        drop(grads);
        peak.ok_or_else(|| "the device does not report its memory".to_owned())
    }

    fn compare(&self, technique: Variant) -> Vec<Row> {
        let plain = Policy::None.into();
        let plain = Variant::new("plain", || self.step(&plain));
        compare(&self.blocks, &self.device, ROUNDS, &[plain, technique])
    }

    fn planned(&self, policy: Policy) -> Result<Vec<Row>, String> {
        let plan = match self.chain().plan(policy, self.x.clone()) {
            Err(PlanError::Budget(error)) => {
                eprintln!("  refused: {error}");
                let cut = Policy::None.into();
                let plain = Variant::new("plain", || self.step(&cut));
                return Ok(compare(&self.blocks, &self.device, 1, &[plain]));
            }
            plan => plan.map_err(|error| error.to_string())?,
        };
        let cut = Cut::from(&plan);
        let technique = Variant::new("budget", || self.step(&cut));
        Ok(self.compare(technique.with_prediction(plan.predicted_peak)))
    }
}

/// `segments=6` against plain.
pub(crate) fn segments(device: &Device) -> Result<Vec<Row>, String> {
    let work = Workload::new(device);
    let cut = Policy::Segments(6).into();
    Ok(work.compare(Variant::new("segments=6", || work.step(&cut))))
}

/// The least memory that a plan finds.
pub(crate) fn least(device: &Device) -> Result<Vec<Row>, String> {
    Workload::new(device).planned(Policy::Least)
}

/// A budget of some percent of the plain peak.
pub(crate) fn budget<const PERCENT: u64>(device: &Device) -> Result<Vec<Row>, String> {
    let work = Workload::new(device);
    let budget = Bytes::new(work.plain_peak()?.get() * PERCENT / 100);
    work.planned(Policy::Budget(budget))
}
