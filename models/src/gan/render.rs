use burn::config::Config;
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_memopt::grad_checkpoint::Segment;
use burn_memopt::impl_tensors;
use burn_memopt::memory::Bytes;

use super::camera::Rays;
use super::field::{Codes, RadianceField, RadianceFieldConfig};
use super::importance::importance;

/// The length of the last interval of a ray: as good as infinite.
const BEYOND: f64 = 1e10;
/// What keeps logarithms and quotients finite.
const TINY: f64 = 1e-10;
/// Tensors of a layer's width that one point holds in the backward pass, besides one a layer.
const BETWEEN_LAYERS: usize = 6;

/// How rays become colours.
///
/// # References
/// Mildenhall et al. 2020, "NeRF", arXiv:2003.08934, equations 2 and 3.
#[derive(Config, Debug, PartialEq)]
pub struct Renderer {
    /// Distance of the first point of a ray. The default is `1.5`.
    #[config(default = 1.5)]
    pub near: f64,
    /// Distance of the last one. The default is `4.5`.
    #[config(default = 4.5)]
    pub far: f64,
    /// Points of a ray. The default is `64`.
    #[config(default = 64)]
    pub samples: usize,
    /// Further points, where those before them say that there is something; the colours are then of all points
    /// together. The default is `0`.
    #[config(default = 0)]
    pub fine_samples: usize,
    /// Whether what nothing is in front of is white; else it is black. The default is `true`.
    #[config(default = true)]
    pub white_background: bool,
    /// Rays that are rendered, and in the backward pass recomputed, at a time, over all images of a batch; `None`
    /// keeps the activations of all. The default is none.
    pub ray_chunk: Option<usize>,
}

/// What rays show.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// Colours in [-1, 1]: `[batch_size, rays, 3]`.
    pub colours: Tensor<3>,
    /// One over the distance: `[batch_size, rays]`.
    pub disparity: Tensor<2>,
    /// How much of the background is hidden, from 0 to 1: `[batch_size, rays]`.
    pub opacity: Tensor<2>,
}

impl_tensors!(Rendered { ; uncast colours, disparity, opacity });

impl Rendered {
    /// The colours of square patches as images: `[batch_size, 3, side, side]`.
    ///
    /// # Panics
    /// If the number of rays is no square.
    pub fn image(self) -> Tensor<4> {
        let [batch_size, rays, _] = self.colours.dims();
        let side = rays.isqrt();
        assert_eq!(
            side * side,
            rays,
            "a square patch has a square number of rays"
        );
        self.colours
            .swap_dims(1, 2)
            .reshape([batch_size, 3, side, side])
    }
}

/// What makes points and densities random while a generator learns.
#[derive(Clone, Debug)]
pub struct Jitter {
    /// Where in its interval each point is, from 0 to 1: `[batch_size, rays, samples]`.
    pub places: Tensor<3>,
    /// Added to the density: `[batch_size, rays, samples]`.
    pub noise: Tensor<3>,
}

impl_tensors!(Jitter { ; uncast places, noise });

impl Jitter {
    /// Draws places evenly, and noise of a standard deviation.
    pub fn random(shape: [usize; 3], noise: f64, device: &Device) -> Self {
        let places = Tensor::random(shape, Distribution::Default, device);
        let normal = Tensor::random(shape, Distribution::Normal(0.0, 1.0), device);
        Self {
            places,
            noise: normal.mul_scalar(noise),
        }
    }

    /// The standard deviation of the noise at an iteration: from 1, it is 0 after 5000.
    pub fn noise_at(iteration: usize) -> f64 {
        (1.0 - iteration as f64 / 5000.0).max(0.0)
    }

    fn narrow(&self, start: usize, len: usize) -> Self {
        let part = |x: &Tensor<3>| x.clone().narrow(1, start, len);
        Self {
            places: part(&self.places),
            noise: part(&self.noise),
        }
    }
}

