use std::fmt;

use burn::module::Module;
use burn::tensor::Tensor;

use super::{ExactTiles, PlacedTile, global_layers};

/// Up to this share of the largest value, a difference is rounding.
const ROUNDING: f32 = 1e-6;

/// How far tiles are from the whole image, measured.
///
/// # Example
/// ```
/// use burn::nn::GroupNormConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt::chunked::{ExactReport, ExactTiles};
///
/// let device = Device::flex();
/// let norm = GroupNormConfig::new(2, 4).init(&device);
/// let image = Tensor::<4>::random([1, 4, 64, 64], Distribution::Default, &device);
/// let tiles = ExactTiles::with_halo([32, 32], 8, 1);
/// let model = vec![norm];
/// let report = ExactReport::measure(&tiles, &model, image, |model, tile| {
///     model[0].forward(tile.pixels)
/// });
/// assert!(!report.is_exact());
/// assert_eq!(report.global_layers, ["0 (GroupNorm)"]);
/// assert!(report.to_string().contains("0 (GroupNorm)"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ExactReport {
    /// Pixels that tiles read around what they keep.
    pub halo: usize,
    /// The largest difference between a pixel of the tiles' result and of the whole image's.
    pub deviation: f32,
    /// The largest value of the whole image's result, without sign.
    pub largest: f32,
    /// Layers whose result at a pixel depends on the whole image, as by [`global_layers`].
    pub global_layers: Vec<String>,
}

impl ExactReport {
    /// Runs a model on a whole image and on tiles of it.
    ///
    /// # Shapes
    /// - image: `[1, channels, height, width]`, one that the model can run on at once
    ///
    /// # Panics
    /// If the image is one tile, which tells nothing, or the model or the device fails.
    pub fn measure<M: Module>(
        tiles: &ExactTiles,
        model: &M,
        image: Tensor<4>,
        mut forward: impl FnMut(&M, PlacedTile) -> Tensor<4>,
    ) -> Self {
        let [_, _, height, width] = image.dims();
        let [core_height, core_width] = tiles.core();
        assert!(
            core_height < height || core_width < width,
            "the image must be larger than a tile of {core_height}×{core_width} pixels, got \
             {height}×{width}"
        );
        let whole = PlacedTile {
            pixels: image.clone(),
            start: [0, 0],
            image: [height, width],
        };
        let whole = forward(model, whole);
        let tiled = tiles.infer_placed(image, |tile| forward(model, tile));
        let off = (tiled.to_device(&whole.device()) - whole.clone()).abs();
        Self {
            halo: tiles.halo(),
            deviation: off.max().into_scalar(),
            largest: whole.abs().max().into_scalar(),
            global_layers: global_layers(model),
        }
    }

    /// The deviation as a share of the largest value.
    pub fn relative(&self) -> f32 {
        match self.deviation {
            0.0 => 0.0,
            deviation => deviation / self.largest,
        }
    }

    /// Whether tiles equal the whole image to rounding: to a millionth of the largest value.
    pub fn is_exact(&self) -> bool {
        self.relative() <= ROUNDING
    }
}

impl fmt::Display for ExactReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (halo, relative) = (self.halo, self.relative());
        if self.is_exact() {
            return write!(
                f,
                "tiles with a halo of {halo} pixels equal the whole image: off by {relative:.1e} of the \
                 largest value"
            );
        }
        write!(
            f,
            "tiles with a halo of {halo} pixels are off by {relative:.1e} of the largest value: "
        )?;
        match self.global_layers.is_empty() {
            true => f.write_str(
                "the halo is too small, or an operation without parameters depends on the size of the \
                 image, as upsampling with aligned corners does",
            ),
            false => write!(
                f,
                "these layers see the whole image: {}",
                self.global_layers.join(", ")
            ),
        }
    }
}
