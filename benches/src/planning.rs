use burn::{
    optim::GradientsParams,
    tensor::{Device, Distribution, Tensor},
};
use burn_memopt::{
    accumulate::WeightedAccumulator,
    budget::{Request, StepSettings, Technique, Verified, verify},
    chunked::BoxError,
    grad_checkpoint::Policy,
    memory::{
        Bytes, PeakMeter,
        estimate::{CalibrateError, ModelBytes, Workload, peak_of_step},
        on_host,
    },
    train::draw_parameters,
};
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::unet::{UNet, UNetConfig};

use crate::bench::{Bench, Variant};

/// Images of the batch.
const BATCH_SIZE: usize = 2;
/// Smallest side that is calibrated on, and what sides are multiples of: 16 pixels at the bottom.
const SIDES: [usize; 2] = [16, 16];

/// A network and a batch to be planned. The budget is that of the gradients of the whole batch, above
/// what was live before: no optimizer.
struct Work {
    unet: UNet,
    images: Tensor<4>,
    device: Device,
}

impl Work {
    /// The network of the well-known PyTorch weights on images of 256×256; on a GPU, which may be
    /// software, an eighth of its channels on 64×64.
    fn new(device: &Device) -> Self {
        let (channels, side) = if on_host(device) { (64, 256) } else { (8, 64) };
        let device = device.clone().autodiff();
        device.seed(0);
        let shape = [BATCH_SIZE, 3, side, side];
        let unet = UNetConfig::new(3, 1).with_base_channels(channels);
        let unet = unet.init(&device);
        draw_parameters(&unet);
        Self {
            unet,
            images: Tensor::random(shape, Distribution::Default, &device),
            device,
        }
    }

    fn workload(&self) -> Workload {
        let [batch_size, _, height, width] = self.images.dims();
        Workload::new(batch_size, [height, width])
    }

    /// A part of the batch of any size.
    fn crop(&self, workload: Workload) -> Tensor<4> {
        let [height, width] = workload.size;
        self.images
            .clone()
            .slice([0..workload.batch_size, 0..3, 0..height, 0..width])
    }

    /// Plain and recomputed as much as needed, calibrated on smaller images.
    fn techniques(&self) -> Result<Vec<Technique>, CalibrateError> {
        let workloads = self.workload().calibration(SIDES[0], SIDES[1]);
        let step = |policy: Policy, workload| {
            let unet = self.unet.clone().with_grad_checkpoint(policy);
            let images = self.crop(workload);
            move |meter: &PeakMeter| {
                let loss = unet.forward(images.clone()).mean();
                meter.sample();
                drop(GradientsParams::from_grads(loss.backward(), &unet));
                Ok(())
            }
        };
        let profile = |workload| self.unet.profile(self.crop(workload));
        Technique::calibrate_chain(&self.device, &workloads, step, profile)
    }

    fn plan(&self, budget: Bytes) -> Result<Verified, BoxError> {
        let bytes = ModelBytes::of(&self.unet);
        let workload = self.workload();
        let request = Request {
            gradients: bytes.gradients,
            has_batch_statistics: bytes.has_batch_statistics,
            ..Request::training(budget, workload.batch_size, workload.size)
        };
        let techniques = self.techniques()?;
        let run = |settings: &StepSettings| {
            let unet = self.cut(settings);
            peak_of_step(&self.device, |meter| {
                drop(self.step(&unet, settings.micro_batch_size, || meter.sample()));
                Ok(())
            })
        };
        Ok(verify(&request, techniques, run)?)
    }

    fn cut(&self, settings: &StepSettings) -> UNet {
        let cut = settings.cut_or_policy();
        self.unet.clone().with_grad_checkpoint(cut)
    }

    /// The gradients of the batch; `between` runs after every forward pass.
    fn step(&self, unet: &UNet, micro_batch_size: usize, between: impl Fn()) -> GradientsParams {
        let gradients = |images: Tensor<4>| {
            let loss = unet.forward(images).mean();
            between();
            GradientsParams::from_grads(loss.backward(), unet)
        };
        if micro_batch_size == BATCH_SIZE {
            return gradients(self.images.clone());
        }
        let mut accumulator = WeightedAccumulator::new();
        for images in self.images.clone().split(micro_batch_size, 0) {
            let num_items = images.dims()[0] as f64;
            accumulator.accumulate(unet, gradients(images), num_items);
        }
        let gradients = accumulator.finish(unet);
        gradients.expect("invariant: a batch has images")
    }
}

/// A budget of some percent of the plain peak.
pub(crate) fn budget<const PERCENT: u64>(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Work::new(&bench.device);
    let plain_peak = peak_of_step(&work.device, |meter| {
        drop(work.step(&work.unet, BATCH_SIZE, || meter.sample()));
        Ok(())
    });
    let plain_peak = plain_peak?;
    let planned = work.plan(Bytes::new(plain_peak.get() * PERCENT / 100))?;
    let choice = &planned.choice;
    eprintln!("{choice}");
    let settings = &choice.settings;
    let unet = work.cut(settings);
    let plain = Variant::new("plain", || work.step(&work.unet, BATCH_SIZE, || ()));
    let plan = Variant::new("plan", || {
        work.step(&unet, settings.micro_batch_size, || ())
    });
    let plan = plan.with_prediction(choice.predicted_peak);
    let plan = match settings.accumulation_steps {
        1 => plan,
        // Batch statistics are those of a micro-batch.
        _ => plan.with_other_gradients(),
    };
    bench.steps(&work.unet, 3, &[plain, plan]);
    Ok(())
}
