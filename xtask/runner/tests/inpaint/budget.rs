//! `--budget`: settings that memory allows.

use std::fs;

use serde_json::Value;

use crate::runner::{Run, Workplace, frames, run};

/// Completes the clip `a` with one step of flow and whatever else is given.
fn complete(place: &Workplace, output: &str, more: &[&str]) -> Run {
    let [video, mask, output] = ["a-frames", "a-masks", output].map(|name| place.arg(name));
    let args = ["--video", &video, "--mask", &mask, "--output", &output];
    run(args
        .into_iter()
        .chain(["--raft-iter", "1"])
        .chain(more.iter().copied()))
}

/// The value that was chosen of a setting, and why.
fn chosen<'a>(run: &'a Run, setting: &str) -> [&'a str; 2] {
    let settings = run.events("budget")[0]["settings"].as_array();
    let mut settings = settings.expect("settings").iter();
    let reason = settings.find(|reason| reason["setting"] == setting);
    let reason = reason.unwrap_or_else(|| panic!("no {setting}"));
    ["value", "why"].map(|key| reason[key].as_str().expect("text"))
}

fn bytes(event: &Value, key: &str) -> u64 {
    event[key].as_u64().expect("bytes")
}

#[test]
fn the_peak_stays_below_whatever_budget_is_given_and_less_is_chosen_for_less() {
    let place = Workplace::new();
    place.clip("a", 8, 64, 96);
    let mut working = Vec::new();
    for budget in ["4GiB", "450MiB", "370MiB"] {
        let done = complete(&place, budget, &["--budget", budget]).succeeded();
        let (event, summary) = (done.events("budget")[0], done.events("summary")[0]);
        let peak = bytes(summary, "peak_bytes");
        assert!(
            peak <= bytes(event, "budget"),
            "{peak} at {budget}:\n{}",
            done.stderr
        );
        assert!(bytes(event, "predicted_peak") <= bytes(event, "budget"));
        assert_eq!(chosen(&done, "precision")[0], "f32");
        assert!(done.stderr.contains("predicted peak"), "{}", done.stderr);
        assert_eq!(frames(&place.path(budget)).len(), 8);
        working.push(chosen(&done, "working_memory")[0].to_owned());
    }
    assert_eq!(working, ["1.0 GiB", "512.0 MiB", "256.0 MiB"]);
}

#[test]
fn an_impossible_budget_says_the_least_that_would_do() {
    let place = Workplace::new();
    place.clip("a", 3, 64, 64);
    let refused = complete(&place, "out", &["--budget", "20MiB"]);
    let refused = refused.failed(
        2,
        &["a budget of 20.0 MiB is below the least", "with size 64×64"],
    );
    assert!(!place.path("out.part").exists());
    let said = refused.stderr.split("allow ").nth(1).expect("an amount");
    let least: Vec<&str> = said.split([' ', ',']).take(2).collect();
    let least = least.join("");
    complete(&place, "out", &["--budget", &least]).succeeded();
    complete(&place, "out", &["--budget", "some"]).failed(2, &["--budget"]);
}

#[test]
fn flags_stay_and_a_run_that_goes_on_keeps_what_was_chosen() {
    let place = Workplace::new();
    place.clip("a", 5, 64, 64);
    let path = place.path("a-frames/00004.png");
    let whole = fs::read(&path).expect("a frame");
    // Its header is right, so that only decoding finds the damage.
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0xff;
    fs::write(&path, damaged).expect("the frame is damaged");
    let flags = [
        "--budget",
        "380MiB",
        "--subvideo-length",
        "3",
        "--ref-stride",
        "2",
    ];
    let cut = complete(&place, "out", &flags).failed(1, &["frame 4"]);
    assert_eq!(chosen(&cut, "subvideo_length"), ["3", "as given"]);
    assert_eq!(chosen(&cut, "ref_stride"), ["2", "as given"]);
    fs::write(&path, whole).expect("the frame is mended");
    // Whatever is free now.
    let flags = ["--resume", "--subvideo-length", "3", "--ref-stride", "2"];
    let done = complete(&place, "out", &flags).succeeded();
    let settings = |run: &Run| run.events("start")[0]["settings"].clone();
    assert_eq!(settings(&done), settings(&cut));
}
