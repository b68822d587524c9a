//! Whether a model can be cut into exact tiles, found out by running it.

use anyhow::{Result, bail};
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::chunked::{ExactReport, ExactTiles, Reach};
use burn_memopt::precision::Precision;

use super::model::Trained;

/// Shortest side of the images that the reach is measured on, in strides of the model.
const LEAST_STRIDES: usize = 16;
/// Times the image is enlarged until a pixel's reach ends inside it.
const NUM_ENLARGED: usize = 2;
/// Layers that an error names at most.
const NUM_NAMED: usize = 3;

/// The margin that exact tiles of a model need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margin {
    /// Pixels around what a tile keeps, a multiple of the stride.
    pub halo: usize,
    /// Where tiles may start.
    pub stride: usize,
}

impl Margin {
    /// Measures how far a pixel reaches, and whether tiles give what the whole image gives.
    ///
    /// # Errors
    /// If they do not: the error names the layers and the deviation.
    pub fn measure(model: &Trained, device: &Device) -> Result<Self> {
        let stride = model.stride();
        let mut side = (LEAST_STRIDES * stride).max(64);
        let mut reach = measure(model, side, device);
        for _ in 0..NUM_ENLARGED {
            if reach.halo().is_some() || model.sees_everything() {
                break;
            }
            side *= 2;
            reach = measure(model, side, device);
        }
        let halo = reach.halo().unwrap_or(side / 4).next_multiple_of(stride);
        let margin = Self { halo, stride };
        let report = margin.compare(model, device);
        let allowed = allowed_deviation(model.precision());
        if reach.halo().is_some() && report.relative() <= allowed {
            return Ok(margin);
        }
        bail!(
            "this model cannot be cut into exact tiles: with a margin of {halo} pixels, tiles deviate \
             from the whole image by {:.1e} of its largest value, and {allowed:.0e} would be rounding; \
             {}. Leave out --exact to blend overlapping windows, or train with --norm batch",
            report.relative(),
            named(&report.global_layers),
        );
    }

    /// Compares tiles with the whole of a random image.
    fn compare(self, model: &Trained, device: &Device) -> ExactReport {
        let core = (2 * self.halo).max(4 * self.stride);
        let shape = [1, model.channels, 2 * core, 2 * core + self.stride / 2];
        let image = Tensor::<4>::random(shape, Distribution::Default, device);
        let tiles = ExactTiles::with_halo([core; 2], self.halo, self.stride);
        ExactReport::measure(&tiles, model.network(), image, |_, tiles| {
            model.run_tiles(tiles)
        })
    }
}

fn measure(model: &Trained, side: usize, device: &Device) -> Reach {
    let shape = [model.channels, side, side];
    Reach::measure(shape, model.stride(), device, |image| model.run(image))
}

/// What makes tiles differ, as far as it is known; of many layers the first.
fn named(layers: &[String]) -> String {
    match layers {
        [] => "no layer is known to see the whole image".into(),
        [layer] => format!("{layer} sees the whole image"),
        [before @ .., last] if layers.len() <= NUM_NAMED => {
            format!("{} and {last} see the whole image", before.join(", "))
        }
        _ => format!(
            "{} and {} other layers see the whole image",
            layers[..NUM_NAMED].join(", "),
            layers.len() - NUM_NAMED
        ),
    }
}

/// What rounding alone may amount to: kernels add up in another order on another size.
fn allowed_deviation(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => 1e-5,
        Precision::F16 => 1e-2,
        Precision::Bf16 => 5e-2,
    }
}
