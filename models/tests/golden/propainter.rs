//! The inpainting generator, its parts, and the discriminators.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_memopt_models::propainter::{
    Discriminator, FeaturePropagation, GeneratorInput, Guides, Holes, ImagePropagation,
    InpaintGenerator, InpaintGeneratorConfig, MaskedFrame, Sampling, SparseTransformer, View,
};
use rstest::rstest;

use crate::flow_completion::flows;
use crate::harness::{Case, Comparison};
use crate::network;

#[test]
fn golden_feature_propagation() {
    feature_propagation(&Device::flex(), 1.0);
}

pub fn feature_propagation(device: &Device, times: f64) {
    let case = Case::open("propainter_feat_propagation");
    let mut comparison = Comparison::within(&case, times);
    let channels = case.shape("x")[2];
    let network = network::filled(FeaturePropagation::new(channels, device), &case);
    let (x, masks) = (
        case.tensor::<5>("x", device),
        case.tensor::<5>("mask", device),
    );
    let flows = flows(&case, device);
    let frames = |x: &Tensor<5>| -> Vec<Tensor<4>> {
        let frames = x.clone().iter_dim(1);
        frames.map(|frame| frame.squeeze_dim(1)).collect()
    };
    let passes = network.passes(frames(&x), &flows, &frames(&masks));
    for (direction, pass) in ["backward", "forward"].into_iter().zip(passes) {
        let features: Tensor<5> = Tensor::stack(pass, 1);
        comparison.channels(&format!("{direction}_features"), &features, 2);
    }
    comparison.tensor("fused", network.forward(x, &flows, masks));
    comparison.finish();
}

#[rstest]
#[case::nearest(nearest_images)]
#[case::bilinear(bilinear_images)]
fn golden_image_propagation(#[case] case: fn(&Device, f64)) {
    case(&Device::flex(), 1.0);
}

pub fn nearest_images(device: &Device, times: f64) {
    image_propagation(device, "nearest", Sampling::Nearest, times);
}

pub fn bilinear_images(device: &Device, times: f64) {
    image_propagation(device, "bilinear", Sampling::Bilinear, times);
}

fn image_propagation(device: &Device, name: &str, sampling: Sampling, times: f64) {
    let case = Case::open("propainter_img_propagation");
    let mut comparison = Comparison::within(&case, times);
    let (clip, masks) = (
        case.clip("frames_u8", device),
        case.tensor::<5>("mask", device),
    );
    let flows = flows(&case, device);
    let known = clip * (masks.ones_like() - masks.clone());
    let frames = |x: &Tensor<5>| -> Vec<Tensor<4>> {
        let frames = x.clone().iter_dim(1);
        frames.map(|frame| frame.squeeze_dim(1)).collect()
    };
    let propagation = ImagePropagation { sampling };
    let given = frames(&known).into_iter().zip(frames(&masks));
    let given = given.map(|(image, mask)| MaskedFrame { image, mask });
    let backward = propagation.backward(given.collect(), &flows).into_iter();
    let backward: Tensor<5> = Tensor::stack(backward.map(|frame| frame.image).collect(), 1);
    comparison.tensor(&format!("after_backward_pass_{name}"), backward);
    let (images, left) = propagation.forward(known, &flows, masks);
    comparison.tensor(&format!("prop_frames_{name}"), images);
    comparison.tensor(&format!("updated_mask_{name}"), left);
    comparison.finish();
}

/// All windows at once, and one at a time.
#[rstest]
fn golden_sparse_transformer(
    #[values("propainter_transformer_exact", "propainter_transformer_padded")] name: &str,
    #[values(usize::MAX, 1)] bytes: usize,
) {
    transformer(&Device::flex(), name, bytes, 1.0);
}

#[cfg(feature = "wgpu")]
pub fn exact_transformer(device: &Device, times: f64) {
    transformer(device, "propainter_transformer_exact", usize::MAX, times);
}

#[cfg(feature = "wgpu")]
pub fn padded_transformer(device: &Device, times: f64) {
    transformer(device, "propainter_transformer_padded", usize::MAX, times);
}

