//! A conditional GAN on radiance fields: GRAF, and super-resolution that keeps renders consistent.
//!
//! | piece | does |
//! |---|---|
//! | [`RadianceField`] | colour and density at any point, for a code and a class |
//! | [`Camera`], [`Patch`] | the rays of patches of any scale |
//! | [`Renderer`] | colours of rays, in recomputed chunks that bound the memory |
//! | [`PatchDiscriminator`] | real or rendered, and which class |
//! | [`Ccsr`] | consistency-controlling super-resolution |
//! | [`GanStep`] | trains all of them, one optimizer step each |
//!
//! # Example
//! An image of a random object:
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_memopt_models::gan::{Camera, Codes, Patch, RadianceFieldConfig, Renderer};
//!
//! let device = Device::flex();
//! let field = RadianceFieldConfig::conditional(4).with_depth(2).with_width(16).init(&device);
//! let camera = Camera::new([16, 16]);
//! let rays = camera.rays(&[camera.pose(0.1, 0.4)], &[Patch::whole(16)], &device);
//! let codes = Codes {
//!     shape: Tensor::random([1, 256], Distribution::Normal(0.0, 1.0), &device),
//!     appearance: None,
//!     classes: Some(Tensor::from_ints([2], &device)),
//! };
//! let image = Renderer::new().with_samples(8).render(&field, rays, codes, None).image();
//! assert_eq!(image.dims(), [1, 3, 16, 16]);
//! ```

mod camera;
mod ccsr;
mod discriminator;
mod field;
mod importance;
mod networks;
mod render;
mod step;

pub use camera::{Camera, Patch, Pose, Rays};
pub use ccsr::{Ccsr, CcsrConfig};
pub use discriminator::{Layer, PatchDiscriminator, PatchDiscriminatorConfig, Scores};
pub use field::{Codes, RadianceField, RadianceFieldConfig, encode};
pub use networks::{GanBatch, Generator, Networks, ViewLabel};
pub use render::{Jitter, Rendered, Renderer};
pub use step::{GanConfig, GanStep, class_loss, sample_patches, score_loss};
