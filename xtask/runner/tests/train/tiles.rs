//! `--use-chunking`: images of any size, tile by tile.

use std::fs;

use rstest::rstest;
use serde_json::Value;

use crate::runner::{Run, Workplace};

/// Images of 3 by 3 tiles.
const FEW: [&str; 4] = ["--num-images", "6", "--image-size", "72"];

const TILES: [&str; 3] = ["--use-chunking", "--chunk-size", "32"];

fn train(place: &Workplace, name: &str, args: &[&str]) -> Run {
    let norm: &[&str] = match args.contains(&"--norm") {
        true => &[],
        false => &["--norm", "channel"],
    };
    place.train(name, &[&FEW, norm, args].concat())
}

#[rstest]
#[case::channel("")]
#[case::none("--norm none --upsampling transposed")]
#[case::frozen("--norm batch --freeze-norm")]
#[case::recomputed("--grad-checkpoint block")]
#[case::two_devices("--devices flex,flex --accumulation-steps 2")]
fn tiles_have_the_losses_of_whole_images(#[case] flags: &str) {
    let place = Workplace::of("watermark");
    let flags: Vec<_> = flags.split_whitespace().collect();
    let flags = [&flags[..], &["--steps", "4"]].concat();
    let whole = train(&place, "whole", &flags).succeeded();
    let tiled = train(&place, "tiles", &[&flags[..], &TILES].concat()).succeeded();
    assert!(
        tiled
            .stderr
            .contains("tiles of 32×32 pixels with a margin of 1"),
        "{}",
        tiled.stderr
    );
    let (whole_losses, tiled_losses) = (whole.losses(), tiled.losses());
    assert_eq!(whole_losses.len(), 4);
    for (whole, tiled) in whole_losses.values().zip(tiled_losses.values()) {
        let [whole, tiled] = [whole, tiled].map(|loss| loss.parse::<f64>().expect("a number"));
        assert!(
            (whole - tiled).abs() <= 1e-4 * whole,
            "{whole_losses:?} {tiled_losses:?}"
        );
    }
    let iou = |run: &Run| run.summary()["metrics"]["iou"].as_f64().expect("a number");
    assert!((iou(&whole) - iou(&tiled)).abs() < 0.01);
}

#[test]
fn a_resumed_run_on_tiles_gives_the_losses_of_an_uninterrupted_one() {
    let place = Workplace::of("watermark");
    let with = |steps| [&TILES[..], &["--steps", steps]].concat();
    let whole = train(&place, "whole", &with("4")).succeeded();
    let first = train(&place, "parts", &with("2")).succeeded();
    let second = place.resume("parts", &["--steps", "4"]).succeeded();
    let mut losses = first.losses();
    losses.extend(second.losses());
    assert_eq!(losses, whole.losses());
    assert_eq!(second.summary()["metrics"], whole.summary()["metrics"]);
}

#[test]
fn counts_and_sizes_by_memory_work_too() {
    let place = Workplace::new();
    let args = ["--steps", "2", "--norm", "channel", "--use-chunking"];
    let tiled = place.train("count", &args).succeeded();
    assert_eq!(tiled.losses().len(), 2);
    let group = [
        &args[..2],
        &[
            "--use-chunking",
            "--approximate-chunks",
            "--chunk-size",
            "16",
        ],
    ];
    place.train("approximate", &group.concat()).succeeded();
}

/// Images of some megapixels would take long; these have tiles of several sizes.
const LARGE: [&str; 8] = [
    "--norm",
    "channel",
    "--num-images",
    "4",
    "--image-size",
    "320",
    "--batch-size",
    "1",
];

fn planned(place: &Workplace, name: &str, args: &[&str]) -> Run {
    let args = [&LARGE[..], &["--use-chunking", "--steps", "2"], args].concat();
    place.train(name, &args)
}

/// What a dry run says of a budget.
fn plan(place: &Workplace, args: &[&str]) -> Value {
    let run = planned(place, "dry", &[args, &["--dry-run"]].concat()).succeeded();
    run.events[0].clone()
}

fn side(plan: &Value) -> u64 {
    plan["tiles"]["plan"]["core"][0].as_u64().expect("a number")
}

