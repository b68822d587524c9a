use std::cell::RefCell;

use burn::{
    optim::{GradientsParams, SgdConfig},
    tensor::{Device, Distribution, Tensor},
};
use burn_memopt::{
    accumulate::WeightedAccumulator,
    chunked::BoxError,
    grad_checkpoint::{PlanError, Policy},
    memory::{Bytes, estimate::peak_of_step},
    precision::{Autocast, Precision},
    train::{DataParallel, MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss},
};
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::unet::{UNet, UNetConfig};

use crate::bench::{Bench, Variant};

/// Scale of the loss in half precision: gradients of a mean over 65,536 pixels
/// are below the smallest f16 number.
const LOSS_SCALE: f32 = 65536.0;

/// Steps of each variant that are measured, after one to warm up.
const ROUNDS: usize = 3;

/// The network of the well-known PyTorch weights and a batch of images.
struct Workload {
    unet: UNet,
    images: Tensor<4>,
    device: Device,
}

impl Workload {
    fn new(batch_size: usize, bench: &Bench) -> Self {
        Self::on(bench.device.clone().autodiff(), batch_size, bench)
    }

    fn on(device: Device, batch_size: usize, bench: &Bench) -> Self {
        device.seed(0);
        let (channels, side) = bench.pick((64, 256), (8, 64));
        let shape = [batch_size, 3, side, side];
        Self {
            unet: UNetConfig::new(3, 1)
                .with_base_channels(channels)
                .init(&device),
            images: Tensor::random(shape, Distribution::Default, &device),
            device,
        }
    }

    fn autocast(&self) -> Result<Autocast, BoxError> {
        Precision::F16.check(&self.device)?;
        Ok(Autocast::new(Precision::F16))
    }

    /// A plain step on the whole batch.
    fn plain(&self) -> GradientsParams {
        self.step(&self.unet)
    }

    /// A step on the whole batch, with the network recomputed as `unet` says.
    fn step(&self, unet: &UNet) -> GradientsParams {
        let loss = unet.forward(self.images.clone()).mean();
        GradientsParams::from_grads(loss.backward(), unet)
    }

    /// The highest bytes of a plain step above those before it.
    fn plain_peak(&self) -> Result<Bytes, BoxError> {
        drop(self.plain());
        let peak = peak_of_step(&self.device, |_| {
            drop(self.plain());
            Ok(())
        });
        Ok(peak?)
    }

    /// Measures a plan against plain.
    fn planned(&self, bench: &mut Bench, policy: Policy) -> Result<(), BoxError> {
        let plan = match self.unet.plan(policy, self.images.clone()) {
            Err(PlanError::Budget(error)) => {
                eprintln!("  refused: {error}");
                let plain = Variant::new("plain", || self.plain());
                bench.steps(&self.unet, 1, &[plain]);
                return Ok(());
            }
            plan => plan?,
        };
        let unet = self.unet.clone().with_grad_checkpoint(&plan);
        let technique = Variant::new("budget", || self.step(&unet));
        self.measure(
            bench,
            ROUNDS,
            technique.with_prediction(plan.predicted_peak),
        );
        Ok(())
    }

    /// One image at a time.
    fn micro_batches(&self, loss: impl Fn(Tensor<4>) -> Tensor<1>) -> GradientsParams {
        let mut accumulator = WeightedAccumulator::new();
        for image in 0..self.images.dims()[0] {
            let loss = loss(self.images.clone().narrow(0, image, 1));
            let grads = GradientsParams::from_grads(loss.backward(), &self.unet);
            accumulator.accumulate(&self.unet, grads, 1.0);
        }
        let grads = accumulator.finish(&self.unet);
        grads.expect("invariant: a batch has images")
    }

    fn measure(&self, bench: &mut Bench, rounds: usize, technique: Variant) {
        let plain = Variant::new("plain", || self.plain());
        bench.steps(&self.unet, rounds, &[plain, technique]);
    }
}

fn scaled(logits: Tensor<4>) -> Tensor<1> {
    logits.mean() * LOSS_SCALE
}

