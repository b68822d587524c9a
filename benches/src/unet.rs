use burn::{
    optim::GradientsParams,
    tensor::{Device, Distribution, Tensor},
};
use burn_memopt::{
    accumulate::GradientAccumulator,
    grad_checkpoint::{PlanError, Policy},
    memory::{Bytes, estimate::peak_of_step},
    precision::{Autocast, Precision},
};
use burn_memopt_models::unet::{UNet, UNetConfig};

use crate::{Row, Variant, measure::compare};

/// Scale of the loss in half precision: gradients of a mean over 65,536 pixels
/// are below the smallest f16 number.
const LOSS_SCALE: f32 = 65536.0;

/// The network of the well-known PyTorch weights and a batch of images.
struct Workload {
    unet: UNet,
    images: Tensor<4>,
    device: Device,
}

impl Workload {
    fn new(batch_size: usize, device: &Device) -> Self {
        let device = device.clone().autodiff();
        device.seed(0);
        Self {
            unet: UNetConfig::new(3, 1).init(&device),
            images: Tensor::random([batch_size, 3, 256, 256], Distribution::Default, &device),
            device,
        }
    }

    fn autocast(&self) -> Result<Autocast, String> {
        Precision::F16
            .check(&self.device)
            .map_err(|error| error.to_string())?;
        Ok(Autocast::new(Precision::F16))
    }

    /// A plain step on the whole batch.
    fn plain(&self) -> GradientsParams {
        let loss = self.unet.forward(self.images.clone()).mean();
        GradientsParams::from_grads(loss.backward(), &self.unet)
    }

    /// The highest bytes of a plain step above those before it.
    fn plain_peak(&self) -> Result<Bytes, String> {
        drop(self.plain());
        let peak = peak_of_step(&self.device, |_| {
            drop(self.plain());
            Ok(())
        });
        peak.map_err(|error| error.to_string())
    }

    /// A plan against plain.
    fn planned(&self, policy: Policy) -> Result<Vec<Row>, String> {
        let plan = match self.unet.plan(policy, self.images.clone()) {
            Err(PlanError::Budget(error)) => {
                eprintln!("  refused: {error}");
                let plain = Variant::new("plain", || self.plain());
                return Ok(compare(&self.unet, &self.device, 1, &[plain]));
            }
            plan => plan.map_err(|error| error.to_string())?,
        };
        let unet = self.unet.clone().with_grad_checkpoint(&plan);
        let technique = Variant::new("budget", || {
            let loss = unet.forward(self.images.clone()).mean();
            GradientsParams::from_grads(loss.backward(), &unet)
        });
        Ok(self.compare(3, technique.with_prediction(plan.predicted_peak)))
    }

    /// One image at a time.
    fn micro_batches(&self, loss: impl Fn(Tensor<4>) -> Tensor<1>) -> GradientsParams {
        let mut accumulator = GradientAccumulator::new();
        for image in 0..self.images.dims()[0] {
            let loss = loss(self.images.clone().narrow(0, image, 1));
            let grads = GradientsParams::from_grads(loss.backward(), &self.unet);
            accumulator.accumulate(&self.unet, grads, 1.0);
        }
        let grads = accumulator.finish(&self.unet);
        grads.expect("invariant: a batch has images")
    }

    fn compare(&self, rounds: usize, technique: Variant) -> Vec<Row> {
        let plain = Variant::new("plain", || self.plain());
        compare(&self.unet, &self.device, rounds, &[plain, technique])
    }
}

fn scaled(logits: Tensor<4>) -> Tensor<1> {
    logits.mean() * LOSS_SCALE
}

/// Every block recomputed.
pub(crate) fn block(device: &Device) -> Result<Vec<Row>, String> {
    let work = Workload::new(1, device);
    let unet = work.unet.clone().with_grad_checkpoint(Policy::EveryBlock);
    let technique = Variant::new("block", || {
        let loss = unet.forward(work.images.clone()).mean();
        GradientsParams::from_grads(loss.backward(), &unet)
    });
    Ok(work.compare(3, technique))
}

/// The least memory that a plan finds.
pub(crate) fn least(device: &Device) -> Result<Vec<Row>, String> {
    Workload::new(1, device).planned(Policy::Least)
}

/// A budget of some percent of the plain peak.
pub(crate) fn budget<const PERCENT: u64>(device: &Device) -> Result<Vec<Row>, String> {
    let work = Workload::new(1, device);
    let budget = Bytes::new(work.plain_peak()?.get() * PERCENT / 100);
    work.planned(Policy::Budget(budget))
}

/// Half precision with f32 master weights.
pub(crate) fn autocast(device: &Device) -> Result<Vec<Row>, String> {
    let work = Workload::new(2, device);
    let autocast = work.autocast()?;
    let technique = Variant::new("autocast", || {
        let images = work.images.clone();
        let logits = autocast.run(&work.unet, images, |half, x| half.forward(x));
        GradientsParams::from_grads(scaled(logits).backward(), &work.unet)
    });
    Ok(work.compare(1, technique.with_other_gradients()))
}

/// Eight micro-batches of one image.
pub(crate) fn accumulate(device: &Device) -> Result<Vec<Row>, String> {
    let work = Workload::new(8, device);
    let technique = Variant::new("accumulate", || {
        work.micro_batches(|image| work.unet.forward(image).mean())
    });
    Ok(work.compare(0, technique.with_other_gradients()))
}

/// Half precision, every block recomputed, eight micro-batches.
pub(crate) fn all(device: &Device) -> Result<Vec<Row>, String> {
    let work = Workload::new(8, device);
    let autocast = work.autocast()?;
    let unet = work.unet.clone().with_grad_checkpoint(Policy::EveryBlock);
    let technique = Variant::new("all", || {
        work.micro_batches(|image| scaled(autocast.run(&unet, image, |half, x| half.forward(x))))
    });
    Ok(work.compare(0, technique.with_other_gradients()))
}
