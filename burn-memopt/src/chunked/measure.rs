//! What is measured of a model before it runs on windows: how far a pixel reaches, how exact tiles are,
//! and what a window costs in memory.

use std::fmt;

use burn::module::{Module, ModuleVisitor};
use burn::tensor::{Device, Distribution, Tensor};

use super::{ExactTiles, WindowCost, WindowPlace, Windows};
use crate::memory::{Bytes, PeakMeter};

/// Random images that the reach is measured on.
const NUM_IMAGES: usize = 3;
/// Layers whose result at a pixel depends on the whole image.
const GLOBAL_LAYERS: [&str; 3] = ["GroupNorm", "InstanceNorm", "MultiHeadAttention"];
/// Up to this share of the largest value, a difference is rounding.
const ROUNDING: f32 = 1e-6;

/// How far a pixel reaches through a model, measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Reach {
    halo: Option<usize>,
    stride: usize,
    farthest: f32,
}

impl Reach {
    /// Changes single pixels of random images and looks how far the output changes.
    ///
    /// The image must be more than twice as large as the reach to find its end, and a multiple of
    /// `stride`, which is how often the model halves its input: 16 for a U-Net of depth 4. Pixels
    /// at every place within a stride of the centre are tried along the diagonal. What a random image
    /// does not show, as an activation that is off everywhere, is not found: three are tried.
    ///
    /// # Shapes
    /// - shape: `[channels, height, width]`
    /// - model: `[1, channels, height, width]` to `[1, out_channels, height, width]`, or smaller by a divisor
    ///
    /// # Panics
    /// If a side is no multiple of `stride`, the output has neither the size of the image nor a divisor of it, or it does
    /// not change with the image, as that of a last layer of zeros, or is not finite.
    pub fn measure(
        shape: [usize; 3],
        stride: usize,
        device: &Device,
        mut model: impl FnMut(Tensor<4>) -> Tensor<4>,
    ) -> Self {
        let [channels, height, width] = shape;
        assert!(
            stride > 0 && height % stride == 0 && width % stride == 0,
            "the image must have sides that are multiples of {stride}, got {height}×{width}"
        );
        let mut reach = Self {
            halo: Some(0),
            stride,
            farthest: 0.0,
        };
        // Drawn before the model draws, which may be the same each time.
        let images = [(); NUM_IMAGES].map(|()| {
            let distribution = Distribution::Normal(0.0, 1.0);
            Tensor::<4>::random([1, channels, height, width], distribution, device)
        });
        let mut largest = 0.0_f32;
        for image in images {
            let plain = model(image.clone());
            for offset in 0..stride {
                let [row, column] = [height / 2 + offset, width / 2 + offset];
                let place = [0..1, 0..channels, row..row + 1, column..column + 1];
                let pixel = image.clone().slice(place.clone()) + 1.0;
                let changed = model(image.clone().slice_assign(place, pixel));
                let difference = (changed - plain.clone()).abs();
                largest = largest.max(reach.add(difference, [height, width], [row, column]));
            }
        }
        assert!(
            largest > 0.0,
            "the output must change with the image, or how far a pixel reaches cannot be measured, but no change of \
             a pixel changed it: a layer may be all zeros"
        );
        reach
    }

    /// Looks how far from `place` two outputs for images of this size differ. Returns the largest difference.
    fn add(&mut self, difference: Tensor<4>, size: [usize; 2], place: [usize; 2]) -> f32 {
        let [.., height, width] = difference.dims();
        assert!(
            size[0].is_multiple_of(height) && size[1].is_multiple_of(width),
            "the output must have the size of the image, or a divisor of it, got {height}×{width} for {}×{}",
            size[0],
            size[1]
        );
        let zoom = [size[0] / height, size[1] / width];
        // From a pixel of the image to the nearest of those that are one pixel of the output.
        let distance = |side: usize, at: usize| {
            let first = at * zoom[side];
            let nearest = place[side].clamp(first, first + zoom[side] - 1);
            nearest.abs_diff(place[side])
        };
        let difference = difference.into_data();
        let (mut farthest, mut at_border, mut largest) = (0, 0.0_f32, 0.0_f32);
        for (number, value) in difference.iter::<f32>().enumerate() {
            assert!(
                value.is_finite(),
                "the output must be finite, or how far a pixel reaches cannot be measured"
            );
            if value == 0.0 {
                continue;
            }
            let number = number % (height * width);
            let at = [number / width, number % width];
            largest = largest.max(value);
            farthest = farthest.max(distance(0, at[0]).max(distance(1, at[1])));
            if at[0] == 0 || at[1] == 0 || at[0] + 1 == height || at[1] + 1 == width {
                at_border = at_border.max(value);
            }
        }
        if at_border > 0.0 {
            self.halo = None;
            self.farthest = self.farthest.max(at_border / largest);
        }
        self.halo = self.halo.map(|halo| halo.max(farthest));
        largest
    }

    /// Pixels that a tile must read around what it keeps; `None` if a pixel reaches the border of the
    /// image, because the model sees all of it or the image is too small.
    pub fn halo(&self) -> Option<usize> {
        self.halo
    }

