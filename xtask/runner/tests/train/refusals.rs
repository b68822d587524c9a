//! What is wrong is named, with what to do, and nothing that was saved is lost.

use std::fs;

use burn_memopt_datasets::synthetic::emitters::{EmitterConfig, EmitterMovie};
use burn_memopt_datasets::tiff::TiffStackWriter;
use image::{GrayImage, Rgb32FImage};
use rstest::rstest;

use crate::runner::{Run, Workplace, files_in, run};

/// A stack of 20 frames of 16×16 pixels with its table.
fn write_movie(place: &Workplace) -> (String, String) {
    let config = EmitterConfig::new()
        .with_num_frames(20)
        .with_height(16)
        .with_width(16);
    let files = EmitterMovie::generate(&config)
        .write(place.path("movie"))
        .expect("the movie is written");
    let text = |path: std::path::PathBuf| path.display().to_string();
    (text(files.frames), text(files.localizations))
}

/// A stack of 10 frames of 64×64 pixels, of which `frame` has a pixel of `value`, or all have one, and
/// a table with an emitter in each.
fn write_stack(place: &Workplace, frame: Option<u32>, value: f32) -> [String; 2] {
    let stack = place.path("stack.tif");
    let mut writer = TiffStackWriter::create(&stack, 64, 64).expect("a stack");
    for number in 0..10 {
        let mut pixels: Vec<f32> = (0..4096).map(|pixel| (pixel % 256) as f32).collect();
        if frame.is_none_or(|frame| frame == number) {
            pixels[17] = value;
        }
        writer.write_frame(&pixels).expect("a frame");
    }
    writer.finish().expect("the stack");
    let table = place.path("table.csv");
    let rows: String = (0..10).map(|frame| format!("{frame},5,6\n")).collect();
    fs::write(&table, format!("frame,x,y\n{rows}")).expect("a table");
    [stack, table].map(|path| path.display().to_string())
}

#[rstest]
#[case::f32_counting("unet", "f32", f32::NAN, &["1 of 2 items is not finite", "frame-00003"])]
#[case::f16_counting("unet", "f16", f32::NAN, &["1 of 2 items is not finite", "frame-00003"])]
#[case::f16_infinity("unet", "f16", f32::NEG_INFINITY, &["is not finite", "frame-00003"])]
#[case::f32_decode("decode", "f32", f32::NAN, &["is not finite", "(see frame 3)"])]
#[case::f16_decode("decode", "f16", f32::NAN, &["is not finite", "(see frame 3)"])]
fn a_frame_with_a_pixel_that_is_not_finite_is_named(
    #[case] model: &'static str,
    #[case] precision: &str,
    #[case] value: f32,
    #[case] words: &[&str],
) {
    let place = Workplace::of(model);
    let [stack, table] = write_stack(&place, Some(3), value);
    let data = ["--data", &stack, "--targets", &table, "--steps", "8"];
    let args = [&data[..], &["--precision", precision]].concat();
    let run = place.train("refused", &args);
    run.failed(1, &[&["training step"], words].concat());
}

#[rstest]
#[case::counting("unet", "frame-00009 is not finite")]
#[case::decode("decode", "frame 8 (see frame 9) is not finite")]
fn a_held_out_frame_that_is_not_finite_is_named(#[case] model: &'static str, #[case] words: &str) {
    let place = Workplace::of(model);
    let [stack, table] = write_stack(&place, Some(9), f32::NAN);
    let data = ["--data", &stack, "--targets", &table];
    let args = [&data[..], &["--steps", "2", "--holdout", "0.2"]].concat();
    place.train("a", &args).failed(1, &["evaluation", words]);
}

#[test]
fn an_image_with_a_value_that_is_not_finite_is_named() {
    let place = Workplace::new();
    for folder in ["images", "masks"] {
        fs::create_dir_all(place.path(folder)).expect("a folder");
    }
    for number in 0..4 {
        let value = if number == 1 { f32::NAN } else { 0.5 };
        let pixels = [vec![value], vec![0.25; 767]].concat();
        let image = Rgb32FImage::from_raw(16, 16, pixels).expect("an image");
        let path = place.path("images").join(format!("p{number}.tif"));
        image.save(path).expect("the image");
        let mask = GrayImage::from_fn(16, 16, |x, _| [255 * u8::from(x > 7)].into());
        let path = place.path("masks").join(format!("p{number}.png"));
        mask.save(path).expect("the mask");
    }
    let (images, masks) = (place.arg("images"), place.arg("masks"));
    let data = ["--images", &images, "--masks", &masks, "--holdout", "0"];
    let args = [&data[..], &["--steps", "4", "--precision", "f16"]].concat();
    let words = ["1 of 2 items is not finite", "p1"];
    place.train("a", &args).failed(1, &words);
}