fn transformer(device: &Device, name: &str, bytes: usize, times: f64) {
    let case = Case::open(name);
    let mut comparison = Comparison::within(&case, times);
    let number = |name: &str| case.require(name) as usize;
    let size = [number("fold_size/0"), number("fold_size/1")];
    let transformer = SparseTransformer::new(
        number("depth"),
        number("dim"),
        number("heads"),
        number("ffn_hidden"),
        device,
    );
    let transformer = network::filled(transformer, &case);
    let tokens = case.tensor::<5>("tokens", device);
    let holes = Holes::find(case.tensor::<5>("local_mask", device).squeeze_dim(4));
    let first = &transformer.transformer[0];
    let normal = first.norm1.forward(tokens.clone());
    let attended = first.attention.forward(normal, &holes, 0, bytes);
    comparison.tensor("attention_block0", attended);
    let y = transformer.forward(tokens, &holes, size, bytes);
    comparison.tensor("y", y);
    comparison.finish();
}

fn generator(case: &Case, bytes: usize, device: &Device) -> InpaintGenerator {
    let config = InpaintGeneratorConfig::new().with_working_bytes(bytes);
    network::filled(config.init(device), case)
}

fn input(case: &Case, device: &Device) -> GeneratorInput {
    let masks = case.tensor::<5>("mask", device);
    let updated_masks = match case.names("updated_mask").is_empty() {
        true => masks.zeros_like(),
        false => case.tensor("updated_mask", device),
    };
    GeneratorInput {
        frames: case.clip("frames_u8", device) * (masks.ones_like() - masks.clone()),
        flows: flows(case, device),
        masks,
        updated_masks,
        num_local: case.require("num_local_frames") as usize,
    }
}

#[test]
fn golden_generator_with_reference_frames() {
    generator_with_references(&Device::flex(), 1.0);
}

/// The whole network with all intermediates, and again in small portions.
pub fn generator_with_references(device: &Device, times: f64) {
    let case = Case::open("propainter_forward");
    let mut comparison = Comparison::within(&case, times);
    let network = generator(&case, usize::MAX, device);
    let given = input(&case, device);
    let encoded = network.encode(
        given.frames.clone(),
        given.masks.clone(),
        given.updated_masks.clone(),
    );
    comparison.channels("encoder", &encoded.clone().squeeze_dim::<4>(0), 1);
    let guides = Guides::new(
        given.flows.clone(),
        given.masks.clone(),
        given.updated_masks.clone(),
    );
    let num_local = given.num_local;
    let features = network.propagate(encoded, &guides, num_local);
    let local = features.clone().narrow(1, 0, num_local);
    comparison.channels("feat_prop", &local, 2);
    let tokens = network.split(features.clone());
    comparison.channels("soft_split", &tokens, 4);
    let tokens = network.transform(tokens, &guides.holes(num_local), &features);
    comparison.channels("transformer", &tokens, 4);
    let [_, _, _, height, width] = features.dims();
    let composed = network
        .sc
        .forward(tokens.squeeze_dim(0), [height, width], usize::MAX);
    comparison.channels("soft_comp", &composed, 1);
    let network = generator(&case, 1, device);
    comparison.tensor("output", network.forward(given));
    comparison.finish();
}

#[test]
fn golden_generator_without_reference_frames() {
    generator_without_references(&Device::flex(), 1.0);
}

pub fn generator_without_references(device: &Device, times: f64) {
    let case = Case::open("propainter_forward_no_ref");
    let mut comparison = Comparison::within(&case, times);
    let network = generator(&case, 1 << 20, device);
    let given = input(&case, device);
    comparison.tensor("output", network.forward(given.clone()));
    let whole = GeneratorInput {
        frames: case.clip("frames_u8", device),
        masks: given.masks.zeros_like(),
        ..given
    };
    comparison.tensor("output_no_hole", network.forward(whole));
    comparison.finish();
}

#[rstest]
#[case::clips(clip_discriminator)]
#[case::frames(frame_discriminator)]
fn golden_discriminator(#[case] case: fn(&Device, f64)) {
    case(&Device::flex(), 1.0);
}

pub fn clip_discriminator(device: &Device, times: f64) {
    discriminator(device, "d3", View::Clip, times);
}

pub fn frame_discriminator(device: &Device, times: f64) {
    discriminator(device, "d2", View::Frame, times);
}

fn discriminator(device: &Device, name: &str, view: View, times: f64) {
    let case = Case::open("propainter_discriminators");
    let mut comparison = Comparison::within(&case, times);
    let trained = device.clone().autodiff();
    let network = network::filled(Discriminator::new(view, &trained), &case);
    let clip = case.clip("frames_u8", &trained);
    comparison.tensor(&format!("{name}_train"), network.forward(clip.clone()));
    comparison.tensor(&format!("{name}_train_second"), network.forward(clip));
    let clip = case.clip("frames_u8", device);
    comparison.tensor(&format!("{name}_eval"), network.valid().forward(clip));
    comparison.finish();
}
