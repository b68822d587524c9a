//! The radiance field, its rendering, its discriminators and its super-resolution.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn_memopt::train::{GradientPenalty, gradient_penalty};
use burn_memopt_models::gan::{
    Camera, Ccsr, CcsrConfig, Codes, Jitter, Layer, Patch, PatchDiscriminator,
    PatchDiscriminatorConfig, Pose, RadianceField, RadianceFieldConfig, Rays, Rendered, Renderer,
    class_loss, encode, sample_patches, score_loss,
};
use rstest::rstest;

use crate::harness::{Case, Comparison};
use crate::{network, optimizer};

/// How far the gradient of a penalty may be from the stored one, of its scale: it is a central difference.
const PENALTY_TOLERANCE: f64 = 0.01;

/// The rounding of normalized values, and how much further gradients may be off where one is that close to a kink.
const EDGE: f32 = 5e-6;
const EDGE_TIMES: f64 = 10.0;

/// A field for the sizes of the codes that the case holds.
fn field(shape_code: usize, appearance_code: usize, case: &Case, device: &Device) -> RadianceField {
    let classes = case.number("num_classes").map(|classes| classes as usize);
    let config = RadianceFieldConfig::new()
        .with_shape_code(shape_code)
        .with_appearance_code(appearance_code)
        .with_num_classes(classes);
    network::filled(config.init(device), case)
}

/// The field of cases whose code `z` holds shape and appearance in equal parts.
fn field_of_z(case: &Case, device: &Device) -> RadianceField {
    let half = case.shape("z")[1] / 2;
    field(half, half, case, device)
}

fn codes_of_z(case: &Case, device: &Device) -> Codes {
    let z = case.tensor::<2>("z", device);
    let half = z.dims()[1] / 2;
    Codes {
        shape: z.clone().narrow(1, 0, half),
        appearance: Some(z.narrow(1, half, half)),
        classes: None,
    }
}

/// Points that each have a code and a direction of their own.
fn evaluate(field: &RadianceField, case: &Case, codes: Codes, device: &Device) -> Tensor<2> {
    let points = case.tensor::<2>("points", device);
    let num_points = points.dims()[0];
    let points = points.reshape([num_points, 1, 1, 3]);
    let directions = case
        .tensor::<2>("directions", device)
        .reshape([num_points, 1, 3]);
    field
        .forward(points, directions, codes)
        .reshape([num_points, 4])
}

#[test]
fn golden_graf_mlp() {
    mlp(&Device::flex(), 1.0);
}

pub fn mlp(device: &Device, times: f64) {
    let case = Case::open("graf_mlp");
    let mut comparison = Comparison::within(&case, times);
    let codes = Codes {
        shape: case.tensor("shape_code", device),
        appearance: Some(case.tensor("appearance_code", device)),
        classes: None,
    };
    let lens = ["shape_code", "appearance_code"].map(|name| case.shape(name)[1]);
    let field = field(lens[0], lens[1], &case, device);
    for stored in case.names("embedding_") {
        let frequencies =
            crate::harness::number_in(stored, "embedding_").expect("a number of frequencies");
        comparison.tensor(stored, encode(case.tensor("points", device), frequencies));
    }
    comparison.tensor("raw", evaluate(&field, &case, codes, device));
    comparison.finish();
}

#[test]
fn golden_graf_conditional_field() {
    conditional_field(&Device::flex(), 1.0);
}

pub fn conditional_field(device: &Device, times: f64) {
    let case = Case::open("graf_conditional_field");
    let mut comparison = Comparison::within(&case, times);
    let device = device.clone().autodiff();
    let shape = case.tensor::<2>("shape_code", &device).require_grad();
    let classes = case.int_tensor::<1>("labels", &device);
    let field = field(shape.dims()[1], 0, &case, &device);
    let embedding = field
        .condition_embedding
        .as_ref()
        .expect("there are classes");
    comparison.tensor("label_embedding", embedding.forward(classes.clone()));
    let codes = Codes {
        shape: shape.clone(),
        appearance: None,
        classes: Some(classes),
    };
    let raw = evaluate(&field, &case, codes, &device);
    comparison.tensor("raw", raw.clone());
    let grads = (raw * case.tensor("cotangent", &device)).sum().backward();
    comparison.tensor(
        "grad_shape_code",
        shape.grad(&grads).expect("the code is tracked"),
    );
    let grads = GradientsParams::from_grads(grads, &field);
    network::compare_norms(
        "parameter_grad_norms",
        &mut comparison,
        &case,
        &field,
        &grads,
    );
    comparison.finish();
}

