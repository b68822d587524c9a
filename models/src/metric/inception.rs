//! The Inception v3 network whose features FID and KID compare.

mod architecture;

use architecture::{BLOCKS, Conv, Kind, POOL_BRANCH, Pool, STEM, STEM_POOLED, Step};
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::module::{avg_pool2d, interpolate, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, InterpolateMode, InterpolateOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};
use burn_memopt::nn::{conv2d, relu};
use burn_memopt::precision::ops::full;

use crate::weights::{StateDict, parameter_name};

/// Inception v3 as FID uses it: images to 2048 features each.
///
/// It is the network published for TensorFlow in December 2015, which differs from later ones in its
/// pooling: averages leave the padding out, and the last block has max pooling. Its weights are
/// published as `pt_inception-2015-12-05-6726825d.pth` with the project
/// `mseitzer/pytorch-fid`; load that file with [`StateDict::load_pytorch`]. Features of random
/// weights, or of weights for another Inception network, give no FID.
///
/// The network is for evaluation only: batch norm always uses the running statistics, and no gradients
/// are computed.
///
/// # Example
/// ```no_run
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::metric::{FeatureStatistics, Features, InceptionV3};
/// use burn_memopt_models::weights::StateDict;
///
/// let device = Device::flex();
/// let network = InceptionV3::new(&device).load_pytorch("pt_inception-2015-12-05-6726825d.pth")?;
/// let mut statistics = FeatureStatistics::new(InceptionV3::FEATURES);
/// // A batch of black images; -1 is black, 1 is white.
/// let images = Tensor::full([8, 3, 64, 64], -1.0, &device);
/// statistics.add(&Features::from_tensor(network.forward(images))?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// - Szegedy et al. 2015, arXiv:1512.00567, section 6 and table 1: the network
/// - Heusel et al. 2017, arXiv:1706.08500, eq. 6: the distance of its features
#[derive(Module, Debug)]
pub struct InceptionV3 {
    stem: Vec<Unit>,
    blocks: Vec<Vec<Branch>>,
}

impl InceptionV3 {
    /// Features of an image.
    pub const FEATURES: usize = 2048;
    /// Height and width of the images that the layers take.
    const SIDE: usize = 299;

    /// Builds the network on `device` with random weights; load the published ones.
    pub fn new(device: &Device) -> Self {
        let mut channels = 3;
        let (mut stem, mut blocks) = (Vec::new(), Vec::new());
        for (_, outputs, side, step) in STEM {
            stem.push(Unit::new([channels, outputs], [side, side], step, device));
            channels = outputs;
        }
        for (_, kind) in BLOCKS {
            let branches = kind.branches().into_iter();
            let branches = branches.map(|(name, convs)| {
                let pool = (name == POOL_BRANCH).then_some(kind.pool());
                Branch::new(kind, pool, channels, &convs, device)
            });
            let branches: Vec<_> = branches.collect();
            channels = branches.iter().map(|it| it.outputs(channels)).sum();
            blocks.push(branches);
        }
        // A frozen batch norm uses its running statistics on autodiff devices too.
        Self { stem, blocks }.freeze()
    }

    /// Computes the features of every image: the means of the last block's channels.
    ///
    /// # Shapes
    /// - images: `[batch_size, 3, height, width]`, RGB from -1 to 1, of any size: they are resized to
    ///   299×299 bilinearly, as PyTorch does with `align_corners=False`, without antialiasing
    /// - output: `[batch_size, 2048]`, f32, without gradients
    ///
    /// # Panics
    /// If the images do not have 3 channels.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let [_, channels, ..] = images.dims();
        assert!(
            channels == 3,
            "images must have 3 channels (RGB), got {channels}"
        );
        let options = InterpolateOptions::new(InterpolateMode::Bilinear)
            .with_align_corners(false)
            .with_output_size([Self::SIDE; 2]);
        let images = interpolate(full(images.detach()), options);
        let (first, second) = self.stem.split_at(STEM_POOLED);
        let stem = [first, second].into_iter().fold(images, |x, units| {
            let x = units.iter().fold(x, |x, unit| unit.forward(x));
            Pool::Halving.forward(x)
        });
        let pixels = self.blocks.iter().fold(stem, |x, block| {
            let branches = block.iter().map(|branch| branch.forward(x.clone()));
            Tensor::cat(branches.collect(), 1)
        });
        pixels.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2)
    }
}

