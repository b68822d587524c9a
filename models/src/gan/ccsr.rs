use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{Initializer, PaddingConfig2d, PixelShuffle, PixelShuffleConfig};
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, FloatDType, Int, Tensor};
use burn_memopt::nn::{canonical_strides, conv2d, leaky_relu};
use burn_memopt::precision::ops::full;

use crate::layers::resize;
use crate::weights::StateDict;

/// Channels of the network.
const WIDTH: usize = 64;
/// Sides of the result, in sides of the render.
const SCALE: usize = 4;
const SLOPE: f64 = 0.2;
/// Share of what is inconsistent that a step takes away.
const STEP: f64 = 0.5;
/// The loss falls by this share a call.
const DECAY: f64 = 1e-4;

/// Settings of a [`Ccsr`].
#[derive(Config, Debug, PartialEq)]
pub struct CcsrConfig {
    /// Pixels a side of a render, a multiple of 4. The default is `64`.
    #[config(default = 64)]
    pub patch_size: usize,
    /// Directions with a code of their own. The default is `8`.
    #[config(default = 8)]
    pub num_views: usize,
}

impl CcsrConfig {
    /// Builds the network on `device`.
    ///
    /// # Panics
    /// If the patch size is zero or no multiple of 4, or there are no views.
    pub fn init(&self, device: &Device) -> Ccsr {
        let size = self.patch_size;
        assert!(
            size > 0 && size.is_multiple_of(SCALE),
            "super-resolution needs patches of a multiple of {SCALE} pixels a side, got {size}"
        );
        assert!(self.num_views > 0, "super-resolution needs a view, got 0");
        let conv = |inputs, outputs| {
            let config = burn::nn::conv::Conv2dConfig::new([inputs, outputs], [3, 3]);
            config
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 0.01,
        };
        Ccsr {
            cclc: LatentCodes {
                latent_codes: normal.init([self.num_views, 3, size, size], device),
            },
            sr_network: vec![
                conv(6, WIDTH),
                conv(WIDTH, WIDTH),
                conv(WIDTH, WIDTH),
                conv(WIDTH, 3 * SCALE * SCALE),
            ],
            shuffle: PixelShuffleConfig::new(SCALE).init(),
        }
    }
}

/// Consistency-controlling super-resolution: renders four times as large, with a code of the view, that agree with
/// the render they come from.
///
/// Its loss compares what comes out, reduced again, with the render. Gradients reach the network, the codes, and
/// through the reduced render the field.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::gan::CcsrConfig;
///
/// let device = Device::flex();
/// let ccsr = CcsrConfig::new().with_patch_size(16).init(&device);
/// let views = ccsr.views(&[10.0], &device);
/// let refined = ccsr.forward(Tensor::zeros([1, 3, 4, 4], &device), views);
/// assert_eq!(refined.dims(), [1, 3, 64, 64]);
/// ```
#[derive(Module, Debug)]
pub struct Ccsr {
    /// A code a view.
    pub cclc: LatentCodes,
    /// The convolutions.
    pub sr_network: Vec<Conv2d>,
    shuffle: PixelShuffle,
}

/// Codes of views.
#[derive(Module, Debug)]
pub struct LatentCodes {
    /// `[views, 3, patch_size, patch_size]`.
    pub latent_codes: Param<Tensor<4>>,
}

impl Ccsr {
    /// The views of azimuths in degrees.
    pub fn views(&self, azimuths: &[f64], device: &Device) -> Tensor<1, Int> {
        let num_views = self.cclc.latent_codes.dims()[0];
        let view = |azimuth: &f64| (azimuth.rem_euclid(360.0) * num_views as f64 / 360.0) as i32;
        let views: Vec<i32> = azimuths.iter().map(view).collect();
        Tensor::from_data(&views[..], device)
    }

    /// Enlarges renders that were reduced to a quarter of their sides.
    ///
    /// # Shapes
    /// - low_resolution: `[batch_size, 3, patch_size / 4, patch_size / 4]`, in [-1, 1]
    /// - views: `[batch_size]`
    /// - output: `[batch_size, 3, 4 * patch_size, 4 * patch_size]`
    pub fn forward(&self, low_resolution: Tensor<4>, views: Tensor<1, Int>) -> Tensor<4> {
        let enlarged = self.super_resolved(low_resolution.clone(), views);
        consistent(enlarged, low_resolution)
    }

    /// What the network makes, before the step that makes it consistent. Shapes as [`forward`](Self::forward).
    pub fn super_resolved(&self, low_resolution: Tensor<4>, views: Tensor<1, Int>) -> Tensor<4> {
        let codes = self.cclc.latent_codes.val().select(0, views);
        let [_, _, height, width] = codes.dims();
        let render =
            resize(full(low_resolution), [height, width]).cast(FloatDType::from(codes.dtype()));
        let x = Tensor::cat(vec![render, codes], 1);
        let (last, before) = self
            .sr_network
            .split_last()
            .expect("invariant: there are layers");
        let x = before
            .iter()
            .fold(x, |x, conv| leaky_relu(conv2d(conv, x), SLOPE));
        let x = full(self.shuffle.forward(conv2d(last, x)));
        leaky_relu(x, SLOPE).clamp(-1.0, 1.0)
    }

    /// How far what is made of `render` is from it, after `calls` calls: it counts less and less.
    ///
    /// # Shapes
    /// - render: `[batch_size, 3, patch_size, patch_size]`, in [-1, 1]
    /// - views: `[batch_size]`
    pub fn loss(&self, render: Tensor<4>, views: Tensor<1, Int>, calls: usize) -> Tensor<1> {
        let [_, _, height, width] = render.dims();
        let low_resolution = resize(render.clone(), [height / SCALE, width / SCALE]);
        let refined = self.forward(low_resolution, views);
        Self::loss_of(self.reduced(refined), render, calls)
    }

    /// What [`forward`](Self::forward) returns, at the size of a render.
    pub fn reduced(&self, refined: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = self.cclc.latent_codes.dims();
        resize(refined, [height, width])
    }

    /// The [`loss`](Self::loss) of a refined render, [`reduced`](Self::reduced).
    pub fn loss_of(resized: Tensor<4>, render: Tensor<4>, calls: usize) -> Tensor<1> {
        let weight = (-DECAY * calls as f64).exp();
        (full(resized) - full(render).detach())
            .square()
            .mean()
            .mul_scalar(weight)
    }
}

/// Moves an image towards one that is `low_resolution` once it is blurred and reduced.
fn consistent(image: Tensor<4>, low_resolution: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = image.dims();
    let [_, _, low_height, low_width] = low_resolution.dims();
    // Beyond the border there are zeros, which count.
    let blurred = canonical_strides(avg_pool2d(
        image.clone(),
        AvgPoolOptions::new([3, 3])
            .with_stride([1, 1])
            .with_padding([1, 1]),
    ));
    let residual = low_resolution - resize(blurred, [low_height, low_width]);
    image + resize(residual, [height, width]).mul_scalar(STEP)
}

/// The names are those of the published network.
impl StateDict for Ccsr {
    fn state_dict_name(path: &str) -> String {
        let parts: Vec<&str> = path.split('.').collect();
        match parts[..] {
            // Activations between the layers count.
            ["sr_network", number, parameter] => {
                let number = number.parse::<usize>().map_or(0, |number| 2 * number);
                format!("sr_network.{number}.{parameter}")
            }
            _ => path.to_owned(),
        }
    }
}