/// The camera of the parameters of a case.
fn camera(case: &Case) -> Camera {
    let size = ["H", "W"].map(|name| case.require(name) as usize);
    let half_width = size[1] as f64 / 2.0;
    let angle = 2.0 * (half_width / case.require("focal")).atan();
    let radius = case
        .number("radius")
        .unwrap_or_else(|| case.stated("radius")[0]);
    Camera::new(size)
        .with_field_of_view(angle.to_degrees())
        .with_radius(radius)
}

/// The stored poses, which must be those of the camera, and the stored patches.
fn views(case: &Case, camera: &Camera, comparison: &mut Comparison<'_>) -> (Vec<Pose>, Vec<Patch>) {
    let places = case.floats("pose_uv").chunks(2);
    let poses: Vec<Pose> = places
        .map(|uv| camera.pose(uv[0].into(), uv[1].into()))
        .collect();
    let flat: Vec<f32> = poses
        .iter()
        .flatten()
        .flatten()
        .map(|&value| value as f32)
        .collect();
    comparison.values("pose", &flat);
    let size = case.shape("patch_grid")[1];
    let patches = case.floats("patch_scale_offset").chunks(3);
    let patches = patches.map(|patch| Patch {
        size,
        scale: patch[0].into(),
        offset: [patch[1].into(), patch[2].into()],
    });
    let patches: Vec<Patch> = patches.collect();
    let grid: Vec<f32> = patches
        .iter()
        .flat_map(Patch::places)
        .flatten()
        .map(|place| place as f32)
        .collect();
    comparison.values("patch_grid", &grid);
    (poses, patches)
}

fn renderer(case: &Case) -> Renderer {
    Renderer::new()
        .with_near(case.require("near"))
        .with_far(case.require("far"))
        .with_samples(case.require("n_samples") as usize)
}

fn jitter(case: &Case, batch_size: usize, device: &Device) -> Jitter {
    let tensor = |name| {
        let rows = case.tensor::<2>(name, device);
        let [rays, samples] = rows.dims();
        rows.reshape([batch_size, rays / batch_size, samples])
    };
    Jitter {
        places: tensor("t_rand"),
        noise: tensor("density_noise"),
    }
}

/// Colours as the cases hold them, a row a ray.
fn rows(rendered: &Rendered) -> Tensor<2> {
    rendered.colours.clone().flatten(0, 1)
}

#[rstest]
fn golden_graf_render(#[values(None, Some(48))] ray_chunk: Option<usize>) {
    render(&Device::flex(), 1.0, ray_chunk);
}

pub fn render_at_once(device: &Device, times: f64) {
    render(device, times, None);
}

fn render(device: &Device, times: f64, ray_chunk: Option<usize>) {
    let case = Case::open("graf_render");
    let mut comparison = Comparison::within(&case, times);
    let camera = camera(&case);
    let renderer = renderer(&case)
        .with_white_background(case.flag("white_background"))
        .with_ray_chunk(ray_chunk);
    let (poses, patches) = views(&case, &camera, &mut comparison);
    let rays = camera.rays(&poses, &patches, device);
    let flat = |x: &Tensor<3>| x.clone().flatten::<2>(0, 1).unsqueeze_dim::<3>(0);
    comparison.tensor(
        "rays",
        Tensor::cat(vec![flat(&rays.origins), flat(&rays.directions)], 0),
    );
    let field = field_of_z(&case, device);
    let render = |jitter| renderer.render(&field, rays.clone(), codes_of_z(&case, device), jitter);
    let plain = render(None);
    comparison.tensor("rgb_test", rows(&plain));
    let column = |x: Tensor<2>| x.flatten::<1>(0, 1).unsqueeze_dim::<2>(1);
    // The cases scale them as they scale colours.
    let scaled = |x: Tensor<2>| x.mul_scalar(2.0).sub_scalar(1.0);
    comparison.tensor("disp_test", column(scaled(plain.disparity.clone())));
    comparison.tensor("acc_test", column(scaled(plain.opacity.clone())));
    let random = render(Some(jitter(&case, poses.len(), device)));
    comparison.tensor("rgb_train", rows(&random));
    comparison.finish();
}

