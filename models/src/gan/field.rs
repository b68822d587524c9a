use std::ops::Range;

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, FloatDType, Int, Tensor};
use burn_memopt::impl_tensors;
use burn_memopt::nn::relu;
use burn_memopt::precision::ops::full;

use crate::layers::layer_norm;
use crate::projection::Projection;
use crate::weights::{StateDict, parameter_name};

/// Settings of a [`RadianceField`]. The defaults are GRAF's.
#[derive(Config, Debug, PartialEq)]
pub struct RadianceFieldConfig {
    /// Layers that see the position. The default is `8`.
    #[config(default = 8)]
    pub depth: usize,
    /// Values between layers; the layer that sees the direction has half of them. The default is `256`.
    #[config(default = 256)]
    pub width: usize,
    /// Values of a shape code. The default is `128`.
    #[config(default = 128)]
    pub shape_code: usize,
    /// Values of an appearance code. The default is `128`; `0` for none.
    #[config(default = 128)]
    pub appearance_code: usize,
    /// Classes whose embedding multiplies the shape code. The default is none.
    pub num_classes: Option<usize>,
    /// Frequencies that positions are encoded with. The default is `10`.
    #[config(default = 10)]
    pub position_frequencies: usize,
    /// Frequencies that directions are encoded with. The default is `4`.
    #[config(default = 4)]
    pub direction_frequencies: usize,
}

impl RadianceFieldConfig {
    /// The field of the conditional variant: a shape code of 256 values, multiplied by the embedding of the
    /// class, and no appearance code.
    pub fn conditional(num_classes: usize) -> Self {
        Self::new()
            .with_shape_code(256)
            .with_appearance_code(0)
            .with_num_classes(Some(num_classes))
    }

    /// Builds the network on `device`.
    ///
    /// # Panics
    /// If depth is below 2, width is odd or zero, the shape code is empty or there are no classes to embed.
    pub fn init(&self, device: &Device) -> RadianceField {
        let Self { depth, width, .. } = *self;
        assert!(
            depth >= 2,
            "a radiance field needs 2 layers or more, got {depth}"
        );
        assert!(
            width > 0 && width.is_multiple_of(2),
            "the width of a radiance field must be even and above 0, got {width}"
        );
        assert!(self.shape_code > 0, "a radiance field needs a shape code");
        assert!(
            self.num_classes != Some(0),
            "a class is needed to embed, got 0"
        );
        let [position, direction] =
            [self.position_frequencies, self.direction_frequencies].map(encoded_len);
        let input = position + self.shape_code;
        let skip = depth / 2;
        let inputs = |layer: usize| match layer {
            0 => input,
            _ if layer == skip + 1 => width + input,
            _ => width,
        };
        let linear = |inputs: usize, outputs: usize| Projection::new([inputs, outputs], device);
        let condition_embedding = self.num_classes.map(|num_classes| ConditionEmbedding {
            embedding: EmbeddingConfig::new(num_classes, self.shape_code).init(device),
            norm: LayerNormConfig::new(self.shape_code).init(device),
        });
        RadianceField {
            pts_linears: (0..depth)
                .map(|layer| linear(inputs(layer), width))
                .collect(),
            views_linears: vec![linear(width + direction + self.appearance_code, width / 2)],
            condition_embedding,
            feature_linear: linear(width, width),
            alpha_linear: linear(width, 1),
            rgb_linear: linear(width / 2, 3),
            config: self.clone(),
        }
    }
}

