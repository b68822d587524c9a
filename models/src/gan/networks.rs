use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor};
use burn_memopt::train::frozen;

use super::ccsr::Ccsr;
use super::discriminator::PatchDiscriminator;
use super::field::{Codes, RadianceField};

/// How far codes of fields with classes are from 1.
const CODE_DEVIATION: f64 = 0.5;

/// A field, and what makes its renders consistent while it learns.
#[derive(Module, Debug)]
pub struct Generator {
    /// The field that is rendered.
    pub field: RadianceField,
    /// Its super-resolution, where it has one.
    pub ccsr: Option<Ccsr>,
}

impl Generator {
    /// Random codes for a batch: normal, and where there are classes, around 1 with a deviation of 0.5.
    pub fn codes(
        &self,
        batch_size: usize,
        classes: Option<Tensor<1, Int>>,
        device: &Device,
    ) -> Codes {
        let normal =
            |len| Tensor::random([batch_size, len], Distribution::Normal(0.0, 1.0), device);
        let config = self.field.config();
        // The code is multiplied by the embedding of its class: around 0, the product would say little of it.
        let shape = match config.num_classes {
            None => normal(config.shape_code),
            Some(_) => normal(config.shape_code)
                .mul_scalar(CODE_DEVIATION)
                .add_scalar(1.0),
        };
        Codes {
            shape,
            appearance: (config.appearance_code > 0).then(|| normal(config.appearance_code)),
            classes: classes.filter(|_| config.num_classes.is_some()),
        }
    }
}

/// The networks of a GAN.
#[derive(Module, Debug)]
pub struct Networks {
    /// Renders images.
    pub generator: Generator,
    /// The moving average of the generator, which is used after training.
    pub average: Generator,
    /// Distinguishes them from real ones.
    pub discriminator: PatchDiscriminator,
}

impl Networks {
    /// Puts networks together; the average begins as the generator.
    pub fn new(generator: Generator, discriminator: PatchDiscriminator) -> Self {
        let average = frozen(&generator);
        Self {
            generator,
            average,
            discriminator,
        }
    }
}

/// What an image shows, and from where.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewLabel {
    /// The class, from 0.
    pub class: usize,
    /// Degrees.
    pub azimuth: f64,
    /// 1 for the south pole of the sphere of cameras, 0 for the north pole; see [`Camera::pose`](super::Camera::pose).
    pub height: f64,
}

/// Real images, with their labels where there are any.
#[derive(Clone, Debug)]
pub struct GanBatch {
    /// `[batch_size, 3, height, width]`, in [-1, 1].
    pub images: Tensor<4>,
    /// One an image.
    pub labels: Option<Vec<ViewLabel>>,
}
