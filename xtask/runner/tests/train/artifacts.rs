//! What a run leaves behind, and what it says it learned.

use std::fs;
use std::process::Command;

use image::{GrayImage, Luma, Rgb, RgbImage};

use crate::runner::{TINY, Workplace, run};

#[test]
fn a_run_leaves_what_is_promised() {
    let place = Workplace::new();
    let run = place
        .train("a", &["--steps", "5", "--save-every", "2"])
        .succeeded();
    let dir = place.path("a");
    let names = |folder: &str| {
        let entries = fs::read_dir(dir.join(folder)).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("UTF-8")
            })
            .collect();
        names.sort();
        names
    };
    let expected = [
        "checkpoint-4",
        "checkpoint-5",
        "config.json",
        "data",
        "latest",
        "memory.csv",
        "memory.png",
        "metrics.json",
        "normalization.json",
        "performance.json",
        "samples",
    ];
    assert_eq!(names("."), expected);
    assert_eq!(
        names("checkpoint-5"),
        ["model.bpk", "optimizer.bpk", "state.json"]
    );
    assert_eq!(names("data"), ["frames.tif", "localizations.csv"]);
    assert_eq!(names("samples").len(), 4);
    for name in names("samples") {
        let picture = image::open(dir.join("samples").join(name)).expect("a picture");
        // Three panels of 32 pixels, six times enlarged, and two gaps.
        assert_eq!((picture.width(), picture.height()), (3 * 192 + 2 * 4, 192));
    }
    image::open(dir.join("memory.png")).expect("a picture");
    let table = fs::read_to_string(dir.join("memory.csv")).expect("a table");
    assert!(
        table.lines().count() >= 6 && table.contains("live_peak_bytes"),
        "{table}"
    );

    let saves: Vec<_> = run
        .events
        .iter()
        .filter(|event| event["event"] == "save")
        .collect();
    assert_eq!(saves.len(), 3);
    assert!(
        run.stderr.contains("items/s") && run.stderr.contains("memory "),
        "{}",
        run.stderr
    );
    let summary = run.summary();
    assert!(summary["peak_bytes"].as_u64().expect("counted on the host") > 100_000);
    assert!(
        summary["metrics"]["count_correlation"].is_number(),
        "{summary}"
    );
    assert_eq!(summary["device"], "flex");
}

/// What a step of 16 images takes, in the order of the table.
const WAYS: [&str; 5] = ["this run", "plain", "recomputation", "accumulation", "both"];

#[test]
fn a_run_ends_with_what_its_step_takes_in_other_ways() {
    let place = Workplace::new();
    let args = ["--steps", "3", "--batch-size", "16", "--depth", "3"];
    let run = place.train("a", &args).succeeded();
    let ways = run.summary()["comparison"].as_array().expect("rows");
    let names: Vec<_> = ways.iter().map(|way| way["name"].as_str()).collect();
    assert_eq!(names, WAYS.map(Some));
    let peak = |way: usize| ways[way]["peak_bytes"].as_u64().expect("counted");
    assert_eq!(
        peak(0),
        run.summary()["peak_bytes"].as_u64().expect("counted")
    );
    assert_eq!(peak(0), peak(1));
    assert!((2..5).all(|way| peak(way) < peak(1)), "{ways:?}");
    assert!(peak(4) < peak(3), "{ways:?}");
    assert!(
        ways.iter()
            .all(|way| way["seconds_per_step"].as_f64() > Some(0.0))
    );

    // Runs by the commands take what the table says.
    for way in &ways[2..] {
        let command = way["command"].as_str().expect("a command");
        // Which every run here is given anyway.
        let command = command.replace("--log-every 1", "");
        let mut words = command.split_whitespace();
        words.find(|word| *word == "unet");
        let flags: Vec<_> = words.collect();
        let dir = place.arg(way["name"].as_str().expect("a name"));
        let run = crate::runner::run(&[&flags[..], &["--artifact-dir", &dir]].concat()).succeeded();
        let taken = run.summary()["peak_bytes"].as_f64().expect("counted");
        let deviation = taken / way["peak_bytes"].as_f64().expect("counted") - 1.0;
        assert!(deviation.abs() < 0.05, "{command}: {deviation}");
    }
}

