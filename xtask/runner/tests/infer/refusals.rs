//! What is wrong is named, with what to do, before anything is written.

use std::fs;

use image::{DynamicImage, RgbImage};
use rstest::rstest;

use crate::runner::Workplace;
use crate::{counting, infer, read_stack, write_stack};

/// A model, a stack, an image, and what is no input.
fn prepare() -> Workplace {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 2, 20, 20);
    let image = DynamicImage::from(RgbImage::new(20, 20));
    image.save(place.path("color.png")).expect("an image");
    let whole = fs::read(place.path("in.tif")).expect("a stack");
    fs::write(place.path("cut.tif"), &whole[..whole.len() / 3]).expect("a file");
    fs::write(place.path("noise.png"), "no image").expect("a file");
    fs::write(place.path("notes.txt"), "no image").expect("a file");
    fs::create_dir(place.path("empty")).expect("a folder");
    place
}

#[test]
fn inputs_and_outputs_that_cannot_be_are_named() {
    let place = prepare();
    let cases: [(&str, &str, i32, &[&str]); 10] = [
        (
            "nowhere.tif",
            "out.tif",
            1,
            &["nowhere.tif", "check that it exists"],
        ),
        ("cut.tif", "out.tif", 1, &["cut.tif", "truncated"]),
        ("noise.png", "out.png", 1, &["noise.png", "replace it"]),
        (
            "color.png",
            "out.png",
            1,
            &["3 channels", "takes 1", "gray"],
        ),
        (
            "notes.txt",
            "out.png",
            2,
            &["notes.txt", "--input must", ".tif"],
        ),
        ("empty", "out", 1, &["empty", "no TIFF, PNG or JPEG"]),
        (
            "in.tif",
            "in.tif",
            2,
            &["--output must be another", "in.tif"],
        ),
        ("in.tif", "out.png", 2, &["2 pages", ".tif"]),
        ("in.tif", "out.bmp", 2, &["--output must", "out.bmp"]),
        (
            "in.tif",
            "notes.txt/out.tif",
            1,
            &["cannot make the folder", "notes.txt"],
        ),
    ];
    for (input, output, code, words) in cases {
        infer(&place, "model", input, output, &[]).failed(code, words);
    }
    for output in ["out", "out.tif", "out.png", "out.bmp"] {
        assert!(!place.path(output).exists(), "{output} was written");
    }
}

#[test]
fn a_damaged_end_leaves_the_good_pages() {
    let place = prepare();
    let whole = fs::read(place.path("in.tif")).expect("a stack");
    fs::write(place.path("in.tif"), &whole[..whole.len() - 60]).expect("a file");
    let run = infer(&place, "model", "in.tif", "out.tif", &[]).succeeded();
    let note = "the number of pages that are read is 1: page 1 is truncated";
    assert!(run.stderr.contains(note), "{}", run.stderr);
    assert_eq!(read_stack(&place.path("out.tif")).len(), 20 * 20);
}

#[test]
fn folders_that_hold_no_such_model_are_named() {
    let place = prepare();
    let refused = |model: &str, code, words: &[&str]| {
        infer(&place, model, "in.tif", "out.tif", &[]).failed(code, words);
    };
    refused("empty", 1, &["empty", "no artifact folder", "config.json"]);
    let (config, model) = (
        place.path("model/config.json"),
        place.path("model/checkpoint-2/model.bpk"),
    );
    let text = fs::read_to_string(&config).expect("the settings");
    let write = |path, text: &[u8]| fs::write(path, text).expect("a file");
    write(&config, text.replace("\"unet\"", "\"decode\"").as_bytes());
    refused("model", 2, &["the model decode", "no U-Net"]);
    write(&config, b"{");
    refused("model", 1, &["cannot use the settings in", "config.json"]);
    write(
        &config,
        text.replace("\"depth\": 1", "\"depth\": 2").as_bytes(),
    );
    refused("model", 1, &["model.bpk"]);
    write(&config, text.as_bytes());

    let whole = fs::read(&model).expect("the weights");
    write(&model, &whole[..whole.len() / 2]);
    refused("model", 1, &["cannot use the weights", "model.bpk"]);
    fs::remove_dir_all(place.path("model/checkpoint-2")).expect("a folder");
    refused("model", 1, &["saved nothing yet"]);
    assert!(!place.path("out.tif").exists());
}

#[rstest]
#[case::chunk(&["--chunk-size", "1"], &["--chunk-size", "at least 2", "got 1"])]
#[case::no_chunk(&["--chunk-size", "0"], &["--chunk-size", "at least 1"])]
#[case::overlap(&["--overlap", "1"], &["--overlap", "below 1"])]
#[case::batch(&["--batch-size", "0"], &["--batch-size", "at least 1"])]
#[case::two_batches(&["--batch-size", "2", "--auto-batch-size"], &["--auto-batch-size", "cannot be used"])]
#[case::bounds(&["--auto-batch-size", "--min-batch-size", "9", "--max-batch-size", "3"], &["--max-batch-size", "9"])]
#[case::exact_overlap(&["--exact", "--overlap", "0.5"], &["--exact", "cannot be used"])]
#[case::budget(&["--budget", "2 elephants"], &["--budget", "elephants"])]
#[case::threshold(&["--memory-threshold", "0"], &["--memory-threshold", "above 0"])]
#[case::device(&["--device", "cuda"], &["cuda", "--device"])]
fn settings_that_cannot_be_are_wrong_usage(#[case] args: &[&str], #[case] words: &[&str]) {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 1, 20, 20);
    infer(&place, "model", "in.tif", "out.tif", args).failed(2, words);
    assert!(!place.path("out.tif").exists());
}

#[test]
fn a_file_of_others_is_written_over_only_where_that_is_asked_for() {
    let place = prepare();
    write_stack(&place.path("one.tif"), 1, 20, 20);
    fs::create_dir_all(place.path("inputs")).expect("a folder");
    fs::create_dir_all(place.path("outputs")).expect("a folder");
    fs::copy(place.path("in.tif"), place.path("inputs/in.tif")).expect("a stack");
    for (input, output, taken) in [
        ("in.tif", "out.tif", "out.tif"),
        ("one.tif", "out.png", "out.png"),
        ("inputs", "outputs", "outputs/in.tif"),
    ] {
        let theirs = match input {
            "one.tif" => "color.png",
            _ => "in.tif",
        };
        fs::copy(place.path(theirs), place.path(taken)).expect("a file");
        let run = infer(&place, "model", input, output, &[]);
        run.failed(1, &[taken, "no result of infer", "--overwrite"]);
        let kept = [theirs, taken].map(|name| fs::read(place.path(name)).expect("a file"));
        assert_eq!(kept[0], kept[1]);
        infer(&place, "model", input, output, &["--overwrite"]).succeeded();
        // Its own results it replaces without being asked.
        infer(&place, "model", input, output, &["--batch-size", "1"]).succeeded();
        assert_ne!(fs::read(place.path(taken)).expect("a file"), kept[0]);
    }
}
