use burn::module::{Module, ModuleVisitor};
use burn::tensor::{Device, Distribution, Tensor};

/// Random images that the reach is measured on.
const NUM_IMAGES: usize = 3;
/// Layers whose result at a pixel depends on the whole image.
const GLOBAL_LAYERS: [&str; 3] = ["GroupNorm", "InstanceNorm", "MultiHeadAttention"];

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
    /// - model: `[1, channels, height, width]` to `[1, out_channels, height, width]`
    ///
    /// # Panics
    /// If a side is no multiple of `stride`, or the output has another size.
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
        for _ in 0..NUM_IMAGES {
            let distribution = Distribution::Normal(0.0, 1.0);
            let image = Tensor::<4>::random([1, channels, height, width], distribution, device);
            let plain = model(image.clone());
            for offset in 0..stride {
                let [row, column] = [height / 2 + offset, width / 2 + offset];
                let place = [0..1, 0..channels, row..row + 1, column..column + 1];
                let pixel = image.clone().slice(place.clone()) + 1.0;
                let changed = model(image.clone().slice_assign(place, pixel));
                reach.add(plain.clone(), changed, [row, column]);
            }
        }
        reach
    }

    /// Looks how far from `place` two outputs differ.
    fn add(&mut self, plain: Tensor<4>, changed: Tensor<4>, place: [usize; 2]) {
        let [.., height, width] = plain.dims();
        let difference = (changed - plain).abs();
        let largest: f32 = difference.clone().max().into_scalar();
        let difference = difference.into_data();
        let values = difference.iter::<f32>();
        let (mut farthest, mut at_border) = (0, 0.0_f32);
        for (number, value) in values.enumerate().filter(|(_, value)| *value != 0.0) {
            let number = number % (height * width);
            let at = [number / width, number % width];
            farthest = farthest.max(at[0].abs_diff(place[0]).max(at[1].abs_diff(place[1])));
            if at[0] == 0 || at[1] == 0 || at[0] + 1 == height || at[1] + 1 == width {
                at_border = at_border.max(value);
            }
        }
        if at_border > 0.0 {
            self.halo = None;
            self.farthest = self.farthest.max(at_border / largest);
        }
        self.halo = self.halo.map(|halo| halo.max(farthest));
    }

    /// Pixels that a tile must read around what it keeps; `None` if a pixel reaches the border of the
    /// image, because the model sees all of it or the image is too small to tell.
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
