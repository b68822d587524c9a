//! What is killed again and again, whenever that is, gives the files of a run that was not.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use image::RgbImage;
use serde_json::Value;

use crate::kills::{Kills, assert_same, content};
use crate::runner::{Run, Workplace, process};
use crate::{command, counting, masking, write_stack};

fn infer_command(place: &Workplace, input: &str, output: &str) -> Command {
    let [model, input, output] = ["model", input, output].map(|name| place.arg(name));
    let files = ["--model", &model, "--input", &input, "--output", &output];
    command(&[&files[..], &["--chunk-size", "32"]].concat())
}

/// Infers `input` to `NAME/RESULT`, killed ten times in all, until every result is that of `whole`.
fn kill(place: &Workplace, input: &str, result: &str, marks: &[&'static str]) {
    let started = Instant::now();
    let output = |name: &str| Path::new(name).join(result).display().to_string();
    let whole = Run::new(&mut infer_command(place, input, &output("whole"))).succeeded();
    assert!(!whole.events.is_empty());
    let mut kills = Kills::new(11, 10, started.elapsed());
    for round in 0.. {
        let name = format!("killed-{round}");
        kills.at_files(place.path(&name), marks);
        let done = kills.until_done(|| infer_command(place, input, &output(&name)));
        Run::of(done).succeeded();
        let [killed, whole] = [&name, "whole"].map(|name| content(&place.path(name)));
        assert_same(&killed, &whole);
        if kills.left() == 0 {
            break;
        }
    }
}

#[test]
fn a_stack_that_is_killed_again_and_again_has_the_same_result() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 3, 500, 300);
    let marks = ["out.tif.part.json", "out.tif.part", "out.tif", ".part-"];
    kill(&place, "in.tif", "out.tif", &marks);
}

#[test]
fn a_folder_that_is_killed_again_and_again_has_the_same_results() {
    let place = masking();
    fs::create_dir(place.path("images")).expect("a folder");
    for number in 0..4_u32 {
        let color = |x: u32, y: u32| [x as u8, y as u8, (x * y * (number + 1)) as u8];
        let image = RgbImage::from_fn(300, 200, |x, y| image::Rgb(color(x, y)));
        let path = place.path("images").join(format!("{number}.png"));
        image.save(path).expect("an image");
    }
    let marks = ["infer.jsonl", ".part-", "1.png", "3.png"];
    kill(&place, "images", "", &marks);
}

#[test]
fn a_result_that_was_whole_when_its_run_was_killed_is_not_computed_again() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 3, 500, 300);
    fs::create_dir(place.path("out")).expect("a folder");
    let [result, part, state] =
        ["out/map.tif", "out/map.tif.part", "out/map.tif.part.json"].map(|name| place.path(name));
    let mut infer = infer_command(&place, "in.tif", "out/map.tif");
    let (mut child, _watchdog) = process::spawn(infer.stdout(Stdio::null()).stderr(Stdio::null()));
    while !state.exists() {
        assert!(
            child.try_wait().expect("a child").is_none(),
            "it was too fast"
        );
        sleep(Duration::from_millis(1));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let text = fs::read_to_string(&state).expect("a state");
    let mut noted: Value = serde_json::from_str(&text).expect("JSON");
    noted["rows_done"] = 1500.into();
    for left in ["map.tif.part.json", "window-sums", "of-somebody"] {
        fs::write(place.path(&format!("out/.part-7-0-{left}")), "").expect("a file");
    }
    let mut run = || Run::new(&mut infer).succeeded();
    run();
    let whole = fs::read(&result).expect("a result");

    // As it is after the result got its name, and before the state is removed.
    fs::write(&state, noted.to_string()).expect("a file");
    fs::write(&result, &whole).expect("a result");
    let complete = run();
    assert!(
        complete.stderr.contains("finished before"),
        "{}",
        complete.stderr
    );
    let left: Vec<_> = content(&place.path("out")).into_keys().collect();
    assert_eq!(
        left,
        [".part-7-0-of-somebody", "map.tif"].map(PathBuf::from)
    );

    // Rows that do not say where they are from are not believed in.
    fs::write(&state, noted.to_string()).expect("a file");
    fs::write(&part, "not a single row").expect("a file");
    fs::write(&result, "of somebody").expect("a file");
    let again = run();
    assert!(
        again.stderr.contains("damaged; starting over"),
        "{}",
        again.stderr
    );
    assert!(fs::read(&result).expect("a result") == whole);
}

#[test]
fn a_reader_that_goes_away_ends_the_run_as_ctrl_c_does() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 3, 500, 300);
    let mut infer = infer_command(&place, "in.tif", "out.tif");
    let (mut child, _watchdog) =
        process::spawn(infer.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    stdout
        .read_line(&mut String::new())
        .expect("the first line");
    drop(stdout);
    let output = child.wait_with_output().expect("the runner ends");
    Run::of(output).failed(
        1,
        &["stdout is closed", "interrupted; what is done is kept"],
    );
    assert!(place.path("out.tif.part").exists() && !place.path("out.tif").exists());
    Run::new(&mut infer).succeeded();
}
