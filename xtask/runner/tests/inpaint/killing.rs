//! A video whose run is killed again and again, whenever that is, is completed as one whose run was not.
#![cfg(unix)]

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use rstest::rstest;

use crate::kills::{Kills, assert_same, content};
use crate::runner::{Run, SHORT, Workplace, command, has_ffmpeg, process};

fn inpaint(place: &Workplace, output: &str, more: &[&str]) -> Command {
    let args = place.args("a", output);
    command(args.iter().map(String::as_str).chain(more.iter().copied()))
}

// Twenty in all.
#[rstest]
#[case::frames("out", &["--save-masked-input"])]
#[case::video("out.mp4", &["--save-frames"])]
fn a_video_that_is_killed_again_and_again_is_the_same_video(
    #[case] output: &str,
    #[case] flags: &[&str],
) {
    if output.ends_with(".mp4") && !has_ffmpeg() {
        return;
    }
    let place = Workplace::new();
    place.clip("a", 3, 64, 64);
    let flags = [flags, &["--resume"]].concat();
    fs::create_dir(place.path("whole")).expect("a folder");
    let started = Instant::now();
    Run::new(&mut inpaint(&place, &format!("whole/{output}"), &flags)).succeeded();
    let mut kills = Kills::new(5, 10, started.elapsed());
    for round in 0.. {
        let name = format!("killed-{round}");
        let folder = place.path(&name);
        fs::create_dir(&folder).expect("a folder");
        // Near the begin, and near the end.
        let marks = ["out.part", "out.mp4.part", ".part-", "out-", "out"];
        kills.at_files(folder.clone(), &marks);
        let done = kills.until_done(|| inpaint(&place, &format!("{name}/{output}"), &flags));
        Run::of(done).succeeded();
        let (killed, whole) = (content(&folder), content(&place.path("whole")));
        assert_same(&killed, &whole);
        if kills.left() == 0 {
            break;
        }
    }
}

#[test]
fn what_was_killed_while_results_got_their_names_is_made_up_for() {
    let place = Workplace::new();
    place.clip("a", 3, 64, 64);
    let [out, part, result] = ["out", "out/a.part", "out/a"].map(|name| place.path(name));
    let run = || Run::new(&mut inpaint(&place, "out/a", &["--resume"]));
    fs::create_dir(&out).expect("a folder");
    run().succeeded();
    let whole = content(&out);

    // All frames are complete, and cannot be moved.
    fs::create_dir(&part).expect("a folder");
    run().failed(1, &["cannot move"]);
    fs::remove_dir_all(&result).expect("removed");
    // Killed when they were moved.
    fs::rename(part.join("frames"), &result).expect("renamed");
    run().succeeded();
    assert!(content(&out) == whole, "other results");

    // Killed while the folder of the run was being removed.
    fs::create_dir_all(place.path("out/a.part.removed/work/flows")).expect("a folder");
    fs::write(place.path("out/.part-7-0-a"), "").expect("a file");
    let complete = run().succeeded();
    assert!(
        complete.stderr.contains("complete already"),
        "{}",
        complete.stderr
    );
    assert!(content(&out) == whole, "files are left");
}

#[test]
fn a_run_is_resumed_from_another_folder() {
    let place = Workplace::new();
    place.clip("a", 3, 64, 64);
    fs::create_dir_all(place.path("b/out.part")).expect("a folder");
    let args = |root: &str, output: &str| {
        let [video, mask] = ["frames", "masks"].map(|what| format!("{root}a-{what}"));
        let flags = [
            "--video", &video, "--mask", &mask, "--output", output, "--resume",
        ];
        let mut command = command(flags.into_iter().chain(SHORT));
        command.current_dir(place.path("b"));
        command
    };
    let mut first = args("../", "out");
    let (mut child, _watchdog) = process::spawn(first.stdout(Stdio::null()).stderr(Stdio::null()));
    while !place.path("b/out.part/settings.json").exists() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended");
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let settings = fs::read_to_string(place.path("b/out.part/settings.json")).expect("settings");
    assert!(settings.contains("\"../../a-frames\""), "{settings}");
    let root = place.arg("");
    let mut resumed = args(&root, &place.arg("b/out"));
    Run::new(resumed.current_dir(place.path(""))).succeeded();
}

#[test]
fn a_reader_that_goes_away_ends_the_run_as_ctrl_c_does() {
    let place = Workplace::new();
    place.clip("a", 3, 64, 64);
    let mut command = inpaint(&place, "out", &[]);
    let (mut child, _watchdog) =
        process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the runner ends");
    Run::of(output).failed(1, &["stdout is closed", "--resume"]);
    assert!(place.path("out.part").exists());
}