#[test]
fn the_comparison_is_a_table_on_stdout_where_no_machine_reads() {
    let place = Workplace::new();
    let output = Command::new(env!("CARGO_BIN_EXE_burn-memopt"))
        .args(["train", "--steps", "1", "--artifact-dir", &place.arg("a")])
        .args(TINY)
        .env_remove("BURN_MEMOPT_DEVICE")
        .output()
        .expect("the runner starts");
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{table}");
    for way in WAYS {
        assert!(table.lines().any(|line| line.starts_with(way)), "{table}");
    }
    let both = "burn-memopt train unet --accumulation-steps 2 --base-channels 4 --batch-size 1 \
                --depth 1 --grad-checkpoint block --steps 1";
    assert!(table.contains(both), "{table}");
}

#[test]
fn recomputing_lowers_the_peak_in_the_summary() {
    let place = Workplace::new();
    let peak = |policy: &str| {
        let args = [
            "--steps",
            "2",
            "--batch-size",
            "16",
            "--depth",
            "3",
            "--grad-checkpoint",
            policy,
        ];
        let run = place.train(policy, &args).succeeded();
        run.summary()["peak_bytes"]
            .as_u64()
            .expect("counted on the host")
    };
    let (plain, block) = (peak("none"), peak("block"));
    assert!(block < plain, "{block} is not below {plain}");
}

#[test]
fn what_would_be_done_is_shown_and_not_done() {
    let place = Workplace::new();
    let flags = ["--dry-run", "--norm", "batch", "--accumulation-steps", "3"];
    let run = place.train("a", &flags).succeeded();
    assert!(!place.path("a").exists());
    let plan = &run.events[0];
    assert_eq!(plan["event"], "plan");
    assert_eq!(plan["settings"]["accumulation_steps"], 3);
    let bytes = |key: &str| {
        plan["memory"][key]
            .as_u64()
            .unwrap_or_else(|| panic!("{plan}"))
    };
    // Running statistics are parameters that are not trained.
    assert!(bytes("gradients") < bytes("parameters"));
    assert_eq!(bytes("optimizer_state"), 2 * bytes("gradients"));
    assert!(bytes("peak") > bytes("parameters") + bytes("optimizer_state") + bytes("activations"));
    assert_eq!(plan["memory"]["method"], "exact");
}

#[test]
fn masks_are_learned_from_folders() {
    let place = Workplace::new();
    for folder in ["images", "masks"] {
        fs::create_dir_all(place.path(folder)).expect("a folder");
    }
    for index in 0..10u32 {
        let inside = |x: u32, y: u32| (index..index + 5).contains(&x) && (3..9).contains(&y);
        let name = format!("{index}.png");
        RgbImage::from_fn(16, 16, |x, y| {
            if inside(x, y) {
                Rgb([200, 90, 10])
            } else {
                Rgb([20; 3])
            }
        })
        .save(place.path("images").join(&name))
        .expect("an image");
        GrayImage::from_fn(16, 16, |x, y| Luma([if inside(x, y) { 255 } else { 0 }]))
            .save(place.path("masks").join(&name))
            .expect("a mask");
    }
    let (images, masks) = (place.arg("images"), place.arg("masks"));
    for loss in ["bce-dice", "cross-entropy"] {
        let flags = format!("--loss {loss} --steps 150 --lr 0.01 --base-channels 8");
        let data = ["--images", &images, "--masks", &masks];
        let args = [&data[..], &flags.split_whitespace().collect::<Vec<_>>()].concat();
        let run = place.train(loss, &args).succeeded();
        let iou = run.summary()["metrics"]["iou"].as_f64().expect("a number");
        assert!(iou > 0.9, "{loss}: {iou}");
        assert!(place.path(loss).join("samples").join("9.png").exists());
    }
}