impl Renderer {
    /// Renders rays.
    ///
    /// With a [`ray_chunk`](Self::ray_chunk), rays are rendered in parts. On an autodiff device each part is a
    /// checkpointed segment: the backward pass holds the activations of one part, however many rays there are.
    ///
    /// # Exactness
    /// Rays do not see each other, and jitter is drawn beforehand: parts give the colours of the whole, up to the
    /// rounding of matrix products of other sizes.
    ///
    /// # Panics
    /// If there are fewer than two samples, or a chunk of zero rays.
    ///
    /// # Example
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use burn_memopt_models::gan::{Camera, Codes, Patch, RadianceFieldConfig, Renderer};
    ///
    /// let device = Device::flex();
    /// let config = RadianceFieldConfig::new().with_depth(2).with_width(16).with_appearance_code(0);
    /// let field = config.init(&device);
    /// let camera = Camera::new([16, 16]);
    /// let rays = camera.rays(&[camera.pose(0.25, 0.4)], &[Patch::whole(16)], &device);
    /// let codes = Codes { shape: Tensor::ones([1, 128], &device), appearance: None, classes: None };
    /// let renderer = Renderer::new().with_samples(8).with_ray_chunk(Some(64));
    /// assert_eq!(renderer.render(&field, rays, codes, None).colours.dims(), [1, 256, 3]);
    /// ```
    pub fn render(
        &self,
        field: &RadianceField,
        rays: Rays,
        codes: Codes,
        jitter: Option<Jitter>,
    ) -> Rendered {
        assert!(
            self.fine_samples == 0 || self.samples >= 3,
            "a fine pass needs 3 samples or more before it, got {}",
            self.samples
        );
        assert!(
            self.samples >= 2,
            "a ray needs 2 samples or more, got {}",
            self.samples
        );
        let (batch_size, len) = (rays.origins.dims()[0], rays.len());
        let Some(chunk) = self.ray_chunk else {
            return self.render_at_once(field, (rays, codes, jitter));
        };
        assert!(chunk > 0, "a chunk must hold at least one ray, got 0");
        let of_image = (chunk / batch_size).max(1);
        let parts = (0..len).step_by(of_image).map(|start| {
            let part = of_image.min(len - start);
            let jitter = jitter.as_ref().map(|jitter| jitter.narrow(start, part));
            let input = (rays.narrow(start, part), codes.clone(), jitter);
            let renderer = self.clone();
            let segment = Segment::new().without_randomness();
            segment.run(field, input, move |field: &RadianceField, input| {
                renderer.render_at_once(field, input)
            })
        });
        let parts: Vec<Rendered> = parts.collect();
        let joined =
            |part: fn(&Rendered) -> Tensor<2>| Tensor::cat(parts.iter().map(part).collect(), 1);
        Rendered {
            disparity: joined(|part| part.disparity.clone()),
            opacity: joined(|part| part.opacity.clone()),
            colours: Tensor::cat(parts.into_iter().map(|part| part.colours).collect(), 1),
        }
    }

    /// The largest chunk of rays whose activations and gradients fit into `bytes`; at least one ray.
    pub fn rays_within(&self, field: &RadianceFieldConfig, bytes: Bytes) -> usize {
        let fine = if self.fine_samples > 0 {
            self.samples + self.fine_samples
        } else {
            0
        };
        let point = (field.depth + BETWEEN_LAYERS) * field.width * size_of::<f32>();
        let ray = (point * (self.samples + fine)) as u64;
        usize::try_from(bytes.get() / ray)
            .unwrap_or(usize::MAX)
            .max(1)
    }