#[test]
fn a_budget_decides_tiles_and_checkpointing_and_is_kept() {
    let place = Workplace::of("watermark");
    let free = plan(&place, &["--budget", "4GiB"]);
    assert_eq!(side(&free), 320);
    assert_eq!(free["tiles"]["plan"]["grad_checkpoint"], "none");
    let peak = |plan: &Value| plan["memory"]["peak"].as_u64().expect("a number");
    let small = plan(&place, &["--chunk-size", "64", "--grad-checkpoint", "none"]);
    assert!(peak(&small) < peak(&free));

    // Half of what larger tiles take.
    let budget = peak(&free) - (peak(&free) - peak(&small)) / 2;
    let given = format!("{budget}B");
    let tight = plan(&place, &["--budget", &given]);
    assert!(side(&tight) < 320, "{tight}");
    assert!(peak(&tight) <= budget, "{} of {budget}", peak(&tight));
    let why = tight["tiles"]["chosen"]["reasons"][0]["why"].as_str();
    assert!(
        why.expect("text").contains("pixels for each kept"),
        "{why:?}"
    );

    // A policy that is given is kept.
    let cut = plan(&place, &["--budget", &given, "--grad-checkpoint", "block"]);
    assert_eq!(cut["tiles"]["plan"]["grad_checkpoint"], "block");
    assert!(side(&cut) >= side(&tight));
    // So is a tile.
    let fixed = plan(&place, &["--budget", &given, "--chunk-size", "40"]);
    assert_eq!(side(&fixed), 40);

    let run = planned(&place, "run", &["--budget", &given]).succeeded();
    let line = run
        .stderr
        .lines()
        .find(|line| line.starts_with("tiles of "));
    let line = line.expect("a line about the tiles");
    for word in [
        "with a margin of",
        "1 at once, --grad-checkpoint",
        "% of the pixels",
    ] {
        assert!(line.contains(word), "{line}");
    }
    let file = fs::read_to_string(place.path("run").join("tiles.json")).expect("the plan");
    let saved: Value = serde_json::from_str(&file).expect("JSON");
    let resumed = place.resume("run", &["--steps", "3"]).succeeded();
    assert!(resumed.stderr.contains(line), "{}", resumed.stderr);
    let file = fs::read_to_string(place.path("run").join("tiles.json")).expect("the plan");
    assert_eq!(serde_json::from_str::<Value>(&file).expect("JSON"), saved);
}

#[rstest]
#[case::little(&["--budget", "1MiB"], &["--budget 1.0 MiB is not enough", "allow"])]
#[case::none(&["--budget", "elephants"], &["--budget", "elephants"])]
fn budgets_that_are_no_use_are_refused(#[case] args: &[&str], #[case] words: &[&str]) {
    let place = Workplace::of("watermark");
    planned(&place, "refused", args).failed(2, words);
    assert!(!place.path("refused").exists());
}

#[test]
fn flags_of_tiles_are_refused_without_them() {
    let place = Workplace::of("watermark");
    let run = place.train("refused", &["--budget", "1GiB"]);
    run.failed(2, &["--budget is for --progressive or --use-chunking"]);
    let run = place.train("refused", &["--grad-checkpoint", "auto"]);
    run.failed(2, &["--grad-checkpoint auto is for --use-chunking"]);
    for flags in [&["--chunk-size", "64"][..], &["--approximate-chunks"]] {
        let run = place.train("refused", flags);
        run.failed(
            2,
            &["--chunk-size and --approximate-chunks are for --use-chunking"],
        );
    }
    let run = Workplace::of("gan").train("refused", &["--budget", "1GiB"]);
    run.failed(2, &["--budget is for --progressive;"]);
}

#[rstest]
#[case::group("--norm group", "which tiles do not have with --norm group")]
#[case::batch(
    "--norm batch",
    "use --norm channel or none, --norm batch with --freeze-norm"
)]
#[case::frozen_group("--norm group --freeze-norm", "--freeze-norm is for --norm batch")]
#[case::small("--chunk-size 16", "a tile must keep at least twice its margin")]
#[case::tiny("--chunk-size 1", "--chunk-size must be at least the 2 pixels")]
fn tiles_that_are_not_exact_are_refused(#[case] flags: &str, #[case] words: &str) {
    let place = Workplace::of("watermark");
    let flags: Vec<_> = flags.split_whitespace().collect();
    let args = [&["--use-chunking", "--steps", "1"], &flags[..]].concat();
    let run = train(&place, "refused", &args);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains(words), "{}", run.stderr);
    assert!(!place.path("refused").exists());
}