#[test]
fn classes_are_learned_and_evaluated() {
    let place = Workplace::new();
    for folder in ["images", "masks"] {
        fs::create_dir_all(place.path(folder)).expect("a folder");
    }
    for index in 0..10u32 {
        // Two bands of other colours, and a column that belongs to no class.
        let class = |x: u32| match (x + index) % 16 {
            0..4 => 1,
            7..11 => 2,
            15 => 255,
            _ => 0,
        };
        let name = format!("{index}.png");
        let colour = |x, _| match class(x) {
            1 => Rgb([220, 30, 10]),
            2 => Rgb([10, 40, 230]),
            _ => Rgb([20; 3]),
        };
        RgbImage::from_fn(16, 16, colour)
            .save(place.path("images").join(&name))
            .expect("an image");
        GrayImage::from_fn(16, 16, |x, _| Luma([class(x)]))
            .save(place.path("masks").join(&name))
            .expect("a mask");
    }
    let (images, masks) = (place.arg("images"), place.arg("masks"));
    let data = ["--images", &images, "--masks", &masks, "--classes", "3"];
    let flags = "--steps 100 --lr 0.01 --base-channels 8 --verify";
    let args = [&data[..], &flags.split(' ').collect::<Vec<_>>()].concat();
    let run = place.train("run", &args).succeeded();
    let iou = run.summary()["metrics"]["mean_iou"].as_f64();
    assert!(iou.expect("a number") > 0.9, "{iou:?}");
    assert!(run.stderr.contains("belong to no class"), "{}", run.stderr);

    let output = place.arg("found");
    let args = [
        "infer",
        "unet",
        "--model",
        &place.arg("run"),
        "--input",
        &images,
        "--output",
        &output,
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    let status = command
        .args(args)
        .env("BURN_DEVICE", "flex")
        .status()
        .expect("the runner");
    assert!(status.success());
    let [found, mask] = ["found", "masks"].map(|folder| {
        let image = image::open(place.path(folder).join("9.png")).expect("an image");
        image.into_luma16().into_raw()
    });
    // The mask has 8 bits, of which each became 257 of 65,535.
    let counted = mask
        .iter()
        .zip(&found)
        .filter(|(mask, _)| **mask != u16::MAX);
    let right = counted
        .clone()
        .filter(|(mask, found)| **mask / 257 == **found)
        .count();
    assert!(
        right * 100 > counted.count() * 95,
        "{right} pixels are right"
    );
}

#[test]
fn without_tracking_there_is_no_record_and_with_a_file_it_goes_there() {
    let place = Workplace::new();
    place
        .train("a", &["--steps", "1", "--memory-tracking=false"])
        .succeeded();
    assert!(!place.path("a").join("memory.csv").exists());
    let table = place.arg("table.csv");
    place
        .train("b", &["--steps", "1", "--memory-log-file", &table])
        .succeeded();
    assert!(place.path("table.csv").exists());
}

#[test]
fn micro_batches_that_fit_stay_as_they_are() {
    let place = Workplace::new();
    let args = ["--steps", "3", "--accumulation-steps", "2"];
    let plain = place.train("plain", &args).succeeded();
    let auto = [&args[..], &["--auto-micro-batch"]].concat();
    let auto = place.train("auto", &auto).succeeded();
    assert_eq!(auto.losses(), plain.losses());
    assert_eq!(auto.summary()["micro_batch_size"], 2);
    assert_eq!(auto.summary()["accumulation_steps"], 2);
    let kind = |event: &serde_json::Value| event["event"] == "micro_batch";
    assert!(!auto.events.iter().any(kind));
    let config = fs::read_to_string(place.path("auto").join("config.json")).expect("settings");
    assert!(config.contains("\"auto_micro_batch\": true"), "{config}");
}

#[test]
fn everything_can_be_learned_from_where_nothing_is_held_out() {
    let place = Workplace::new();
    let dir = place.arg("a");
    let args = ["--artifact-dir", &dir, "--holdout", "0", "--epochs", "1"];
    let run = run(&[&TINY[..], &args].concat()).succeeded();
    assert_eq!(run.summary()["steps"], 100);
    assert_eq!(run.summary()["metrics"], serde_json::json!({}));
}