    /// Where tiles may start: at multiples of this many pixels.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The largest change at the border of the image when one pixel in its middle changes, in shares
    /// of the largest change anywhere; zero if there is a halo.
    pub fn farthest_change(&self) -> f32 {
        self.farthest
    }
}

/// Paths and types of the layers of a model whose result at a pixel depends on the whole image, so
/// that tiles cannot be exact: group and instance normalization, attention. Layers without parameters
/// are not seen.
///
/// # Example
/// ```
/// use burn::nn::GroupNormConfig;
/// use burn::tensor::Device;
/// use burn_memopt::chunked::global_layers;
///
/// let layers = vec![GroupNormConfig::new(2, 4).init(&Device::flex())];
/// assert_eq!(global_layers(&layers), ["0 (GroupNorm)"]);
/// ```
pub fn global_layers<M: Module>(model: &M) -> Vec<String> {
    let mut finder = Finder::default();
    model.visit(&mut finder);
    finder.found
}

#[derive(Default)]
struct Finder {
    path: Vec<String>,
    found: Vec<String>,
}

impl ModuleVisitor for Finder {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_owned());
        let kind = container_type.rsplit(':').next().unwrap_or_default();
        if GLOBAL_LAYERS.contains(&kind) {
            // The container is where its fields are entered.
            let path = self.path[..self.path.len() - 1].join(".");
            let layer = format!("{path} ({kind})");
            if !self.found.contains(&layer) {
                self.found.push(layer);
            }
        }
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}

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
/// let report = ExactReport::measure(&tiles, &model, image, |model, tiles| {
///     model[0].forward(tiles.pixels)
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
    /// If the image is one tile, which shows nothing, or the model or the device fails.
    pub fn measure<M: Module>(
        tiles: &ExactTiles,
        model: &M,
        image: Tensor<4>,
        mut forward: impl FnMut(&M, Windows) -> Tensor<4>,
    ) -> Self {
        let [_, _, height, width] = image.dims();
        let [core_height, core_width] = tiles.core();
        assert!(
            core_height < height || core_width < width,
            "the image must be larger than a tile of {core_height}×{core_width} pixels, got \
             {height}×{width}"
        );
        let place = WindowPlace {
            image: 0,
            row: 0,
            column: 0,
        };
        let whole = Windows {
            pixels: image.clone(),
            places: vec![place],
            image_size: [height, width],
        };
        let whole = forward(model, whole);
        let [tiled] = tiles.infer_many(image, |tiles| [forward(model, tiles)]);
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
        if self.deviation == 0.0 {
            0.0
        } else {
            self.deviation / self.largest
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
        if self.global_layers.is_empty() {
            return f.write_str(
                "the halo is too small, or an operation without parameters depends on the size of the \
                 image, as upsampling with aligned corners does",
            );
        }
        let layers = self.global_layers.join(", ");
        write!(f, "these layers see the whole image: {layers}")
    }
}

/// Measures what a window costs in memory by running a model on two small ones, each twice: what stays
/// for ever, like buffers of threads, is there after the first time.
///
/// `None` if the device does not report its memory: host devices do in a program that installs the
/// [`CountingAllocator`](crate::memory::CountingAllocator).
///
/// # Shapes
/// - shape: `[windows, channels]`, as many windows as will run at once
/// - sides: of the two windows, multiples of the model's stride, the larger last
///
/// # Exactness
/// As the [`PeakMeter`]: on a device with memory pools a lower bound; choose a smaller share in
/// [`WindowCost::largest`]. What grows faster than the pixels, as attention does, is underestimated.
///
/// # Panics
/// If the second side is not the larger.
///
/// # Example
/// ```
/// use burn::tensor::Device;
/// use burn_memopt::chunked::measure_window;
/// use burn_memopt::memory::{Bytes, CountingAllocator};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
///
/// # fn main() {
/// let cost = measure_window([1, 3], [64, 128], &Device::flex(), |window| window * 2.0);
/// let cost = cost.expect("the allocator is installed");
/// assert!(cost.bytes([256, 256]) >= Bytes::new(3 * 256 * 256 * 4));
/// let window = cost.largest(Bytes::mib(8), 0.8, [4000, 4000], 16);
/// assert!(window.is_some_and(|[height, width]| height == width && height > 200));
/// # }
/// ```
pub fn measure_window(
    shape: [usize; 2],
    sides: [usize; 2],
    device: &Device,
    mut model: impl FnMut(Tensor<4>) -> Tensor<4>,
) -> Option<WindowCost> {
    let mut peak = |side: usize| {
        let [windows, channels] = shape;
        let mut run = || {
            let pixels = Tensor::zeros([windows, channels, side, side], device);
            model(pixels).into_data()
        };
        run();
        let meter = PeakMeter::start(device);
        run();
        meter.finish().peak
    };
    let [small, large]: [Option<Bytes>; 2] = sides.map(&mut peak);
    let [pixels, more_pixels] = sides.map(|side| side * side);
    Some(WindowCost::through((pixels, small?), (more_pixels, large?)))
}