/// A scene for every code: colour and density at any point, seen from any direction.
///
/// What is the same for all points of an image or of a ray is multiplied once, not once a point: the
/// codes' and the direction's parts of a layer are added to that of the points.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::gan::{Codes, RadianceFieldConfig};
///
/// let device = Device::flex();
/// let field = RadianceFieldConfig::new().with_depth(2).with_width(16).init(&device);
/// let codes = Codes {
///     shape: Tensor::ones([1, 128], &device),
///     appearance: Some(Tensor::ones([1, 128], &device)),
///     classes: None,
/// };
/// // Two rays with five points each.
/// let points = Tensor::zeros([1, 2, 5, 3], &device);
/// let directions = Tensor::ones([1, 2, 3], &device);
/// assert_eq!(field.forward(points, directions, codes).dims(), [1, 2, 5, 4]);
/// ```
///
/// # References
/// Schwarz et al. 2020, "GRAF", arXiv:2007.02442, section 3.2.1; Mildenhall et al. 2020, "NeRF",
/// arXiv:2003.08934, section 5.1 (encoding) and figure 7 (layers).
#[derive(Module, Debug)]
pub struct RadianceField {
    /// The layers that see the position and the shape code.
    pub pts_linears: Vec<Projection>,
    /// The layer that sees the direction and the appearance code.
    pub views_linears: Vec<Projection>,
    /// What a class makes of the shape code.
    pub condition_embedding: Option<ConditionEmbedding>,
    /// To what the direction is added to.
    pub feature_linear: Projection,
    /// To the density.
    pub alpha_linear: Projection,
    /// To the colour.
    pub rgb_linear: Projection,
    #[module(skip)]
    config: RadianceFieldConfig,
}

/// The normalized embedding of a class.
#[derive(Module, Debug)]
pub struct ConditionEmbedding {
    embedding: Embedding,
    norm: LayerNorm,
}

impl ConditionEmbedding {
    /// # Shapes
    /// - classes: `[batch_size]`
    /// - output: `[batch_size, shape_code]`
    pub fn forward(&self, classes: Tensor<1, Int>) -> Tensor<2> {
        let embedded = self.embedding.forward(classes.unsqueeze_dim::<2>(1));
        layer_norm(&self.norm, embedded.squeeze_dim::<2>(1))
    }
}

/// What an image is made from.
#[derive(Clone, Debug)]
pub struct Codes {
    /// Of the shape: `[batch_size, shape_code]`.
    pub shape: Tensor<2>,
    /// Of the colours: `[batch_size, appearance_code]`, where the field takes one.
    pub appearance: Option<Tensor<2>>,
    /// `[batch_size]`, where the field has classes.
    pub classes: Option<Tensor<1, Int>>,
}

impl_tensors!(Codes {
    shape,
    appearance,
    classes
});

impl RadianceField {
    /// The settings it was built with.
    pub fn config(&self) -> &RadianceFieldConfig {
        &self.config
    }

    /// Colour and density, both before their activation.
    ///
    /// Positions are encoded in f32 whatever the precision of the layers: the highest frequency turns a
    /// rounding of f16 into another value altogether.
    ///
    /// # Shapes
    /// - points: `[batch_size, rays, samples, 3]`
    /// - directions: `[batch_size, rays, 3]`, of length one
    /// - output: `[batch_size, rays, samples, 4]`: red, green, blue, density
    ///
    /// # Panics
    /// If `codes` has no appearance code or no classes although the field takes them, or the reverse.
    pub fn forward(&self, points: Tensor<4>, directions: Tensor<3>, codes: Codes) -> Tensor<4> {
        let config = &self.config;
        let [batch_size, rays, samples, _] = points.dims();
        let dtype = FloatDType::from(self.rgb_linear.weight.val().dtype());
        let encoded = |x: Tensor<2>, frequencies| encode(x, frequencies).cast(dtype);
        let position = encoded(points.reshape([-1, 3]), config.position_frequencies);
        let Codes {
            shape,
            appearance,
            classes,
        } = codes;
        let shape = shape.cast(dtype);
        let conditioned = match (&self.condition_embedding, classes) {
            (None, None) => shape.clone(),
            (Some(embedding), Some(classes)) => embedding.forward(classes) * shape.clone(),
            (Some(_), None) => panic!("the field has classes: give those of the images"),
            (None, Some(_)) => panic!("the field has no classes, but got some"),
        };

        let [width, position_len] = [config.width, encoded_len(config.position_frequencies)];
        let per_image = |x: Tensor<2>, part: Tensor<2>| {
            let x = x.reshape([batch_size, rays * samples, width]);
            (x + part.unsqueeze_dim::<3>(1)).reshape([batch_size * rays * samples, width])
        };
        // Which inputs of a layer that takes encoded position and shape code are which.
        let input = |start: usize| {
            let code = start + position_len;
            [start..code, code..code + config.shape_code]
        };
        // Behind the previous layer's output with classes, in front of it without.
        let (ahead, before) = match self.condition_embedding {
            Some(_) => (width, 0..width),
            None => (
                0,
                position_len + config.shape_code..position_len + config.shape_code + width,
            ),
        };
        let skip = config.depth / 2;
        let mut x: Option<Tensor<2>> = None;
        for (number, layer) in self.pts_linears.iter().enumerate() {
            let with_input = |[position_range, code_range]: [Range<usize>; 2], code: &Tensor<2>| {
                let biased = layer.part(code.clone(), code_range) + layer.bias.val().unsqueeze();
                per_image(layer.part(position.clone(), position_range), biased)
            };
            let y = match x {
                None => with_input(input(0), &conditioned),
                Some(x) if number == skip + 1 => {
                    with_input(input(ahead), &shape) + layer.part(x, before.clone())
                }
                Some(x) => layer.forward(x),
            };
            x = Some(relu(y));
        }
        let x = x.expect("invariant: there are layers");

        let density = self.alpha_linear.forward(x.clone());
        let feature = self.feature_linear.forward(x);
        let colour = self.colour(feature, directions, appearance, samples);
        let raw = Tensor::cat(vec![full(colour), full(density)], 1);
        raw.reshape([batch_size, rays, samples, 4])
    }

