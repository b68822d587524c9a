//! `train --progressive`: stages of growing images.

use std::fs;

use rstest::rstest;
use serde_json::Value;

use crate::runner::{Run, Workplace};

/// The stages that a run says.
fn stages(run: &Run) -> Vec<&Value> {
    let stages = run.events.iter().filter(|event| event["event"] == "stage");
    stages.collect()
}

/// The highest peak so far at each step.
fn peaks(run: &Run) -> Vec<u64> {
    let steps = run.events.iter().filter(|event| event["event"] == "step");
    let peak = |event: &Value| event["bytes_peak"].as_u64().expect("a number");
    steps.map(peak).collect()
}

#[rstest]
#[case::watermark("watermark", "16,24,32", &["--num-images", "10", "--image-size", "32"])]
#[case::stack("unet", "8,16,32", &[])]
#[case::gan("gan", "32,64", &["--image-size", "64", "--num-azimuths", "4"])]
fn a_run_that_stops_in_a_stage_continues_it(
    #[case] model: &'static str,
    #[case] sides: &str,
    #[case] data: &[&str],
) {
    let place = Workplace::of(model);
    let args = |steps| [data, &["--progressive", sides, "--steps", steps]].concat();
    let whole = place.train("whole", &args("6")).succeeded();
    let num_stages = sides.split(',').count();
    assert_eq!(stages(&whole).len(), num_stages);

    // Step 3 is saved; of three stages it is within the second one.
    place
        .train("parts", &[&args("6")[..], &["--save-every", "3"]].concat())
        .succeeded();
    let parts = place.path("parts");
    fs::remove_dir_all(parts.join("checkpoint-6")).expect("the last state");
    fs::write(parts.join("latest"), "checkpoint-3").expect("the name of a state");
    let resumed = place.resume("parts", &[]).succeeded();
    let expected: Vec<_> = whole.losses().into_iter().skip(3).collect();
    assert_eq!(resumed.losses().into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(resumed.summary()["metrics"], whole.summary()["metrics"]);

    let error = place.resume("parts", &["--progressive", "32,64,128"]);
    error.failed(2, &["keeps its progressive"]);
    let error = place.resume("parts", &["--accumulation-steps", "3", "--steps", "9"]);
    error.failed(2, &["--accumulation-steps 3", "the stages of the run have"]);
}

#[test]
fn a_budget_divides_the_steps_of_large_images_and_is_kept() {
    let place = Workplace::of("watermark");
    let data = ["--num-images", "20", "--image-size", "64"];
    let args = [
        "--progressive",
        "16,64",
        "--steps",
        "6",
        "--batch-size",
        "8",
    ];
    let args = [&data[..], &args].concat();
    let planned = |budget: &str| place.train(budget, &[&args[..], &["--budget", budget]].concat());
    let free = planned("1GiB").succeeded();
    let sizes = |run: &Run| -> Vec<_> {
        let stages = stages(run).into_iter();
        stages
            .map(|stage| stage["micro_batch_size"].clone())
            .collect()
    };
    assert_eq!(sizes(&free), [8, 8]);
    assert!(peaks(&free)[2] < peaks(&free)[5]);

    // Half of what the large images take beside the program.
    let budget = peaks(&free)[5] - (peaks(&free)[5] - peaks(&free)[2]) / 2;
    let tight = planned(&format!("{budget}B")).succeeded();
    let tight_sizes = sizes(&tight);
    assert_eq!(tight_sizes[0], 8);
    assert!(tight_sizes[1].as_u64() < Some(8), "{tight_sizes:?}");
    assert!(peaks(&tight)[5] <= budget, "{:?}", peaks(&tight));
}

#[rstest]
#[case::falling("32,16", 2, "must rise, got 16 after 32")]
#[case::larger_than_the_images("16,64", 2, "more than the images have: 32×32 pixels")]
#[case::smaller_than_the_network("1,32", 2, "at least 2 pixels")]
#[case::more_than_steps("8,16,32", 2, "more than the 2 steps")]
fn sides_that_do_not_fit_are_refused_by_name(
    #[case] sides: &str,
    #[case] code: i32,
    #[case] word: &str,
) {
    let place = Workplace::new();
    let args = ["--progressive", sides, "--steps", "2"];
    place.train("refused", &args).failed(code, &[word]);
}
