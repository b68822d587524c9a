//! `train --auto-tune`.

use std::fs;

use serde_json::Value;

use crate::runner::{Run, Workplace, run};

/// A tiny run of micro-batches of any size.
fn train(place: &Workplace, name: &str, args: &[&str]) -> Run {
    let dir = place.arg(name);
    let tiny = [
        "--base-channels",
        "4",
        "--depth",
        "1",
        "--artifact-dir",
        &dir,
    ];
    run(&[&tiny[..], args].concat())
}

#[test]
fn the_second_run_chooses_from_what_the_first_one_took() {
    let place = Workplace::new();
    train(&place, "first", &["--steps", "6"]).succeeded();
    let path = place.path("first/performance.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).expect("a record")).unwrap();
    // As if half the micro-batch had taken half the time.
    let costs = record["costs"].as_array_mut().expect("a list");
    let mut own = costs[0].clone();
    let seconds = own["seconds_per_step"].as_f64().expect("a number");
    let size = own["batch_size"].as_u64().expect("a number");
    own["batch_size"] = 1.into();
    own["accumulation_steps"] = size.into();
    own["seconds_per_step"] = (seconds / 2.0).into();
    costs.retain(|cost| cost["batch_size"] != 1);
    costs.push(own);
    fs::write(&path, record.to_string()).expect("a record");

    let run = train(&place, "second", &["--steps", "2", "--auto-tune"]).succeeded();
    let summary = run.summary();
    assert_eq!(summary["micro_batch_size"], 1, "{}", run.stderr);
    assert_eq!(summary["accumulation_steps"], size);
    assert!(
        run.stderr.contains("0.50 of the default's time"),
        "{}",
        run.stderr
    );
    let tuning = fs::read(place.path("second/tuning.json")).expect("the choices");
    let tuning: Value = serde_json::from_slice(&tuning).unwrap();
    assert_eq!(tuning["choices"][1]["value"], "1");
    assert_eq!(tuning["records"].as_object().expect("an object").len(), 1);

    let both = ["--auto-tune", "--progressive", "8,16"];
    train(&place, "both", &both).failed(2, &["--progressive", "leave one out"]);

    // What is given stays, and a resumed run keeps what was chosen.
    let size = size.to_string();
    let args = ["--steps", "2", "--auto-tune", "--batch-size", &size];
    let kept = train(&place, "third", &args).succeeded();
    assert_eq!(kept.summary()["accumulation_steps"], 1);
    let file = place.arg("settings.toml");
    fs::write(&file, format!("batch_size = {size}")).expect("a file");
    let args = ["--steps", "2", "--auto-tune", "--config", &file];
    let kept = train(&place, "fourth", &args).succeeded();
    assert_eq!(kept.summary()["accumulation_steps"], 1);
    let resumed = place.resume("second", &["--steps", "3"]).succeeded();
    assert_eq!(resumed.summary()["micro_batch_size"], 1);
}
