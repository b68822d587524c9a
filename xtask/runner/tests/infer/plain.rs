//! The same network, run here on whole images, without any of what `infer` does.

use burn::module::Module;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt_datasets::normalization::Normalization;
use burn_memopt_datasets::tiff::{FrameSource, TiffStack};
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig};
use image::DynamicImage;

use crate::runner::Workplace;

/// Densities are learned times this.
const DENSITY_SCALE: f32 = 100.0;

/// The network in the folder `model`, of the shape that tests train.
fn network(place: &Workplace, config: UNetConfig) -> UNet {
    let path = place.path("model").join("checkpoint-2").join("model.bpk");
    let network = config
        .with_base_channels(4)
        .with_depth(1)
        .init(&Device::flex());
    network.try_load_file(path).expect("the saved network")
}

/// By default networks are trained with group normalisation.
pub fn by_default(channels: usize) -> UNetConfig {
    UNetConfig::new(channels, 1).with_norm(NormKind::Group { groups: 2 })
}

/// Densities of all pages of a stack, one behind the other.
pub fn densities(place: &Workplace, config: UNetConfig, stack: &str) -> Vec<f32> {
    let network = network(place, config);
    let file = place.path("model").join("normalization.json");
    let normalization = Normalization::load(file).expect("what training measured");
    let stack = TiffStack::open(place.path(stack)).expect("a stack");
    let mut densities = Vec::new();
    for page in 0..stack.num_frames() {
        let mut pixels = stack.frame(page).expect("a page").pixels;
        normalization.apply(&mut pixels);
        let output = run(&network, pixels, [1, stack.height(), stack.width()]);
        let values: Vec<f32> = output.into_data().iter().collect();
        densities.extend(values.into_iter().map(|value| value / DENSITY_SCALE));
    }
    densities
}

/// Probabilities of an image.
pub fn probabilities(place: &Workplace, image: &DynamicImage) -> Vec<f32> {
    let network = network(place, by_default(3));
    let colors = image.to_rgb32f().into_raw();
    let channel = |channel: usize| colors.iter().skip(channel).step_by(3).copied();
    let planes = (0..3).flat_map(channel).collect();
    let shape = [3, image.height() as usize, image.width() as usize];
    sigmoid(run(&network, planes, shape))
        .into_data()
        .iter()
        .collect()
}

fn run(network: &UNet, pixels: Vec<f32>, [channels, height, width]: [usize; 3]) -> Tensor<4> {
    let data = TensorData::new(pixels, [1, channels, height, width]);
    network.forward(Tensor::from_data(data, &Device::flex()))
}