/// Every block recomputed, next to burn's own strategy, which recomputes what is cheap.
pub(crate) fn block(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Workload::new(1, bench);
    let unet = work.unet.clone().with_grad_checkpoint(Policy::EveryBlock);
    let balanced = Workload::on(work.device.clone().gradient_checkpointing(), 1, bench);
    let variants = [
        Variant::new("plain", || work.plain()),
        Variant::new("block", || work.step(&unet)),
        // The same network with parameters of its own.
        Variant::new("balanced", || balanced.plain()).with_other_gradients(),
    ];
    bench.steps(&work.unet, ROUNDS, &variants);
    Ok(())
}

/// The least memory that a plan finds.
pub(crate) fn least(bench: &mut Bench) -> Result<(), BoxError> {
    Workload::new(1, bench).planned(bench, Policy::Least)
}

/// A budget of some percent of the plain peak.
pub(crate) fn budget<const PERCENT: u64>(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Workload::new(1, bench);
    let budget = Bytes::new(work.plain_peak()?.get() * PERCENT / 100);
    work.planned(bench, Policy::Budget(budget))
}

/// Half precision with f32 master weights.
pub(crate) fn autocast(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Workload::new(2, bench);
    let autocast = work.autocast()?;
    let technique = Variant::new("autocast", || {
        let images = work.images.clone();
        let logits = autocast.run(&work.unet, images, |half, x| half.forward(x));
        GradientsParams::from_grads(scaled(logits).backward(), &work.unet)
    });
    work.measure(bench, 1, technique.with_other_gradients());
    Ok(())
}

/// Micro-batches of one image, eight of them (four, in the small batch).
pub(crate) fn accumulate(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Workload::new(bench.pick(8, 4), bench);
    let technique = Variant::new("accumulate", || {
        work.micro_batches(|image| work.unet.forward(image).mean())
    });
    work.measure(bench, 0, technique.with_other_gradients());
    Ok(())
}

/// Half precision, every block recomputed, micro-batches of one image.
pub(crate) fn all(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Workload::new(bench.pick(8, 4), bench);
    let autocast = work.autocast()?;
    let unet = work.unet.clone().with_grad_checkpoint(Policy::EveryBlock);
    let technique = Variant::new("all", || {
        work.micro_batches(|image| scaled(autocast.run(&unet, image, |half, x| half.forward(x))))
    });
    work.measure(bench, 0, technique.with_other_gradients());
    Ok(())
}

/// Four micro-batches on one device, with all threads, and on two, which share them.
pub(crate) fn parallel(bench: &mut Bench) -> Result<(), BoxError> {
    const MICRO_BATCHES: usize = 4;
    let work = &Workload::new(MICRO_BATCHES, bench);
    let config = MicroBatchTrainerConfig::new();
    let init = || config.init(SgdConfig::new().init());
    let step = |num_devices: usize| {
        let devices = vec![work.device.clone(); num_devices];
        let parallel = DataParallel::new(&devices, init)?.without_randomness();
        let state = RefCell::new((init(), parallel, Some(work.unet.clone())));
        Ok::<_, BoxError>(move || {
            let (train, parallel, unet) = &mut *state.borrow_mut();
            let current = unet
                .take()
                .expect("invariant: every step gives the model back");
            let images = work.images.clone().split(1, 0);
            let micro_batch = |train: &mut MicroBatchTrainer, unet: &UNet, image| {
                let loss = |output: Tensor<4>| MicroLoss::mean(output.mean(), 1.0);
                train.micro_batch(unet, image, UNet::forward, loss);
            };
            let ran = parallel.micro_batches(train, &current, images, micro_batch);
            ran.expect("invariant: no replica fails");
            let (next, outcome) = train.flush(current, 0.0);
            outcome.expect("invariant: the loss is finite");
            *unet = Some(next);
            GradientsParams::new()
        })
    };
    let variants = [
        Variant::new("one", step(1)?).with_other_gradients(),
        Variant::new("two", step(2)?).with_other_gradients(),
    ];
    bench.steps(&work.unet, ROUNDS, &variants);
    Ok(())
}
