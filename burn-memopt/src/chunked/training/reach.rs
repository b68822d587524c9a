//! How far a model reaches while it trains, and which of its layers see the whole image then.

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::seeds::TileSeeds;
use crate::chunked::{Reach, WindowPlace, Windows, global_layers};
use crate::train::{RunningStatistics, frozen};

/// [Measures](Reach::measure) how far a pixel reaches through a model as it trains: with batch norm that takes the
/// statistics of its batch, unless it is frozen. Running statistics stay as they are, nothing is recorded, and dropout
/// draws the same masks each time. Parameters that are all zeros count as if they were not: a step changes them.
///
/// # Shapes
/// - shape: `[channels, height, width]` of the images to measure on, which `forward` gets as one window
///
/// # Panics
/// As [`Reach::measure`], and if the model has no parameters.
pub fn measure_training_reach<M: Module>(
    model: &M,
    shape: [usize; 3],
    stride: usize,
    forward: impl Fn(&M, Windows) -> Tensor<4>,
) -> Reach {
    let statistics = RunningStatistics::read(model);
    let untracked = frozen(model).map(&mut Awake);
    let device = super::images::device_of(model).autodiff();
    // The same for all images, so that what they draw is no difference.
    let seeds = TileSeeds::new(true, &device, 1);
    let reach = Reach::measure(shape, stride, &device, |pixels| {
        let [_, _, height, width] = pixels.dims();
        let place = WindowPlace {
            image: 0,
            row: 0,
            column: 0,
        };
        let whole = Windows {
            pixels,
            places: vec![place],
            image_size: [height, width],
        };
        let output = seeds.run(0, || forward(&untracked, whole));
        output.without_autodiff()
    });
    seeds.end();
    statistics.restore(model);
    reach
}

/// Fills parameters that are all zeros, as a last layer or a branch may begin: they hide what they will let through after
/// a step.
struct Awake;

impl ModuleMapper for Awake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let largest: f32 = param.val().abs().max().into_scalar();
        match largest == 0.0 {
            true => param.map(|value| value.zeros_like().add_scalar(0.1)),
            false => param,
        }
    }
}

/// Paths and types of the layers whose result at a pixel depends on the whole image while the model trains:
/// [`global_layers`], and batch norm that is not [frozen](Module::freeze).
///
/// # Example
/// ```
/// use burn::module::Module;
/// use burn::nn::BatchNormConfig;
/// use burn::tensor::Device;
/// use burn_memopt::chunked::global_training_layers;
///
/// let layers = vec![BatchNormConfig::new(4).init(&Device::flex())];
/// assert_eq!(global_training_layers(&layers), ["0 (BatchNorm in training)"]);
/// assert!(global_training_layers(&layers.freeze()).is_empty());
/// ```
pub fn global_training_layers<M: Module>(model: &M) -> Vec<String> {
    let mut finder = TrainingNorms::default();
    model.visit(&mut finder);
    let mut layers = global_layers(model);
    layers.extend(finder.found);
    layers
}

#[derive(Default)]
struct TrainingNorms {
    path: Vec<(String, String)>,
    found: Vec<String>,
}

impl ModuleVisitor for TrainingNorms {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push((name.to_owned(), container_type.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        let Some(((_, container), path)) = self.path.split_last() else {
            return;
        };
        if container.rsplit(':').next() == Some("BatchNorm") && flag.is_enabled() {
            let names: Vec<_> = path.iter().map(|(name, _)| name.as_str()).collect();
            self.found
                .push(format!("{} (BatchNorm in training)", names.join(".")));
        }
    }
}