    fn colour(
        &self,
        feature: Tensor<2>,
        directions: Tensor<3>,
        appearance: Option<Tensor<2>>,
        samples: usize,
    ) -> Tensor<2> {
        let config = &self.config;
        let [batch_size, rays, _] = directions.dims();
        let [width, half] = [config.width, config.width / 2];
        let direction_len = encoded_len(config.direction_frequencies);
        let dtype = FloatDType::from(feature.dtype());
        let layer = &self.views_linears[0];
        let direction =
            encode(directions.reshape([-1, 3]), config.direction_frequencies).cast(dtype);
        let per_ray =
            layer.part(direction, width..width + direction_len) + layer.bias.val().unsqueeze();
        let per_ray = match (appearance, config.appearance_code) {
            (None, 0) => per_ray,
            (Some(code), len @ 1..) => {
                let from = width + direction_len;
                let part = layer.part(code.cast(dtype), from..from + len);
                let per_ray = per_ray.reshape([batch_size, rays, half]);
                (per_ray + part.unsqueeze_dim::<3>(1)).reshape([batch_size * rays, half])
            }
            (None, len) => panic!("the field takes an appearance code of {len} values, got none"),
            (Some(_), 0) => panic!("the field takes no appearance code, but got one"),
        };
        let y = layer.part(feature, 0..width);
        let y = y.reshape([batch_size * rays, samples, half]) + per_ray.unsqueeze_dim::<3>(1);
        self.rgb_linear
            .forward(relu(y.reshape([batch_size * rays * samples, half])))
    }
}

/// Values of an encoded vector of three.
fn encoded_len(frequencies: usize) -> usize {
    3 + 6 * frequencies
}

/// `x`, and for each frequency `2^k` the sine and the cosine of `2^k x`, in f32.
///
/// # Shapes
/// - x: `[vectors, 3]`
/// - output: `[vectors, 3 + 6 * frequencies]`
///
/// # References
/// Mildenhall et al. 2020, "NeRF", arXiv:2003.08934, equation 4; without the factor pi.
pub fn encode(x: Tensor<2>, frequencies: usize) -> Tensor<2> {
    let x = full(x);
    let mut parts = vec![x.clone()];
    for frequency in 0..frequencies {
        let scaled = x.clone().mul_scalar(f64::from(1_u32 << frequency));
        parts.push(scaled.clone().sin());
        parts.push(scaled.cos());
    }
    Tensor::cat(parts, 1)
}

/// The names are those of the published fields.
impl StateDict for RadianceField {
    fn state_dict_name(path: &str) -> String {
        let path = path.replace("embedding.embedding.", "embedding.0.");
        let path = path.replace("embedding.norm.", "embedding.1.");
        let (module, parameter) = path.rsplit_once('.').unwrap_or(("", &path));
        format!("{module}.{}", parameter_name(parameter))
    }
}
