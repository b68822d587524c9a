use burn::{
    optim::GradientsParams,
    tensor::{Device, Distribution, Tensor},
};
use burn_memopt::precision::{Autocast, Precision};
use burn_memopt_models::propainter::{
    Flows, GeneratorInput, InpaintGenerator, InpaintGeneratorConfig, training::InpaintLoss,
};

use crate::{Row, Variant, measure::compare};

/// Frames whose neighbours are there too.
const LOCAL: usize = 10;
/// Frames from elsewhere.
const REFERENCES: usize = 6;
/// Height and width of a frame in pixels.
const SIDE: usize = 128;
/// Height and width of the hole.
const HOLE: usize = 64;
/// What a layer may allocate at a time, and so how finely work is divided, in bytes.
const WORKING_BYTES: usize = 16 << 20;
/// Scale of the loss in half precision, for gradients below the smallest f16 number.
const LOSS_SCALE: f32 = 1024.0;

/// The generator of the published weights, and frames with a hole.
struct Workload {
    generator: InpaintGenerator,
    input: GeneratorInput,
    truth: Tensor<5>,
    device: Device,
}

impl Workload {
    fn new(device: &Device) -> Self {
        let device = device.clone().autodiff();
        device.seed(0);
        let frames = LOCAL + REFERENCES;
        let random = |frames: usize, channels: usize| {
            let normal = Distribution::Normal(0.0, 1.0);
            Tensor::<5>::random([1, frames, channels, SIDE, SIDE], normal, &device)
        };
        let truth = random(frames, 3).tanh();
        let border = (SIDE - HOLE) / 2;
        let hole = Tensor::<5>::ones([1, frames, 1, HOLE, HOLE], &device);
        let masks = hole.pad([(border, border), (border, border)], 0.0);
        let input = GeneratorInput {
            frames: truth.clone() * masks.clone().neg().add_scalar(1.0),
            flows: Flows {
                forward: random(LOCAL - 1, 2),
                backward: random(LOCAL - 1, 2),
            },
            updated_masks: masks.clone(),
            masks,
            num_local: LOCAL,
        };
        Self {
            generator: InpaintGeneratorConfig::new()
                .with_working_bytes(WORKING_BYTES)
                .init(&device),
            input,
            truth,
            device,
        }
    }

    fn loss(&self, predicted: &Tensor<5>) -> Tensor<1> {
        let terms = InpaintLoss::new().terms(predicted, &self.truth, &self.input.masks, None);
        terms.total()
    }

    /// A step in f32.
    fn step(&self, generator: &InpaintGenerator) -> GradientsParams {
        let predicted = generator.forward_all(self.input.clone());
        GradientsParams::from_grads(self.loss(&predicted).backward(), generator)
    }

    /// A step in half precision, on parameters in f32.
    fn half_step(&self, autocast: &Autocast, generator: &InpaintGenerator) -> GradientsParams {
        let GeneratorInput {
            frames,
            flows,
            masks,
            updated_masks,
            num_local,
        } = self.input.clone();
        let input = [frames, flows.forward, flows.backward, masks, updated_masks];
        let predicted = autocast.run(generator, input, |half, input| {
            let [frames, forward, backward, masks, updated_masks] = input;
            half.forward_all(GeneratorInput {
                frames,
                flows: Flows { forward, backward },
                masks,
                updated_masks,
                num_local,
            })
        });
        let loss = self.loss(&predicted) * LOSS_SCALE;
        GradientsParams::from_grads(loss.backward(), generator)
    }
}

/// A training step recomputed in f32 and in half precision, where the device has it.
pub(crate) fn step(device: &Device) -> Result<Vec<Row>, String> {
    let work = Workload::new(device);
    let autocast = Autocast::new(Precision::F16);
    let recomputed = work.generator.clone().with_grad_checkpoint(true);
    let mut variants = vec![
        Variant::new("plain", || work.step(&work.generator)),
        Variant::new("checkpoint", || work.step(&recomputed)),
    ];
    if Precision::F16.check(&work.device).is_ok() {
        let half = Variant::new("with_f16", || work.half_step(&autocast, &recomputed));
        variants.push(half.with_other_gradients());
    }
    Ok(compare(&work.generator, &work.device, 0, &variants))
}
