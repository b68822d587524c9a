//! `train flow-completion` and `train propainter`: what differs from `train unet`.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use burn_memopt_datasets::synthetic::clip::{MovingClipConfig, write_clips};
use burn_memopt_datasets::video::FrameFormat;
use burn_memopt_models::propainter::raft::Raft;
use burn_memopt_models::propainter::{FlowCompletion, InpaintGeneratorConfig, Published};
use burn_memopt_models::weights::StateDict;
use rstest::rstest;

use crate::runner::{Run, Workplace, files_in, tensors};

fn metric(run: &Run, name: &str) -> f64 {
    let metrics = &run.summary()["metrics"];
    metrics[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} in {metrics}"))
}

/// Writes `num_videos` videos of `num_frames` frames as YouTube-VOS has them.
fn write_videos(root: &Path, num_videos: usize, num_frames: usize) {
    let config = MovingClipConfig::new()
        .with_num_frames(num_frames)
        .with_height(48)
        .with_width(72);
    write_clips(root, &config, num_videos, FrameFormat::Jpeg { quality: 90 }).expect("videos");
}

#[test]
fn flow_completion_learns_from_generated_videos_and_a_generator_goes_on_with_what_it_left() {
    let flow = Workplace::of("flow-completion");
    let args = ["--steps", "12", "--lr", "0.001"];
    let run = flow.train("a", &args).succeeded();
    assert!(!run.stderr.contains("procedural"), "{}", run.stderr);
    let [trained, before] = ["epe_px", "epe_before_px"].map(|name| metric(&run, name));
    assert!(trained < before, "{trained} {before}");
    assert!(flow.path("a").join("data/JPEGImages/clip-2").is_dir());

    let (weights, device) = (flow.path("a").join("weights"), Device::flex());
    assert_eq!(files_in(&weights).len(), 1);
    let raft = weights.join("raft-things.safetensors");
    let made_up = Raft::procedural(&device);
    made_up.save_safetensors(&raft).expect("weights");
    let painter = Workplace::of("propainter");
    let folder = weights.display().to_string();
    let args = ["--steps", "2", "--weights", &folder];
    let run = painter.train("b", &args).succeeded();
    // Two steps against a discriminator lead anywhere.
    assert_ne!(metric(&run, "psnr_db"), metric(&run, "psnr_before_db"));
    assert_ne!(metric(&run, "l1"), metric(&run, "l1_before"));
    assert!(!files_in(&painter.path("b").join("samples")).is_empty());

    // Names and shapes are those that are published; files of the networks before are passed on.
    let left = painter.path("b").join("weights");
    Raft::load_published(&left, &device).expect("optical flow");
    FlowCompletion::load_published(&left, &device).expect("flow completion");
    let generator = InpaintGeneratorConfig::new().with_depth(1).init(&device);
    generator
        .load_safetensors(left.join("ProPainter.safetensors"))
        .expect("the generator");
    let completion = "recurrent_flow_completion.safetensors";
    let [given, passed_on] = [&weights, &left].map(|folder| {
        let file = fs::read(folder.join(completion));
        tensors(file.expect("a file"))
    });
    assert!(given == passed_on);
}

#[rstest]
#[case::flow_completion("flow-completion", "")]
#[case::flow_completion_recomputing_in_groups(
    "flow-completion",
    "--grad-checkpoint block --accumulation-steps 2"
)]
#[case::generator_in_half_precision("propainter", "--fp16 --grad-checkpoint block")]
fn a_resumed_run_gives_the_losses_and_weights_of_an_uninterrupted_one(
    #[case] model: &'static str,
    #[case] flags: &str,
) {
    let place = Workplace::of(model);
    let flags: Vec<_> = flags.split_whitespace().collect();
    let with = |steps| [&flags[..], &["--steps", steps]].concat();
    let whole = place.train("whole", &with("2")).succeeded();
    let first = place.train("parts", &with("1")).succeeded();
    let second = place.resume("parts", &["--steps", "2"]).succeeded();
    let mut losses = first.losses();
    losses.extend(second.losses());
    assert_eq!(losses.len(), 2);
    assert_eq!(losses, whole.losses());
    assert_eq!(second.summary()["metrics"], whole.summary()["metrics"]);
    let weights = |name: &str| {
        let files = files_in(&place.path(name).join("weights")).into_values();
        files.map(tensors).collect::<Vec<_>>()
    };
    assert!(weights("whole") == weights("parts"));
}

