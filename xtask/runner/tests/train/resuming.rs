//! A resumed run is the run it would have been.

use std::fs;

use rstest::rstest;
use serde_json::Value;

use crate::runner::Workplace;

#[rstest]
#[case::plain("")]
#[case::batch_norm_and_ragged_groups("--norm batch --batch-size 30 --accumulation-steps 4")]
#[case::half_precision("--precision f16 --norm batch")]
#[case::brain_float_and_transposed("--precision bf16 --upsampling transposed")]
#[case::recomputing("--grad-checkpoint block --norm batch")]
#[case::in_the_least_memory("--grad-checkpoint least --norm batch --depth 2")]
#[case::eight_bits("--optimizer adamw8bit --base-channels 32")]
fn a_resumed_run_gives_the_losses_of_an_uninterrupted_one(#[case] flags: &str) {
    let place = Workplace::new();
    let flags: Vec<_> = flags.split_whitespace().collect();
    let with = |steps| [&flags[..], &["--steps", steps]].concat();
    let whole = place.train("whole", &with("6")).succeeded();
    let first = place.train("parts", &with("3")).succeeded();
    let second = place.resume("parts", &["--steps", "6"]).succeeded();

    let mut losses = first.losses();
    losses.extend(second.losses());
    assert_eq!(losses.len(), 6);
    assert_eq!(losses, whole.losses());
    for field in ["steps", "loss_first", "loss_last", "metrics"] {
        assert_eq!(second.summary()[field], whole.summary()[field], "{field}");
    }
}

#[rstest]
#[case::plain("--accumulation-steps 3")]
#[case::ragged("--batch-size 30 --accumulation-steps 4 --grad-checkpoint block")]
#[case::half_precision("--accumulation-steps 2 --precision f16 --opt-level O2 --loss-scale 64")]
fn the_number_of_devices_changes_no_loss(#[case] flags: &str) {
    let place = Workplace::new();
    let flags: Vec<_> = flags.split_whitespace().collect();
    let with = |more: &[&'static str]| [&flags[..], more].concat();
    let whole = place.train("whole", &with(&["--steps", "6"])).succeeded();
    let two = ["--steps", "2", "--devices", "flex,flex"];
    let mut losses = place.train("parts", &with(&two)).succeeded().losses();
    let one = ["--steps", "4", "--device", "flex"];
    losses.extend(place.resume("parts", &one).succeeded().losses());
    let three = ["--steps", "6", "--device", "flex,flex,flex"];
    let last = place.resume("parts", &three).succeeded();
    losses.extend(last.losses());
    assert_eq!(losses, whole.losses());
    assert_eq!(last.summary()["metrics"], whole.summary()["metrics"]);
    assert_eq!(last.summary()["device"], "flex,flex,flex");
    let idle = last
        .stderr
        .contains("1 of 3 devices have nothing to do: a step needs as many");
    assert_eq!(idle, flags.contains(&"2"), "{}", last.stderr);
}

#[test]
fn where_the_optimizers_state_is_changes_no_loss() {
    let place = Workplace::new();
    let device = place.train("device", &["--steps", "4"]).succeeded();
    let host = ["--steps", "2", "--optimizer-state", "host"];
    let mut losses = place.train("host", &host).succeeded().losses();
    let back = ["--steps", "4", "--optimizer-state", "device"];
    losses.extend(place.resume("host", &back).succeeded().losses());
    assert_eq!(losses, device.losses());
}

#[test]
fn a_run_goes_on_in_8_bits_but_not_back() {
    let place = Workplace::new();
    let large = ["--base-channels", "32", "--steps"];
    let whole = place.train("f32", &[&large[..], &["6"]].concat());
    let whole = whole.succeeded();
    place.train("a", &[&large[..], &["3"]].concat()).succeeded();
    let packed = ["--steps", "6", "--optimizer", "adamw8bit"];
    let second = place.resume("a", &packed).succeeded();
    let last = |run: &crate::runner::Run| run.losses()[&6].parse::<f64>().expect("a loss");
    let (got, wanted) = (last(&second), last(&whole));
    assert!((got / wanted - 1.0).abs() < 0.02, "{got}, {wanted} in f32");
    let of_whole = whole.losses().split_off(&4);
    assert_ne!(second.losses(), of_whole);
    // The run is one in 8 bits now.
    place.resume("a", &["--steps", "7"]).succeeded();
    for other in ["adamw", "rmsprop"] {
        place
            .resume("a", &["--steps", "8", "--optimizer", other])
            .failed(
                1,
                &[&format!("--optimizer {other}"), "Adam8bit or AdamW8bit"],
            );
    }
}

#[test]
fn recomputing_and_budgets_change_no_loss() {
    let place = Workplace::new();
    let args = [
        "--steps",
        "3",
        "--norm",
        "batch",
        "--depth",
        "2",
        "--batch-size",
        "16",
        "--grad-checkpoint",
    ];
    let plain = place
        .train("none", &[&args[..], &["none"]].concat())
        .succeeded();
    for policy in ["block", "segments=2", "least", "budget=8MiB"] {
        let run = place
            .train(policy, &[&args[..], &[policy]].concat())
            .succeeded();
        assert_eq!(run.losses(), plain.losses(), "{policy}");
        assert_eq!(run.summary()["grad_checkpoint"], policy);
    }
}

#[test]
fn a_resumed_run_is_cut_as_it_was_saved() {
    let place = Workplace::new();
    let flags = ["--grad-checkpoint", "least", "--depth", "2", "--steps"];
    place.train("a", &[&flags[..], &["1"]].concat()).succeeded();
    let path = place.path("a").join("plan.json");
    let mut saved: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(!saved["plan"]["spans"].as_array().unwrap().is_empty());
    // A mark that no plan would have: it stays only if the run does not plan again.
    saved["plan"]["predicted_peak"] = 12_345.into();
    fs::write(&path, saved.to_string()).unwrap();

    place.resume("a", &["--steps", "2"]).succeeded();
    let kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept, saved);
    place
        .resume("a", &["--steps", "3", "--grad-checkpoint", "budget=64MiB"])
        .succeeded();
    let other: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(other["grad_checkpoint"], "budget=64MiB");
    assert_ne!(other["plan"]["predicted_peak"], 12_345);
}

#[test]
fn epochs_are_whole_passes_and_end_with_a_smaller_step() {
    let place = Workplace::new();
    // 160 frames: 11 micro-batches of up to 15, 3 steps of up to 4.
    let flags = "--epochs 2 --batch-size 15 --accumulation-steps 4";
    let flags: Vec<_> = flags.split_whitespace().collect();
    let run = place.train("a", &flags).succeeded();
    assert_eq!(run.summary()["steps"], 6);
    let done = place.resume("a", &[]).succeeded();
    assert!(
        done.stderr.contains("nothing is left: all 6 steps"),
        "{}",
        done.stderr
    );
    assert_eq!(done.summary()["metrics"], run.summary()["metrics"]);
    place
        .resume("a", &["--epochs", "1"])
        .failed(2, &["6 steps already", "--epochs"]);
    let run = place.resume("a", &["--steps", "7"]).succeeded();
    assert_eq!(run.losses().into_keys().collect::<Vec<_>>(), [7]);
}

#[test]
fn another_seed_is_another_run() {
    let place = Workplace::new();
    let losses = |name, seed| {
        let run = place
            .train(name, &["--steps", "1", "--seed", seed])
            .succeeded();
        run.losses()
    };
    assert_eq!(losses("a", "1"), losses("b", "1"));
    assert_ne!(losses("c", "2"), losses("d", "3"));
}
