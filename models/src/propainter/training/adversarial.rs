use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_memopt::precision::ops::{full, mean};
use burn_memopt::train::{
    MicroBatchTrainer, MicroBatchTrainers, MicroLoss, StepError, StepOutcome, frozen,
};

use super::discriminator::Discriminator;
use super::flow_loss::masked_l1;
use crate::propainter::flow::{Flows, ImagePropagation, Sampling};
use crate::propainter::generator::{GeneratorInput, InpaintGenerator};
use crate::propainter::layers::inverse;

/// A generator and the discriminator it is trained against.
#[derive(Module, Debug)]
pub struct Rivals {
    /// Completes clips.
    pub generator: InpaintGenerator,
    /// Distinguishes them from real ones.
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
        let score = |discriminator: &Discriminator, clips| {
            let autocast = self.discriminator.autocast();
            autocast.run(discriminator, clips, Discriminator::forward)
        };
        let scores = score(&frozen(discriminator), completed.clone());
        let terms = self
            .loss
            .terms(&predicted, &target.frames, masks, Some(scores));
        drop(predicted);
        let fake = completed.detach();
        let loss = MicroLoss::mean(terms.total(), num_clips);
        self.generator.backward(generator, loss);

        let real = score(discriminator, target.frames);
        let fake = score(discriminator, fake);
        let loss = HingeLoss.discriminator(real, fake);
        let loss = MicroLoss::mean(loss, num_clips);
        self.discriminator.backward(discriminator, loss);
    }

    /// Steps both optimizers with whatever is accumulated, and returns what became of the generator
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

impl MicroBatchTrainers for AdversarialStep {
    fn trainers(&self) -> Vec<&MicroBatchTrainer> {
        vec![&self.generator, &self.discriminator]
    }

    fn trainers_mut(&mut self) -> Vec<&mut MicroBatchTrainer> {
        vec![&mut self.generator, &mut self.discriminator]
    }
}

/// Weights of the terms that train an [`InpaintGenerator`](crate::propainter::InpaintGenerator).
#[derive(Config, Debug, PartialEq)]
pub struct InpaintLoss {
    /// Of the hole. The default is `1.0`.
    #[config(default = 1.0)]
    pub hole: f64,
    /// Of the rest. The default is `1.0`.
    #[config(default = 1.0)]
    pub valid: f64,
    /// Of the scores of a discriminator. The default is `0.01`.
    #[config(default = 0.01)]
    pub adversarial: f64,
}

/// A clip whose pixels are known.
#[derive(Clone, Debug)]
pub struct InpaintTarget {
    /// Frames in [-1, 1]: `[batch_size, frames, 3, height, width]`.
    pub frames: Tensor<5>,
    /// What a generator is given of it; its masks say where the holes are.
    pub input: GeneratorInput,
}

impl InpaintTarget {
    /// Fills the holes of the local frames, the first `num_local`, with pixels of each other as far
    /// as flows lead there, and blanks what is left of the holes.
    ///
    /// # Shapes
    /// - frames: `[batch_size, frames, 3, height, width]`, in [-1, 1]
    /// - flows: completed, between the local frames
    /// - masks: `[batch_size, frames, 1, height, width]`, 1 in the hole
    pub fn new(frames: Tensor<5>, flows: Flows, masks: Tensor<5>, num_local: usize) -> Self {
        let propagation = ImagePropagation {
            sampling: Sampling::Nearest,
        };
        let seen = frames.clone();
        Self {
            frames,
            input: GeneratorInput::propagated(seen, flows, masks, num_local, propagation),
        }
    }

    /// The same on a device that records gradients, to learn from.
    #[must_use]
    pub fn autodiff(self) -> Self {
        let GeneratorInput {
            frames,
            flows,
            masks,
            updated_masks,
            num_local,
        } = self.input;
        Self {
            frames: self.frames.autodiff(),
            input: GeneratorInput {
                frames: frames.autodiff(),
                flows: flows.autodiff(),
                masks: masks.autodiff(),
                updated_masks: updated_masks.autodiff(),
                num_local,
            },
        }
    }

    /// Takes what is `predicted` in the holes, and the true frames outside.
    pub fn completed_by(&self, predicted: Tensor<5>) -> Tensor<5> {
        let masks = &self.input.masks;
        let outside = inverse(masks.clone());
        predicted * masks.clone() + self.frames.clone() * outside
    }
}

/// The weighted terms.
#[derive(Clone, Debug)]
pub struct InpaintTerms {
    /// Distance in the hole.
    pub hole: Tensor<1>,
    /// Distance outside.
    pub valid: Tensor<1>,
    /// Scores, if there is a discriminator.
    pub adversarial: Option<Tensor<1>>,
}

impl InpaintTerms {
    /// The loss.
    pub fn total(self) -> Tensor<1> {
        let distance = self.hole + self.valid;
        match self.adversarial {
            None => distance,
            Some(adversarial) => distance + adversarial,
        }
    }
}

impl InpaintLoss {
    /// Compares completed frames with the true ones; a discriminator may have given `scores`.
    ///
    /// # Shapes
    /// - predicted, truth: `[batch_size, frames, 3, height, width]`
    /// - masks: `[batch_size, frames, 1, height, width]`, 1 in the hole
    ///
    /// # References
    /// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.5.
    pub fn terms(
        &self,
        predicted: &Tensor<5>,
        truth: &Tensor<5>,
        masks: &Tensor<5>,
        scores: Option<Tensor<5>>,
    ) -> InpaintTerms {
        let outside = inverse(masks.clone());
        InpaintTerms {
            hole: masked_l1(predicted, truth, masks).mul_scalar(self.hole),
            valid: masked_l1(predicted, truth, &outside).mul_scalar(self.valid),
            adversarial: scores
                .map(|scores| HingeLoss.generator(scores).mul_scalar(self.adversarial)),
        }
    }
}

/// The hinge loss of adversarial training.
///
/// # References
/// Lim and Ye 2017, "Geometric GAN", arXiv:1705.02894, eq. 6 and 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HingeLoss;

impl HingeLoss {
    /// What a generator makes small: how clearly its results are taken for fake.
    pub fn generator<const D: usize>(&self, scores: Tensor<D>) -> Tensor<1> {
        mean(scores).neg()
    }

    /// What a discriminator makes small: the mean of [`real`](Self::real) and
    /// [`fake`](Self::fake).
    pub fn discriminator<const D: usize>(&self, real: Tensor<D>, fake: Tensor<D>) -> Tensor<1> {
        (self.real(real) + self.fake(fake)).div_scalar(2.0)
    }

    /// What a discriminator makes small on real clips.
    pub fn real<const D: usize>(&self, scores: Tensor<D>) -> Tensor<1> {
        relu(full(scores).neg().add_scalar(1.0)).mean()
    }

    /// What a discriminator makes small on a generator's results.
    pub fn fake<const D: usize>(&self, scores: Tensor<D>) -> Tensor<1> {
        relu(full(scores).add_scalar(1.0)).mean()
    }
}
