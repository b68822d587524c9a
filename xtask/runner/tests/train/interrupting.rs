//! Ctrl-C and its relatives.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use rstest::rstest;

use crate::runner::process::{self, Watchdog};
use crate::runner::{Run, TINY, Workplace, command};

fn start(args: &[&str]) -> (Child, Watchdog) {
    let mut command = command(args);
    process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
}

fn send(signal: &str, child: &Child) {
    let id = child.id().to_string();
    let status = Command::new("kill").args([signal, &id]).status();
    assert!(status.expect("the signal is sent").success());
}

/// Reads lines until one contains `word`.
fn wait_for(word: &str, lines: &mut impl BufRead) -> String {
    let mut seen = String::new();
    while !seen.contains(word) {
        let len = lines.read_line(&mut seen).expect("the runner speaks");
        assert!(len > 0, "{word:?} was not said, but {seen}");
    }
    seen
}

#[rstest]
#[case::ctrl_c("-INT")]
#[case::terminated("-TERM")]
fn an_interrupted_run_saves_and_goes_on_as_if_nothing_had_been(#[case] signal: &str) {
    let place = Workplace::new();
    let dir = place.arg("cut");
    let args = [&TINY[..], &["--steps", "100000", "--artifact-dir", &dir]].concat();
    let (mut child, _watchdog) = start(&args);
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut said = wait_for("\"step\":3,", &mut stdout);
    send(signal, &child);
    stdout.read_to_string(&mut said).expect("the runner speaks");
    let mut output = child.wait_with_output().expect("the runner ends");
    output.stdout = said.into_bytes();
    let cut = Run::of(output).succeeded();
    assert!(
        cut.stderr
            .contains(&format!("burn-memopt train unet --resume {dir}")),
        "{}",
        cut.stderr
    );

    let done = cut.summary()["steps"].as_u64().expect("a number");
    assert_eq!(cut.losses().len() as u64, done);
    let steps = (done + 2).to_string();
    let rest = place.resume("cut", &["--steps", &steps]).succeeded();
    let whole = place.train("whole", &["--steps", &steps]).succeeded();
    let mut losses = cut.losses();
    losses.extend(rest.losses());
    assert_eq!(losses, whole.losses());
    assert_eq!(rest.summary()["metrics"], whole.summary()["metrics"]);
}

#[test]
fn a_second_interruption_ends_at_once() {
    let place = Workplace::new();
    let dir = place.arg("slow");
    // A step of several seconds, so that there is one to break into.
    let slow = [
        "--base-channels",
        "32",
        "--depth",
        "3",
        "--batch-size",
        "64",
    ];
    let (mut child, _watchdog) = start(&[&slow[..], &["--artifact-dir", &dir]].concat());
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    wait_for("\"start\"", &mut stdout);
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
    send("-INT", &child);
    wait_for("once more aborts", &mut stderr);
    send("-INT", &child);
    assert_eq!(child.wait().expect("the runner ends").code(), Some(130));
}

#[test]
fn a_reader_that_goes_away_ends_the_run_as_ctrl_c_does() {
    let place = Workplace::new();
    let dir = place.arg("cut");
    let args = [&TINY[..], &["--steps", "100000", "--artifact-dir", &dir]].concat();
    let (mut child, _watchdog) = start(&args);
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    wait_for("\"step\":2,", &mut stdout);
    drop(stdout);
    let output = child.wait_with_output().expect("the runner ends");
    let cut = Run::of(output).succeeded();
    for word in ["stdout is closed", "continue with", "--resume"] {
        assert!(cut.stderr.contains(word), "{}", cut.stderr);
    }
    assert!(!cut.stderr.contains("panicked"), "{}", cut.stderr);

    // What stands on stderr may go with it.
    let (mut child, _watchdog) = {
        let mut command = command(&["--resume", &dir]);
        process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    };
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().expect("the runner ends").code(), Some(0));

    let latest = std::fs::read_to_string(place.path("cut/latest")).expect("a save");
    let step: u64 = latest.trim()["checkpoint-".len()..]
        .parse()
        .expect("a number");
    assert!(step >= 3, "{step}");
    let steps = (step + 1).to_string();
    let rest = place.resume("cut", &["--steps", &steps]).succeeded();
    let whole = place.train("whole", &["--steps", &steps]).succeeded();
    assert_eq!(rest.summary()["metrics"], whole.summary()["metrics"]);
}