#[test]
fn golden_graf_image_patch() {
    let case = Case::open("graf_image_patch");
    let mut comparison = Comparison::new(&case);
    let [batch_size, size] = [0, 1].map(|axis| case.shape("patch_grid")[axis]);
    // Scale and offset are the half difference and the mean of a grid's ends.
    let grids = case.floats("patch_grid").chunks(2 * size * size);
    let patches = grids.map(|grid| {
        let ends = [grid[0], grid[1], grid[grid.len() - 2]].map(f64::from);
        let scale = (ends[2] - ends[0]) / 2.0;
        Patch {
            size,
            scale,
            offset: [ends[0] + scale, ends[1] + scale],
        }
    });
    let patches: Vec<Patch> = patches.collect();
    assert_eq!(patches.len(), batch_size);
    let cut = sample_patches(case.tensor("image", &Device::flex()), &patches);
    let channels = cut.dims()[1];
    comparison.tensor(
        "patch",
        cut.permute([0, 2, 3, 1]).reshape([-1, channels as i64]),
    );
    comparison.finish();
}

/// Rows of pixels as images.
fn images(rows: Tensor<2>, size: usize) -> Tensor<4> {
    rows.reshape([-1, size as i64, size as i64, 3])
        .permute([0, 3, 1, 2])
}

fn real(discriminator: &PatchDiscriminator, x: Tensor<4>) -> Tensor<4> {
    let scores = discriminator.forward(x, None).real;
    scores.unsqueeze_dims::<4>(&[2, 3])
}

#[rstest]
#[case::of_32("graf_discriminator_32")]
#[case::of_64("graf_discriminator_64")]
fn golden_graf_discriminator(#[case] name: &str) {
    plain_discriminator(name, &Device::flex(), 1.0);
}

pub fn discriminator_of_32(device: &Device, times: f64) {
    plain_discriminator("graf_discriminator_32", device, times);
}

fn plain_discriminator(name: &str, device: &Device, times: f64) {
    let case = Case::open(name);
    let mut comparison = Comparison::within(&case, times);
    let device = device.clone().autodiff();
    let size = case.require("imsize") as usize;
    let config =
        PatchDiscriminatorConfig::new(size).with_base_channels(case.require("ndf") as usize);
    let discriminator = network::filled(config.init(&device), &case);
    let x = images(case.tensor("x", &device), size);
    comparison.tensor("y_train", real(&discriminator, x.clone()));
    comparison.tensor("y_train_second", real(&discriminator, x.clone()));
    let discriminator = discriminator.valid();
    let values = network::values(&discriminator);
    for stored in case.names("main.") {
        comparison.values(stored, &values[stored]);
    }
    comparison.tensor("y_eval", real(&discriminator, x.inner()));
    comparison.finish();
}

#[test]
fn golden_graf_conditional_discriminator() {
    let case = Case::open("graf_conditional_discriminator_64");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let size = case.require("image_size") as usize;
    let config = PatchDiscriminatorConfig::new(size)
        .with_base_channels(case.require("ndf") as usize)
        .with_num_classes(Some(case.require("num_classes") as usize));
    let discriminator = network::filled(config.init(&device), &case);
    let pixels = case.tensor::<2>("pixels", &device).require_grad();
    let classes = case
        .int_tensor::<2>("labels", &device)
        .narrow(1, 0, 1)
        .squeeze_dim::<1>(1);
    let scores = discriminator.forward(images(pixels.clone(), size), Some(classes.clone()));
    comparison.tensor("logits", scores.real.clone().unsqueeze_dims::<4>(&[2, 3]));
    let logits = scores.classes.expect("there are classes");
    comparison.tensor("class_logits", logits.clone());
    let losses = [score_loss(scores.real, true), class_loss(logits, classes)];
    comparison.tensor("loss", Tensor::cat(losses.to_vec(), 0));
    let [real, class] = losses;
    let grads = (real + class).backward();
    let grad = pixels.grad(&grads).expect("the pixels are tracked");
    for stored in case.names("grad_pixels_stride") {
        let step = crate::harness::number_in(stored, "_stride").expect("a step");
        comparison.tensor(
            stored,
            grad.clone()
                .slice_dim(0, burn::tensor::Slice::with_step(0, None, step)),
        );
    }
    comparison.finish();
}

