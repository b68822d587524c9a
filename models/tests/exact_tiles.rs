//! A U-Net on tiles against the U-Net on the whole image.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::chunked::{Accumulator, ExactReport, ExactTiles, Reach};
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig, Upsample};
use rstest::rstest;

/// A network for inference that has seen images, so that its batch norms have statistics.
fn trained(config: UNetConfig) -> UNet {
    let device = Device::flex().autodiff();
    // Of other weights, a few have units that are all dead, and nothing to see of a mistake.
    let _stream = hold_random_stream().seeded(&device, 7);
    let unet = config.init(&device);
    let distribution = Distribution::Normal(0.5, 2.0);
    unet.forward(Tensor::random([2, 1, 64, 64], distribution, &device));
    unet.valid()
}

fn small(depth: usize) -> UNetConfig {
    UNetConfig::new(1, 2)
        .with_base_channels(4)
        .with_depth(depth)
}

fn image(height: usize, width: usize) -> Tensor<4> {
    let device = Device::flex();
    let _stream = hold_random_stream().seeded(&device, 8);
    Tensor::random([1, 1, height, width], Distribution::Default, &device)
}

/// How far a network sees, by images that are the same in every run.
fn reach(unet: &UNet, side: usize, stride: usize) -> Reach {
    let device = Device::flex();
    let _stream = hold_random_stream().seeded(&device, 9);
    Reach::measure([1, side, side], stride, &device, |x| unet.forward(x))
}

#[rstest]
fn tiles_of_a_large_image_equal_the_whole(
    #[values(Upsample::Bilinear, Upsample::Transposed)] upsample: Upsample,
) {
    let unet = trained(small(3).with_upsample(upsample));
    let reach = reach(&unet, 160, 8);
    let halo = reach.halo().expect("a limited reach");
    assert!((30..80).contains(&halo), "{halo}");

    let tiles = ExactTiles::new([512, 512], &reach)
        .with_accumulator(Accumulator::File(std::env::temp_dir()));
    let report = ExactReport::measure(&tiles, &unet, image(1500, 1100), |unet, tiles| {
        unet.forward_tiles(tiles)
    });
    assert!(report.relative() <= 1e-6, "{report}");
    assert!(report.is_exact() && report.largest > 0.0);
    assert!(report.to_string().contains("equal the whole image"));
}

#[test]
fn tiles_of_several_places_run_in_one_batch() {
    let unet = trained(small(2));
    let tiles = ExactTiles::with_halo([32, 32], 32, 4).with_batch_size(3);
    let mut largest = 0;
    let report = ExactReport::measure(&tiles, &unet, image(100, 250), |unet, tiles| {
        largest = largest.max(tiles.places.len());
        unet.forward_tiles(tiles)
    });
    assert!(report.is_exact(), "{report}");
    assert_eq!(largest, 3);
}

#[test]
fn bilinear_upsampling_that_is_not_told_its_place_is_off() {
    let unet = trained(small(2));
    let tiles = ExactTiles::with_halo([64, 64], 32, 4);
    let report = ExactReport::measure(&tiles, &unet, image(150, 110), |unet, tiles| {
        unet.forward(tiles.pixels)
    });
    assert!(!report.is_exact(), "{report}");
    assert!(report.to_string().contains("aligned corners"), "{report}");
}

#[test]
fn layers_that_see_the_whole_image_are_named_with_what_they_make_of_tiles() {
    let unet = trained(small(1).with_norm(NormKind::Group { groups: 2 }));
    let reach = reach(&unet, 64, 2);
    assert_eq!(reach.halo(), None);
    let tiles = ExactTiles::with_halo([64, 64], 16, 2);
    let report = ExactReport::measure(&tiles, &unet, image(150, 110), |unet, tiles| {
        unet.forward_tiles(tiles)
    });
    assert!(report.relative() > 1e-4, "{report}");
    let named = "inc.norm1.Group (GroupNorm), inc.norm2.Group (GroupNorm)";
    assert!(report.to_string().contains(named), "{report}");
}
