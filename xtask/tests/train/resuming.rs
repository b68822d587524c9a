//! A resumed run is the run it would have been.

use rstest::rstest;

use crate::runner::Workplace;

#[rstest]
#[case::plain("")]
#[case::batch_norm_and_ragged_groups("--norm batch --batch-size 30 --accumulation-steps 4")]
#[case::half_precision("--precision f16 --norm batch")]
#[case::brain_float_and_transposed("--precision bf16 --upsampling transposed")]
#[case::recomputing("--grad-checkpoint block --norm batch")]
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
    for policy in ["block", "segments=2", "budget=8MiB"] {
        let run = place
            .train(policy, &[&args[..], &[policy]].concat())
            .succeeded();
        assert_eq!(run.losses(), plain.losses(), "{policy}");
        assert_eq!(run.summary()["grad_checkpoint"], policy);
    }
}

#[test]
fn epochs_are_whole_passes_and_end_with_a_smaller_step() {
    let place = Workplace::new();
    // 160 frames: 11 micro-batches of up to 15, 3 steps of up to 4.
    let flags = "--epochs 2 --batch-size 15 --accumulation-steps 4";
    let flags: Vec<_> = flags.split_whitespace().collect();
    let run = place.train("a", &flags).succeeded();
    assert_eq!(run.summary()["steps"], 6);
    place
        .resume("a", &[])
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