    fn render_at_once(
        &self,
        field: &RadianceField,
        (rays, codes, jitter): (Rays, Codes, Option<Jitter>),
    ) -> Rendered {
        let Rays {
            origins,
            directions,
        } = rays;
        let [batch_size, len, _] = origins.dims();
        let (places, noise) = jitter.map(|jitter| (jitter.places, jitter.noise)).unzip();
        let depths = self.depths([batch_size, len], places, &origins.device());
        let length = directions.clone().square().sum_dim(2).sqrt();
        let unit = directions.clone() / length.clone();
        let raw = |depths: &Tensor<3>| {
            let points = origins.clone().unsqueeze_dim::<4>(2)
                + directions.clone().unsqueeze_dim::<4>(2) * depths.clone().unsqueeze_dim::<4>(3);
            field.forward(points, unit.clone(), codes.clone())
        };
        let coarse = self.integrate(raw(&depths), depths.clone(), length.clone(), noise);
        if self.fine_samples == 0 {
            return coarse.rendered;
        }
        let fine = importance(&depths, coarse.weights.detach(), self.fine_samples);
        let depths = Tensor::cat(vec![depths, fine], 2).sort(2);
        self.integrate(raw(&depths), depths, length, None).rendered
    }

    /// Distances of the points of each ray: `[batch_size, rays, samples]`.
    fn depths(
        &self,
        [batch_size, rays]: [usize; 2],
        places: Option<Tensor<3>>,
        device: &Device,
    ) -> Tensor<3> {
        let samples = self.samples;
        let depth = |number: usize| {
            self.near + (self.far - self.near) * number as f64 / (samples - 1) as f64
        };
        let row = |at: &dyn Fn(usize) -> f64| {
            let values: Vec<f32> = (0..samples).map(|number| at(number) as f32).collect();
            Tensor::<3>::from_data(TensorData::new(values, [1, 1, samples]), device)
        };
        let Some(places) = places else {
            return row(&depth).expand([batch_size, rays, samples]);
        };
        let middle = |number: usize| f64::midpoint(depth(number), depth(number + 1));
        let from = |number: usize| {
            if number == 0 {
                depth(0)
            } else {
                middle(number - 1)
            }
        };
        let to = |number: usize| {
            if number + 1 == samples {
                depth(number)
            } else {
                middle(number)
            }
        };
        row(&from) + row(&|number| to(number) - from(number)) * places
    }

    /// Sums the colours of points, weighted by what reaches the camera of each.
    fn integrate(
        &self,
        raw: Tensor<4>,
        depths: Tensor<3>,
        length: Tensor<3>,
        noise: Option<Tensor<3>>,
    ) -> Integrated {
        let [batch_size, rays, samples, _] = raw.dims();
        let device = raw.device();
        let apart =
            depths.clone().narrow(2, 1, samples - 1) - depths.clone().narrow(2, 0, samples - 1);
        let last = Tensor::full([batch_size, rays, 1], BEYOND, &device);
        let apart = Tensor::cat(vec![apart, last], 2) * length;
        let density = raw.clone().narrow(3, 3, 1).squeeze_dim::<3>(3);
        let density = match noise {
            Some(noise) => density + noise,
            None => density,
        };
        let passed = (relu(density) * apart).neg().exp();
        // What passes all points before: a product, as a sum of logarithms by one matrix product.
        let before = Tensor::<2>::ones([samples, samples], &device).triu(1);
        let passed_before = passed
            .clone()
            .add_scalar(TINY)
            .log()
            .matmul(before.unsqueeze())
            .exp();
        let weights = passed.neg().add_scalar(1.0) * passed_before;
        let opacity = weights.clone().sum_dim(2);
        let colours = sigmoid(raw.narrow(3, 0, 3)) * weights.clone().unsqueeze_dim::<4>(3);
        let mut colours = colours.sum_dim(2).squeeze_dim::<3>(2);
        if self.white_background {
            colours = colours + opacity.clone().neg().add_scalar(1.0);
        }
        let depth = (weights.clone() * depths).sum_dim(2);
        let distance = depth / opacity.clone().add_scalar(TINY);
        let rendered = Rendered {
            colours: colours.mul_scalar(2.0).sub_scalar(1.0),
            disparity: distance.clamp_min(TINY).recip().squeeze_dim(2),
            opacity: opacity.squeeze_dim(2),
        };
        Integrated { rendered, weights }
    }
}

/// What rays show, and how much each point adds to it: `[batch_size, rays, samples]`.
struct Integrated {
    rendered: Rendered,
    weights: Tensor<3>,
}