#[rstest]
#[case::flow_completion("flow-completion")]
#[case::generator("propainter")]
fn recomputing_changes_no_loss_and_needs_less(#[case] model: &'static str) {
    let place = Workplace::of(model);
    let train = |policy| {
        let args = [
            "--steps",
            "2",
            "--holdout",
            "0",
            // Fewer frames take less than the step of the generator's optimizer.
            "--num-local",
            "6",
            "--grad-checkpoint",
            policy,
        ];
        place.train(policy, &args).succeeded()
    };
    let (plain, recomputed) = (train("none"), train("block"));
    assert_eq!(recomputed.losses(), plain.losses());
    assert_eq!(recomputed.summary()["metrics"], serde_json::json!({}));
    let peak = |run: &Run| run.summary()["peak_bytes"].as_u64();
    assert!(
        peak(&recomputed) < peak(&plain),
        "{:?} {:?}",
        peak(&recomputed),
        peak(&plain)
    );
}

#[test]
fn videos_of_any_size_are_scaled_and_learned_from() {
    let place = Workplace::of("flow-completion");
    write_videos(&place.path("videos"), 2, 3);
    let data = place.arg("videos");
    let args = ["--steps", "1", "--data", &data, "--width", "72"];
    let args: Vec<_> = args.into_iter().collect();
    let run = place.train("a", &args).succeeded();
    assert!(
        run.stderr.contains("--weights procedural"),
        "{}",
        run.stderr
    );
    assert!(metric(&run, "epe_px").is_finite());
    assert!(!place.path("a").join("data").exists());
}

#[rstest]
#[case::too_small("flow-completion", &["--height", "56"], 2, &["--height", "multiple of 8", "64", "56"])]
#[case::a_single_frame("flow-completion", &["--num-local", "1"], 2, &["--num-local", "at least 2"])]
#[case::a_flag_of_another_model("flow-completion", &["--num-reference", "1"], 2, &["--num-reference"])]
#[case::cuts("flow-completion", &["--grad-checkpoint", "segments=2"], 2, &["none or block", "segments=2"])]
#[case::undone_steps("propainter", &["--auto-micro-batch"], 2, &["--auto-micro-batch", "--accumulation-steps"])]
#[case::no_data("flow-completion", &["--data", "no"], 1, &["no", "folder"])]
#[case::no_weights("flow-completion", &["--weights", "no"], 1, &["raft-things", "weights"])]
#[case::weights_of_another_kind("propainter", &["--init-weights", "a.txt"], 2, &["--init-weights must end in .safetensors"])]
fn what_cannot_be_is_refused_before_anything_is_written(
    #[case] model: &'static str,
    #[case] args: &[&str],
    #[case] code: i32,
    #[case] words: &[&str],
) {
    let place = Workplace::of(model);
    place.train("refused", args).failed(code, words);
    assert!(!place.path("refused").exists());
}

#[test]
fn folders_that_hold_no_clip_are_named() {
    let place = Workplace::of("propainter");
    fs::create_dir(place.path("empty")).expect("a folder");
    write_videos(&place.path("short"), 2, 2);
    write_videos(&place.path("single"), 1, 4);
    for (data, words) in [
        ("empty", ["empty", "one folder"]),
        ("short", ["clip-0 holds 2 frames", "needs 3"]),
        ("single", ["1 item", "--holdout 0"]),
    ] {
        let path = place.arg(data);
        let run = place.train("refused", &["--data", &path]);
        let code = if data == "single" { 2 } else { 1 };
        run.failed(code, &words);
        assert!(!place.path("refused").exists());
    }
}

#[test]
fn only_the_same_clips_and_networks_are_gone_on_with() {
    let place = Workplace::of("propainter");
    let args = ["--steps", "1", "--holdout", "0"];
    place.train("a", &args).succeeded();
    for flags in [
        ["--num-local", "3"],
        ["--num-reference", "2"],
        ["--depth", "2"],
    ] {
        let words = ["keeps its", &flags[0][2..].replace('-', "_")];
        place.resume("a", &flags).failed(2, &words);
    }
}
