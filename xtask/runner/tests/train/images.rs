//! Folders of images and masks that are refused, and small ones that are not.

use std::fs;

use image::{GrayImage, Luma, Rgb, RgbImage};
use rstest::rstest;

use crate::runner::Workplace;

/// Writes images and masks of these sides and returns the flags that name them.
fn write_pairs(place: &Workplace, sides: &[u32]) -> [String; 4] {
    for folder in ["images", "masks"] {
        fs::create_dir_all(place.path(folder)).expect("a folder");
    }
    for (index, &side) in sides.iter().enumerate() {
        let name = format!("{index}.png");
        let noise = |x: u32, y: u32| Rgb([(x * 37 + y * 91 + side) as u8; 3]);
        let image = RgbImage::from_fn(side, side, noise);
        image
            .save(place.path("images").join(&name))
            .expect("an image");
        let mask = GrayImage::from_pixel(side, side, Luma([255]));
        mask.save(place.path("masks").join(&name)).expect("a mask");
    }
    let (images, masks) = (place.arg("images"), place.arg("masks"));
    ["--images".into(), images, "--masks".into(), masks]
}

#[test]
fn a_mask_of_another_size_is_named_with_both_sizes() {
    let place = Workplace::new();
    for (name, side) in [("1", 16), ("2", 16)] {
        fs::create_dir_all(place.path("images")).expect("a folder");
        fs::create_dir_all(place.path("masks")).expect("a folder");
        let image = place.path("images").join(format!("{name}.png"));
        RgbImage::new(side, side).save(image).expect("an image");
        let side = if name == "2" { 8 } else { side };
        let mask = place.path("masks").join(format!("{name}.png"));
        GrayImage::new(side, side).save(mask).expect("a mask");
    }
    let (images, masks) = (place.arg("images"), place.arg("masks"));
    let run = place.train("refused", &["--images", &images, "--masks", &masks]);
    run.failed(1, &["16×16", "8×8", "2.png"]);
    assert!(!place.path("refused").exists());
}

#[test]
fn verifying_names_every_damaged_file_before_the_run() {
    let place = Workplace::new();
    let data = write_pairs(&place, &[16; 4]);
    for name in ["2.png", "3.png"] {
        let image = place.path("images").join(name);
        let mut bytes = fs::read(&image).expect("the image");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(&image, bytes).expect("the image is damaged");
    }
    let args = [&data.each_ref().map(String::as_str)[..], &["--verify"]].concat();
    place.train("refused", &args).failed(1, &["2.png", "3.png"]);
    assert!(!place.path("refused").exists());
}

#[rstest]
fn images_of_few_pixels_are_learned_from(
    #[values(2, 3, 4)] side: u32,
    #[values("group", "batch")] norm: &str,
    #[values("1", "4")] channels: &str,
) {
    let place = Workplace::new();
    let data = write_pairs(&place, &[side; 4]);
    let flags = [
        "--norm",
        norm,
        "--base-channels",
        channels,
        "--batch-size",
        "1",
        "--steps",
        "2",
    ];
    let args = [&data.each_ref().map(String::as_str)[..], &flags].concat();
    let run = place.train("run", &args);
    if (norm, channels) == ("group", "1") && side < 4 {
        run.failed(2, &["halved to a single one", "--base-channels 2"]);
    } else {
        run.succeeded();
    }
}

#[test]
fn the_smallest_image_decides_whether_a_network_fits() {
    for sides in [[16, 16, 1, 16], [1, 16, 16, 16], [3, 2, 16, 1]] {
        let place = Workplace::new();
        let data = write_pairs(&place, &sides);
        let args = [
            &data.each_ref().map(String::as_str)[..],
            &["--batch-size", "1"],
        ]
        .concat();
        let words = ["at least 2 pixels a side", "1×1", "leave out or enlarge"];
        place.train("refused", &args).failed(2, &words);
        assert!(!place.path("refused").exists());
    }
}

#[test]
fn classes_are_learned_by_cross_entropy_alone() {
    let place = Workplace::new();
    let args = [
        "--images",
        "a",
        "--masks",
        "b",
        "--classes",
        "3",
        "--loss",
        "bce-dice",
    ];
    place
        .train("refused", &args)
        .failed(2, &["cross-entropy", "--classes"]);
}