/// Rendered patches of a training case, and the field they are of.
fn fake(
    case: &Case,
    comparison: &mut Comparison<'_>,
    device: &Device,
) -> (RadianceField, Tensor<4>) {
    let radius = case.stated("radius")[0];
    let camera = camera(case).with_radius(radius);
    let (poses, patches) = views(case, &camera, comparison);
    let rays: Rays = camera.rays(&poses, &patches, device);
    let field = field_of_z(case, device);
    // As training does, in recomputed chunks.
    let renderer = renderer(case).with_ray_chunk(Some(1500));
    let jitter = jitter(case, poses.len(), device);
    let rendered = renderer.render(&field, rays, codes_of_z(case, device), Some(jitter));
    comparison.tensor("fake_patch", rows(&rendered));
    (field, rendered.image())
}

/// A discriminator of the size of the patches of a training case.
fn discriminator(case: &Case, device: &Device) -> PatchDiscriminator {
    let size = case.shape("patch_grid")[1];
    network::filled(PatchDiscriminatorConfig::new(size).init(device), case)
}

#[test]
fn golden_graf_generator_step() {
    let case = Case::open("graf_gan_generator");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let (field, image) = fake(&case, &mut comparison, &device);
    let frozen = discriminator(&case, &device).no_grad();
    let scores = frozen.forward(image, None).real;
    comparison.tensor("d_fake", scores.clone().unsqueeze_dims::<4>(&[2, 3]));
    let loss = score_loss(scores, true);
    comparison.values("generator_loss", &[loss.clone().into_scalar()]);
    let grads = GradientsParams::from_grads(loss.backward(), &field);
    network::compare_gradients_of("gradG", &mut comparison, &case, &field, &grads);
    comparison.finish();
}

#[test]
fn golden_graf_discriminator_step() {
    let case = Case::open("graf_gan_step");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let size = case.shape("patch_grid")[1];
    let discriminator = discriminator(&case, &device);
    let x = images(case.tensor("x_real", &device), size);
    let weight = case.require("reg_param");
    let pixels = (size * size) as f64;
    // Of one per image, with the weight of one a pixel.
    let score = |network: &PatchDiscriminator, x| network.forward(x, None).real;
    let penalty = || {
        let penalty = GradientPenalty::r1(weight / pixels);
        gradient_penalty(penalty, &discriminator, x.clone(), score)
    };
    // Twice: a penalty leaves the estimates of the spectral norms as they were.
    let (penalty, again) = (penalty(), penalty());
    let value: f32 = penalty.clone().into_scalar();
    comparison.values("r1_regulariser", &[value]);
    comparison.values(
        "r1_per_image_mean",
        &[(f64::from(value) * pixels / weight) as f32],
    );
    let grads = GradientsParams::from_grads(penalty.backward(), &discriminator);
    let grads = network::gradients(&discriminator, &grads);
    let names = case.note_list("regulariser_grad_norms");
    for (name, &stored) in names.iter().zip(case.floats("regulariser_grad_norms")) {
        let mine = network::norm(&grads[name]);
        let off = (mine / f64::from(stored) - 1.0).abs();
        assert!(
            off < PENALTY_TOLERANCE,
            "{name}: the norm is {mine}, stored {stored}"
        );
    }
    let stored_grads = case.names("regulariser_grad_main");
    assert!(!stored_grads.is_empty());
    for stored in stored_grads {
        let mine = &grads[stored.trim_start_matches("regulariser_grad_")];
        let off: Vec<f32> = mine
            .iter()
            .zip(case.floats(stored))
            .map(|(mine, stored)| mine - stored)
            .collect();
        let share = network::norm(&off) / network::norm(case.floats(stored));
        assert!(
            share < PENALTY_TOLERANCE,
            "{stored}: off by {share} of its norm"
        );
    }

    let is_on_edge = has_value_on_edge(&self::discriminator(&case, &device), x.clone());
    let scores = score(&discriminator, x);
    comparison.tensor("d_real", scores.clone().unsqueeze_dims::<4>(&[2, 3]));
    let (_, fake) = fake(&case, &mut comparison, &Device::flex());
    let fake = score(&discriminator, Tensor::from_inner(fake));
    comparison.tensor("d_fake", fake.clone().unsqueeze_dims::<4>(&[2, 3]));
    let [loss_real, loss_fake] = [score_loss(scores, true), score_loss(fake, false)];
    comparison.values("loss_real", &[loss_real.clone().into_scalar()]);
    comparison.values("loss_fake", &[loss_fake.clone().into_scalar()]);
    let loss = loss_real + loss_fake + again;
    comparison.finish();
    let mut comparison = Comparison::within(&case, if is_on_edge { EDGE_TIMES } else { 1.0 });
    let grads = GradientsParams::from_grads(loss.backward(), &discriminator);
    network::compare_gradients_of("gradD", &mut comparison, &case, &discriminator, &grads);
    let mut optimizer = optimizer::optimizer("rmsprop", &case, "rmsprop/");
    let stepped = optimizer.step(case.require("rmsprop/lr"), discriminator, grads);
    network::compare_values("after", &mut comparison, &case, &stepped);
    comparison.finish();
}