#[test]
fn a_run_that_is_skipped_to_the_lowest_scale_fails_and_keeps_what_was_saved() {
    let place = Workplace::new();
    // Finite in f32, and beyond f16 however the loss is scaled.
    let [stack, table] = write_stack(&place, None, 1e8);
    let data = ["--data", &stack, "--targets", &table, "--precision", "f16"];
    let args = [&data[..], &["--steps", "40", "--save-every", "5"]].concat();
    let words = [
        "training step 17",
        "skipped 17 steps in a row",
        "loss scale 1",
    ];
    place.train("a", &args).failed(1, &words);
    assert!(place.path("a").join("checkpoint-15").is_dir());
}

fn train_on(place: &Workplace, stack: &str, table: &str) -> Run {
    place.train("refused", &["--data", stack, "--targets", table])
}

#[test]
fn a_missing_stack_is_named_before_anything_is_written() {
    let place = Workplace::new();
    let (_, table) = write_movie(&place);
    train_on(&place, "nowhere.tif", &table)
        .failed(1, &["nowhere.tif", "check that the file exists"]);
    assert!(!place.path("refused").exists());
}

#[test]
fn a_truncated_stack_is_named_with_its_page() {
    let place = Workplace::new();
    let (stack, table) = write_movie(&place);
    let whole = fs::read(&stack).expect("the stack");
    for len in [5, whole.len() / 2] {
        fs::write(&stack, &whole[..len]).expect("the stack is cut");
        train_on(&place, &stack, &table).failed(1, &["frames.tif"]);
    }
    fs::write(&stack, &whole[..whole.len() - 100]).expect("the stack is cut");
    assert!(!place.path("refused").exists());
    // The good pages are used, and the rows of the others are left out.
    let args = ["--data", &stack, "--targets", &table, "--steps", "1"];
    let run = place.train("refused", &args).succeeded();
    for words in ["page 19", "copy or export the stack again", "left out"] {
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
}

#[rstest]
#[case::one_value_a_group("4", 2)]
#[case::no_groups("0", 0)]
fn frames_of_one_pixel_are_refused_where_groups_have_one_value(
    #[case] groups: &str,
    #[case] code: i32,
) {
    let place = Workplace::of("decode");
    let stack = place.path("stack.tif");
    let mut writer = TiffStackWriter::create(&stack, 1, 1).expect("a stack");
    (0..6u8).for_each(|pixel| writer.write_frame(&[pixel]).expect("a frame"));
    writer.finish().expect("the stack");
    fs::write(place.path("table.csv"), "frame,x,y\n0,0.5,0.5\n4,0.2,0.5\n").expect("a table");
    let (stack, table) = (place.arg("stack.tif"), place.arg("table.csv"));
    let data = [
        "--data",
        &stack,
        "--targets",
        &table,
        "--norm-groups",
        groups,
    ];
    let args = [&data[..], &["--base-channels", "4", "--steps", "2"]].concat();
    let run = place.train("run", &args);
    match code {
        0 => drop(run.succeeded()),
        _ => drop(run.failed(code, &["1×1 pixels", "--norm-groups 4", "one value"])),
    }
}

#[test]
fn an_unknown_key_is_wrong_usage_and_named_with_its_file() {
    let place = Workplace::new();
    fs::write(place.path("run.toml"), "steps = 3\nlearning_rate = 0.1\n").expect("settings");
    let config = place.arg("run.toml");
    place
        .train("refused", &["--config", &config])
        .failed(2, &["learning_rate", "run.toml", "lr"]);
}

#[test]
fn impossible_settings_are_wrong_usage() {
    let place = Workplace::new();
    let cases: [(&[&str], &[&str]); 10] = [
        (
            &["--devices", "flex,,flex"],
            &["--device", "auto, flex, wgpu"],
        ),
        (&["--device", "flex,auto"], &["auto stands for one device"]),
        (&["--devices", "flex,cuda"], &["cuda", "--device"]),
        (&["--loss-scale", "0"], &["--loss-scale", "above 0"]),
        (&["--opt-level", "O3"], &["--opt-level", "O1", "O2"]),
        (&["--steps", "0"], &["--steps", "at least 1"]),
        (&["--depth", "6"], &["64 pixels", "32×32"]),
        (
            &["--loss", "bce-dice"],
            &["stacks must be count", "bce-dice"],
        ),
        (&["--weights", "a.txt"], &["--weights", ".safetensors"]),
        (&["--device", "cuda"], &["cuda", "--device"]),
    ];
    for (args, words) in cases {
        run(args).failed(2, words);
        place.train("refused", args);
        assert!(!place.path("refused").exists(), "{args:?}");
    }
}

#[test]
fn a_budget_that_no_cut_meets_is_answered_with_the_least_that_would_do() {
    let place = Workplace::new();
    let run = place.train("refused", &["--grad-checkpoint", "budget=10KiB"]);
    run.failed(1, &["--grad-checkpoint budget=10KiB", "the least", "allow"]);
    assert!(!place.path("refused").exists());
}

#[test]
fn the_artifacts_of_another_model_or_none_are_not_gone_on_with() {
    let place = Workplace::new();
    place.train("a", &["--steps", "1"]).succeeded();
    let config = place.path("a").join("config.json");
    let text = fs::read_to_string(&config).expect("the settings");
    fs::write(&config, text.replace("\"unet\"", "\"decode\"")).expect("the settings");
    let before = files_in(&place.path("a"));
    place
        .resume("a", &["--steps", "2"])
        .failed(1, &["decode", "unet"]);
    assert_eq!(files_in(&place.path("a")), before);
    place
        .resume("movie", &[])
        .failed(1, &["movie", "no run to resume"]);
}

#[test]
fn a_damaged_state_is_named_and_left_alone() {
    let place = Workplace::new();
    place.train("a", &["--steps", "1"]).succeeded();
    let model = place.path("a").join("checkpoint-1").join("model.bpk");
    let whole = fs::read(&model).expect("the model");
    fs::write(&model, &whole[..whole.len() / 2]).expect("the model is cut");
    let before = files_in(&place.path("a"));
    place
        .resume("a", &["--steps", "2"])
        .failed(1, &["model.bpk"]);
    assert_eq!(files_in(&place.path("a")), before);
}

#[test]
fn another_network_or_other_data_is_no_continuation() {
    let place = Workplace::new();
    place.train("a", &["--steps", "1"]).succeeded();
    let before = files_in(&place.path("a"));
    for flags in [
        ["--base-channels", "8"],
        ["--seed", "1"],
        ["--batch-size", "3"],
    ] {
        let words = ["keeps its", &flags[0][2..].replace('-', "_")];
        place.resume("a", &flags).failed(2, &words);
    }
    place
        .resume("a", &["--precision", "f16", "--steps", "2"])
        .failed(1, &["loss scaling", "precision of the saved run"]);
    assert_eq!(files_in(&place.path("a")), before);
}

#[test]
fn a_diverging_run_names_its_step_and_keeps_the_last_save() {
    let place = Workplace::new();
    place.train("a", &["--steps", "2"]).succeeded();
    let before = files_in(&place.path("a"));
    place
        .resume("a", &["--steps", "20", "--lr", "1e30"])
        .failed(
            1,
            &["training step 4", "NaN", "step 2 is saved", "--resume"],
        );
    let after = files_in(&place.path("a"));
    for (path, content) in before {
        assert_eq!(after.get(&path), Some(&content), "{}", path.display());
    }
    place.resume("a", &["--steps", "3"]).succeeded();
}

#[test]
fn a_folder_that_holds_something_is_not_written_into() {
    let place = Workplace::new();
    place.train("a", &["--steps", "1"]).succeeded();
    let before = files_in(&place.path("a"));
    place.train("a", &["--steps", "1"]).failed(1, &["--resume"]);
    assert_eq!(files_in(&place.path("a")), before);
}

#[test]
fn flags_that_change_nothing_are_named() {
    let place = Workplace::new();
    let half = ["--opt-level", "O2", "--loss-scale", "64"];
    let args = [&half[..], &["--sync-batch-norm", "--steps", "1"]].concat();
    let run = place.train("a", &args).succeeded();
    for words in [
        "--opt-level O2 changes nothing: the run computes in f32",
        "--loss-scale 64 changes nothing: it is for f16, and the run computes in f32",
        "--sync-batch-norm changes nothing: there is one device",
    ] {
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn a_precision_the_device_lacks_is_refused_with_those_it_has() {
    let place = Workplace::new();
    let args = ["--device", "wgpu", "--precision", "bf16"];
    let run = place.train("refused", &args);
    if run.stderr.contains("no wgpu") {
        println!("skipped: there is no wgpu device");
        return;
    }
    if run.code == Some(0) {
        println!("skipped: this device computes in bf16");
        return;
    }
    run.failed(2, &["--precision", "bf16", "choose f32"]);
    assert!(!place.path("refused").exists());
}