/// The names are the published ones, such as `Mixed_5b.branch1x1.conv.weight`.
impl StateDict for InceptionV3 {
    fn state_dict_name(path: &str) -> String {
        let at = |index: &str| index.parse::<usize>().expect("invariant: an index");
        let parts: Vec<_> = path.split('.').collect();
        let (unit, layer) = match parts[..] {
            ["stem", unit, ref layer @ ..] => (STEM[at(unit)].0.to_owned(), layer),
            ["blocks", block, branch, "units", unit, ref layer @ ..] => {
                let (block, kind) = BLOCKS[at(block)];
                let unit = kind.unit_name(at(branch), at(unit));
                (format!("{block}.{unit}"), layer)
            }
            _ => unreachable!("invariant: a path of the network"),
        };
        let layer: Vec<_> = layer.iter().map(|part| parameter_name(part)).collect();
        format!("{unit}.{}", layer.join("."))
    }

    /// The classifier after the features, and the counters of training batches.
    fn is_bookkeeping(name: &str) -> bool {
        name.starts_with("fc.") || name.ends_with(".num_batches_tracked")
    }
}

/// Some layers one after another, and the two after them where the branch forks.
#[derive(Module, Debug)]
struct Branch {
    #[module(skip)]
    pool: Option<Pool>,
    units: Vec<Unit>,
    #[module(skip)]
    chained: usize,
}

impl Branch {
    fn new(kind: Kind, pool: Option<Pool>, inputs: usize, convs: &[Conv], device: &Device) -> Self {
        let chained = kind.chained(convs.len());
        let mut channels = inputs;
        let mut units = Vec::new();
        for (index, &(outputs, kernel)) in convs.iter().enumerate() {
            let halves = matches!(kind, Kind::B | Kind::D) && index + 1 == convs.len();
            let step = if halves { Step::Halving } else { Step::Same };
            units.push(Unit::new([channels, outputs], kernel, step, device));
            if index < chained {
                channels = outputs;
            }
        }
        Self {
            pool,
            units,
            chained,
        }
    }

    /// Channels of the output for `inputs` channels.
    fn outputs(&self, inputs: usize) -> usize {
        match self.units.split_at(self.chained) {
            ([], []) => inputs,
            ([.., last], []) => last.outputs(),
            (_, ends) => ends.iter().map(Unit::outputs).sum(),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = match self.pool {
            Some(pool) => pool.forward(x),
            None => x,
        };
        let (chain, ends) = self.units.split_at(self.chained);
        let x = chain.iter().fold(x, |x, unit| unit.forward(x));
        if ends.is_empty() {
            return x;
        }
        let ends = ends.iter().map(|unit| unit.forward(x.clone()));
        Tensor::cat(ends.collect(), 1)
    }
}

impl Pool {
    fn forward(self, x: Tensor<4>) -> Tensor<4> {
        let max = MaxPoolOptions::new([3, 3]);
        match self {
            Self::Average => {
                let options = AvgPoolOptions::new([3, 3]).with_stride([1, 1]);
                let options = options.with_padding([1, 1]);
                avg_pool2d(x, options.with_count_include_pad(false))
            }
            Self::Max => max_pool2d(x, max.with_stride([1, 1]).with_padding([1, 1])),
            Self::Halving => max_pool2d(x, max.with_stride([2, 2])),
        }
    }
}

/// A convolution without bias, batch norm and ReLU.
#[derive(Module, Debug)]
struct Unit {
    conv: Conv2d,
    bn: BatchNorm,
}

impl Unit {
    fn new(channels: [usize; 2], kernel: [usize; 2], step: Step, device: &Device) -> Self {
        let [rows, columns] = kernel.map(|side| side / 2);
        let (padding, stride) = match step {
            Step::Same => (
                PaddingConfig2d::Explicit(rows, columns, rows, columns),
                [1, 1],
            ),
            Step::Valid => (PaddingConfig2d::Valid, [1, 1]),
            Step::Halving => (PaddingConfig2d::Valid, [2, 2]),
        };
        let conv = Conv2dConfig::new(channels, kernel)
            .with_stride(stride)
            .with_padding(padding)
            .with_bias(false);
        Self {
            conv: conv.init(device),
            bn: BatchNormConfig::new(channels[1])
                .with_epsilon(0.001)
                .init(device),
        }
    }

    fn outputs(&self) -> usize {
        self.conv.weight.dims()[0]
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        relu(self.bn.forward(conv2d(&self.conv, x)))
    }
}

#[cfg(test)]
mod tests;
