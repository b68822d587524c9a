//! Ctrl-C, and going on.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::runner::{Run, Workplace, command, frames, process};

#[test]
fn an_interrupted_run_goes_on_to_the_frames_of_one_that_was_not() {
    let place = Workplace::new();
    place.clip("a", 8, 64, 64);
    place.complete("a", "whole", &[]).succeeded();

    let args = place.args("a", "cut");
    let mut command = command(args.iter().map(String::as_str));
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, _watchdog) = process::spawn(command);
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut said = String::new();
    // Some frames are finished, and others are not.
    while !said.contains("\"done\":2") {
        let len = stdout.read_line(&mut said).expect("the runner speaks");
        assert!(len > 0, "it ended after {said}");
    }
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status();
    assert!(sent.expect("the signal is sent").success());
    stdout.read_to_string(&mut said).expect("the runner speaks");
    let cut = Run::of(child.wait_with_output().expect("the runner ends"));
    cut.failed(1, &["of 8 frames", "--resume"]);
    let kept = frames(&place.path("cut.part/frames"));
    assert!((2..8).contains(&kept.len()));

    place
        .complete("a", "cut", &[])
        .failed(1, &["cut.part", "--resume"]);
    place
        .complete("a", "cut", &["--resume", "--mask-dilation", "3"])
        .failed(2, &["mask dilation", "4", "3"]);
    place.complete("a", "cut", &["--resume"]).succeeded();
    assert!(!place.path("cut.part").exists());
    assert_eq!(frames(&place.path("cut")), frames(&place.path("whole")));
}