/// Whether a value before a leaky ReLU is so close to 0 that rounding decides which slope it gets: the gradient of
/// all layers before it hangs on that.
fn has_value_on_edge(discriminator: &PatchDiscriminator, x: Tensor<4>) -> bool {
    let mut x = x;
    discriminator.main.iter().any(|layer| {
        let least: f32 = x.clone().abs().min().into_scalar();
        let is_on_edge = matches!(layer, Layer::Leaky(_)) && least < EDGE;
        x = layer.forward(x.clone());
        is_on_edge
    })
}

#[test]
fn golden_ccsr_module() {
    ccsr_module(&Device::flex(), 1.0);
}

pub fn ccsr_module(device: &Device, times: f64) {
    let case = Case::open("ccsr_module");
    let mut comparison = Comparison::within(&case, times);
    let device = device.clone().autodiff();
    let [_, _, size, _] = case.shape("render").try_into().expect("four axes");
    let config = CcsrConfig::new()
        .with_patch_size(size)
        .with_num_views(case.require("num_views") as usize);
    let ccsr: Ccsr = network::filled(config.init(&device), &case);
    let low = case.tensor::<4>("low_resolution", &device).require_grad();
    let views = case.int_tensor::<1>("views", &device);
    comparison.strided(
        "super_resolved",
        &ccsr.super_resolved(low.clone(), views.clone()),
    );
    let refined = ccsr.forward(low.clone(), views);
    comparison.strided("refined", &refined);
    let resized = ccsr.reduced(refined);
    comparison.tensor("resized", resized.clone());
    let iteration = case.require("iteration") as usize;
    let loss = Ccsr::loss_of(resized, case.tensor("render", &device), iteration);
    comparison.tensor("loss", loss.clone());
    let grads = loss.backward();
    comparison.tensor(
        "grad_low_resolution",
        low.grad(&grads).expect("the render is tracked"),
    );
    let codes = ccsr
        .cclc
        .latent_codes
        .val()
        .grad(&grads)
        .expect("codes are tracked");
    let first = case.ints("views")[0] as usize;
    comparison.tensor(
        "grad_code_view",
        codes.narrow(0, first, 1).squeeze_dim::<3>(0),
    );
    let grads = GradientsParams::from_grads(grads, &ccsr);
    network::compare_norms(
        "parameter_grad_norms",
        &mut comparison,
        &case,
        &ccsr,
        &grads,
    );
    comparison.finish();
}
