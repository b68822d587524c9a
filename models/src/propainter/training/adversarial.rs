use burn::module::Module;
use burn_memopt::train::{MicroBatchTrainer, MicroLoss, StepError, StepOutcome};

use super::discriminator::Discriminator;
use super::inpaint_loss::{HingeLoss, InpaintLoss, InpaintTarget};
use crate::propainter::generator::InpaintGenerator;

/// A generator and the discriminator it is trained against.
#[derive(Module, Debug)]
pub struct Rivals {
    /// Completes clips.
    pub generator: InpaintGenerator,
    /// Tells them from real ones.
    pub discriminator: Discriminator,
}

/// One optimizer step of a generator and of its discriminator, out of micro-batches; each has an
/// optimizer, a loss scaler and accumulated gradients of its own.
///
/// The generator's pass ends, its activations and all, before the discriminator learns from what
/// came out; while the generator learns, the discriminator's parameters are not recorded.
///
/// # Exactness
/// As [`MicroBatchTrainer`], micro-batch by micro-batch: the loss of the holes is relative to their share of
/// one, and each moves the estimates of the discriminator's spectral norms. Both networks learn from
/// what the other was before the step.
///
/// # Example
/// ```
/// use burn::optim::AdamConfig;
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::train::MicroBatchTrainerConfig;
/// use burn_memopt_models::propainter::training::InpaintTarget;
/// use burn_memopt_models::propainter::{
///     AdversarialStep, Discriminator, Flows, InpaintGeneratorConfig, Rivals, View,
/// };
///
/// let device = Device::flex().autodiff();
/// let rivals = Rivals {
///     generator: InpaintGeneratorConfig::new().with_depth(1).init(&device),
///     discriminator: Discriminator::new(View::Clip, &device),
/// };
/// // Two frames, hidden as a whole.
/// let frames = Tensor::zeros([1, 2, 3, 32, 32], &device);
/// let masks = Tensor::ones([1, 2, 1, 32, 32], &device);
/// let flow = Tensor::zeros([1, 1, 2, 32, 32], &device);
/// let flows = Flows { forward: flow.clone(), backward: flow };
/// let target = InpaintTarget::new(frames, flows, masks, 2);
///
/// let step = || MicroBatchTrainerConfig::new().init(AdamConfig::new().init());
/// let mut train = AdversarialStep::new(step(), step());
/// train.micro_batch(&rivals, target);
/// let (_rivals, outcomes) = train.flush(rivals, 1e-4);
/// outcomes?;
/// # Ok::<(), burn_memopt::train::StepError>(())
/// ```
///
/// # References
/// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.5; Chang et al. 2019, "Free-form
/// Video Inpainting with 3D Gated Convolution and Temporal PatchGAN", arXiv:1904.10247, section 3.2.
pub struct AdversarialStep {
    /// Steps the generator.
    pub generator: MicroBatchTrainer,
    /// Steps the discriminator.
    pub discriminator: MicroBatchTrainer,
    loss: InpaintLoss,
}

impl AdversarialStep {
    /// Steps the two networks with an optimizer each.
    pub fn new(generator: MicroBatchTrainer, discriminator: MicroBatchTrainer) -> Self {
        Self {
            generator,
            discriminator,
            loss: InpaintLoss::new(),
        }
    }

    /// Replaces the weights of the generator's loss.
    #[must_use]
    pub fn with_loss(mut self, loss: InpaintLoss) -> Self {
        self.loss = loss;
        self
    }

    /// Runs one micro-batch forward and backward, through the generator and then through the
    /// discriminator, and accumulates the gradients of both.
    pub fn micro_batch(&mut self, rivals: &Rivals, target: InpaintTarget) {
        let Rivals {
            generator,
            discriminator,
        } = rivals;
        let (num_clips, masks) = (target.frames.dims()[0] as f64, &target.input.masks);
        self.generator.begin(generator);
        self.discriminator.begin(discriminator);

        let input = target.input.clone();
        let autocast = self.generator.autocast();
        let predicted = autocast.run(generator, input, InpaintGenerator::forward_all);
        let completed = target.completed_by(predicted.clone());
        let judge = |discriminator: &Discriminator, clips| {
            let autocast = self.discriminator.autocast();
            autocast.run(discriminator, clips, Discriminator::forward)
        };
        let verdict = judge(&discriminator.clone().no_grad(), completed.clone());
        let terms = self
            .loss
            .terms(&predicted, &target.frames, masks, Some(verdict));
        drop(predicted);
        let made_up = completed.detach();
        let loss = MicroLoss::mean(terms.total(), num_clips);
        self.generator.backward(generator, loss);

        let real = judge(discriminator, target.frames);
        let made_up = judge(discriminator, made_up);
        let loss = HingeLoss.discriminator(real, made_up);
        let loss = MicroLoss::mean(loss, num_clips);
        self.discriminator.backward(discriminator, loss);
    }

    /// Steps both optimizers with whatever is accumulated, and answers what became of the generator
    /// and of the discriminator. In half precision each may be skipped on its own.
    ///
    /// # Errors
    /// As [`MicroBatchTrainer::step`], for either. The network that it is of is as before, the other may have
    /// been stepped.
    pub fn flush(
        &mut self,
        rivals: Rivals,
        lr: f64,
    ) -> (Rivals, Result<[StepOutcome; 2], StepError>) {
        let (generator, first) = self.generator.flush(rivals.generator, lr);
        let (discriminator, second) = self.discriminator.flush(rivals.discriminator, lr);
        let rivals = Rivals {
            generator,
            discriminator,
        };
        (rivals, first.and_then(|first| Ok([first, second?])))
    }
}
