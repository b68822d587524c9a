//! `train watermark`: what differs from `train unet`.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use rstest::rstest;

use crate::runner::{Run, Workplace, files_in};

/// Images so few and small that they are made in no time.
const FEW: [&str; 4] = ["--num-images", "10", "--image-size", "32"];

fn train(place: &Workplace, name: &str, args: &[&str]) -> Run {
    place.train(name, &[&FEW, args].concat())
}

fn num_files(folder: &Path) -> usize {
    files_in(folder).len()
}

/// Three photographs, of which one is smaller than the images.
fn write_photographs(place: &Workplace) -> String {
    fs::create_dir_all(place.path("photographs")).expect("a folder");
    for (name, side) in [("1.png", 100), ("2.png", 70), ("3.png", 20)] {
        RgbImage::from_fn(side, side, |x, y| Rgb([x as u8, y as u8, 77]))
            .save(place.path("photographs").join(name))
            .expect("an image");
    }
    place.arg("photographs")
}

#[test]
fn a_run_without_data_makes_its_own_and_is_judged_on_some_of_it() {
    let place = Workplace::of("watermark");
    let run = train(&place, "a", &["--steps", "40", "--lr", "0.01"]).succeeded();
    let dir = place.path("a");
    assert_eq!(num_files(&dir.join("data/images")), 10);
    assert_eq!(num_files(&dir.join("data/masks")), 10);
    // Two of ten are held out.
    assert_eq!(num_files(&dir.join("samples")), 2);
    let summary = run.summary();
    let number = |key: &str| summary[key].as_f64().expect("a number");
    assert!(
        number("loss_last") < 0.9 * number("loss_first"),
        "{summary}"
    );
    let iou = summary["metrics"]["iou"].as_f64().expect("a number");
    assert!((0.0..=1.0).contains(&iou));
}

#[test]
fn a_resumed_run_gives_the_losses_of_an_uninterrupted_one() {
    let place = Workplace::of("watermark");
    let whole = train(&place, "whole", &["--steps", "4"]).succeeded();
    let first = train(&place, "parts", &["--steps", "2"]).succeeded();
    let second = place.resume("parts", &["--steps", "4"]).succeeded();
    let mut losses = first.losses();
    losses.extend(second.losses());
    assert_eq!(losses, whole.losses());
    assert_eq!(second.summary()["metrics"], whole.summary()["metrics"]);
}

#[test]
fn watermarks_are_drawn_on_photographs() {
    let place = Workplace::of("watermark");
    let photographs = write_photographs(&place);
    train(&place, "a", &["--steps", "1", "--images", &photographs]).succeeded();
    let image = place.path("a").join("data/images/00000.png");
    let pixels = image::open(image).expect("an image").to_rgb8();
    assert_eq!(pixels.dimensions(), (32, 32));
    assert!(pixels.pixels().any(|pixel| pixel.0[2] == 77));

    // What was made once is data like any other.
    let (images, masks) = (place.arg("a/data/images"), place.arg("a/data/masks"));
    let args = ["--steps", "1", "--images", &images, "--masks", &masks];
    let run = place.train("b", &args).succeeded();
    assert!(run.summary()["metrics"]["iou"].is_number());
    assert!(!place.path("b").join("data").exists());
}

#[rstest]
#[case::photographs(&["--images", "nowhere"], 1, &["nowhere", "check that it exists"])]
#[case::masks_alone(&["--masks", "nowhere"], 2, &["--images"])]
#[case::too_small(&["--image-size", "8"], 2, &["--image-size", "at least 16"])]
#[case::too_deep(&["--depth", "5", "--image-size", "16"], 2, &["32 pixels", "16×16"])]
#[case::one_image(&["--num-images", "1"], 2, &["--num-images", "at least 2"])]
#[case::a_flag_of_another_model(&["--targets", "a.csv"], 2, &["--targets"])]
fn what_cannot_be_is_refused_before_anything_is_written(
    #[case] args: &[&str],
    #[case] code: i32,
    #[case] words: &[&str],
) {
    let place = Workplace::of("watermark");
    place.train("refused", args).failed(code, words);
    assert!(!place.path("refused").exists());
}

#[test]
fn a_key_of_another_model_is_refused_and_those_of_this_one_are_named() {
    let place = Workplace::of("watermark");
    fs::write(place.path("run.toml"), "steps = 3\ntargets = \"a\"\n").expect("settings");
    let config = place.arg("run.toml");
    place
        .train("refused", &["--config", &config])
        .failed(2, &["\"targets\"", "run.toml", "image_size", "lr"]);
}

#[test]
fn only_the_same_images_and_the_same_model_are_gone_on_with() {
    let place = Workplace::of("watermark");
    train(&place, "a", &["--steps", "1"]).succeeded();
    let before = files_in(&place.path("a"));
    place
        .resume("a", &["--image-size", "48"])
        .failed(2, &["keeps its image_size", "32", "48"]);
    place
        .resume("a", &["--steps", "9", "--lr", "1e30"])
        .failed(1, &["burn-memopt train watermark --resume"]);
    let unet = Workplace::new();
    unet.resume(&place.arg("a"), &["--steps", "2"])
        .failed(1, &["the model watermark", "the model unet"]);
    let after = files_in(&place.path("a"));
    assert!(
        before
            .iter()
            .all(|(path, content)| after.get(path) == Some(content))
    );
}

#[test]
fn what_would_be_done_is_shown_and_not_done() {
    let place = Workplace::of("watermark");
    let run = train(&place, "a", &["--dry-run"]).succeeded();
    assert!(!place.path("a").exists());
    let plan = &run.events[0];
    assert_eq!(plan["settings"]["image_size"], 32);
    assert!(
        plan["memory"]["peak"]
            .as_u64()
            .expect("counted on the host")
            > 10_000
    );
}
