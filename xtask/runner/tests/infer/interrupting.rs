//! What is killed or interrupted in the middle of a large file goes on where it was.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rstest::rstest;
use serde_json::Value;

use crate::runner::{Workplace, process};
use crate::{command, counting, event, infer, write_stack};

/// Windows of 64 pixels, a quarter of which is shared: 48 apart, over 1000 by 600 pixels.
const WINDOWS: [&str; 2] = ["--chunk-size", "64"];
const WINDOWS_A_ROW: u64 = 13;

fn prepare() -> Workplace {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 3, 1000, 600);
    place
}

/// Runs until more than a page is done, then sends a signal. Answers the exit code.
fn run_until_stopped(place: &Workplace, output: &str, signal: &str) -> (Option<i32>, String) {
    let [model, input, output] = ["model", "in.tif", output].map(|name| place.arg(name));
    let files = ["--model", &model, "--input", &input, "--output", &output];
    let mut command = command(&[&files[..], &WINDOWS].concat());
    command.env("BURN_MEMOPT_PROGRAM", "cargo xtask");
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, _watchdog) = process::spawn(command);
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    loop {
        let line = lines.next().expect("a run that lasts").expect("UTF-8");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        assert_ne!(event["event"], "done", "the run was too fast to stop");
        if event["windows_done"].as_u64() > Some(350) {
            break;
        }
    }
    let id = child.id().to_string();
    let sent = Command::new("kill").args([signal, &id]).status();
    assert!(sent.expect("the signal is sent").success());
    // Whoever is interrupted has something left to say.
    lines.for_each(drop);
    let output = child.wait_with_output().expect("the runner ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[rstest]
#[case::killed("-KILL")]
#[case::ctrl_c("-INT")]
#[case::terminated("-TERM")]
fn a_stopped_run_goes_on_to_the_same_file(#[case] signal: &str) {
    let place = prepare();
    let (code, said) = run_until_stopped(&place, "out.tif", signal);
    if signal == "-KILL" {
        assert_eq!(code, None);
    } else {
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("cargo xtask infer unet") && said.contains("in.tif"),
            "{said}"
        );
    }
    assert!(!place.path("out.tif").exists());
    assert!(place.path("out.tif.part").exists());

    let rest = infer(&place, "model", "in.tif", "out.tif", &WINDOWS).succeeded();
    assert!(
        rest.stderr.contains("going on after row"),
        "{}",
        rest.stderr
    );
    let whole = infer(&place, "model", "in.tif", "whole.tif", &WINDOWS).succeeded();
    let bytes = ["out.tif", "whole.tif"].map(|name| fs::read(place.path(name)).expect("a file"));
    assert!(bytes[0] == bytes[1], "the files differ");
    for left in ["out.tif.part", "out.tif.part.json"] {
        assert!(!place.path(left).exists(), "{left} is left");
    }

    let number = |run, kind, key: &str| event(run, kind)[key].as_u64().expect("a number");
    let (begun, all) = (
        number(&rest, "file", "rows_done"),
        number(&whole, "file", "windows"),
    );
    assert!(
        begun >= 1000,
        "more than a page was done, {begun} rows are left"
    );
    // Windows that touch only rows that are done are not run; one batch tells what comes out.
    let rows_of_windows = begun / 1000 * 21 + (begun % 1000).saturating_sub(64) / 48;
    let most = all - rows_of_windows * WINDOWS_A_ROW + 1;
    let again = number(&rest, "done", "windows_run");
    assert!(
        again <= most,
        "{again} windows were run, {most} are needed after row {begun}"
    );
}

#[test]
fn other_settings_or_another_input_start_over() {
    let place = prepare();
    run_until_stopped(&place, "out.tif", "-KILL");
    let state = fs::read(place.path("out.tif.part.json")).expect("what was noted down");
    let part = fs::read(place.path("out.tif.part")).expect("rows");
    let starts_over = |args: &[&str]| {
        let run = infer(&place, "model", "in.tif", "out.tif", args).succeeded();
        assert!(run.stderr.contains("starting over"), "{}", run.stderr);
        assert_eq!(event(&run, "file")["rows_done"], 0);
    };
    starts_over(&["--chunk-size", "600"]);

    // Rows that are not there are not believed in.
    fs::write(place.path("out.tif.part.json"), &state).expect("a file");
    fs::write(place.path("out.tif.part"), &part[..1000]).expect("a file");
    let run = infer(&place, "model", "in.tif", "out.tif", &WINDOWS).succeeded();
    assert!(
        run.stderr.contains("damaged; starting over"),
        "{}",
        run.stderr
    );

    fs::write(place.path("out.tif.part.json"), &state).expect("a file");
    fs::write(place.path("out.tif.part"), &part).expect("a file");
    write_stack(&place.path("in.tif"), 1, 40, 50);
    starts_over(&WINDOWS);
}
