//! The time of every frame.

use std::path::Path;

use burn_memopt_datasets::video::VideoFile;
use rstest::rstest;

use super::{case, check_close, rewrite, shapes};
use crate::clip::has_ffmpeg;
use crate::probe::{frame_times, sound_hashes, stream, value};

/// A video that is read and written again has the same times and lasts as long.
#[track_caller]
fn check_times(path: &Path, to: &Path) {
    rewrite(&VideoFile::open(path).unwrap(), to);
    let (before, mut after) = (frame_times(path), frame_times(to));
    let is_moved = ["mkv", "webm"]
        .iter()
        .any(|name| to.extension().unwrap() == *name);
    if is_moved && !sound_hashes(path).is_empty() {
        // These have no time before 0, where the coded sound of MP4 starts: all is a little later.
        let distance = after[0] - before[0];
        assert!(distance < 0.03, "{distance} s");
        after.iter_mut().for_each(|time| *time -= distance);
    }
    check_close(&before, &after);
    let [before, after] = [path, to].map(|path| value(path, "format=duration"));
    let [before, after] = [before, after].map(|text| text.parse::<f64>().unwrap());
    assert!(
        (before - after).abs() < if is_moved { 0.03 } else { 0.0021 },
        "{before} s, {after} s"
    );
}

#[rstest]
fn every_frame_keeps_its_time(
    #[values(
        "uneven_times.mp4",
        "uneven_times.webm",
        "rate_unknown.webm",
        "with_sound.mp4",
        "pixels_16_by_11.mp4"
    )]
    name: &str,
    #[values("mp4", "webm")] extension: &str,
) {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("again").with_extension(extension);
    check_times(&case(name), &to);
}

#[rstest]
#[case::film("24000/1001", "a.mp4", &[])]
#[case::film_in_milliseconds("24000/1001", "a.mkv", &[])]
#[case::slow("15", "a.mov", &[])]
#[case::without_clock("25", "a.avi", &["-c:v", "mpeg4"])]
#[case::late("25", "a.mp4", &["-vf", "setpts=PTS+0.5/TB"])]
#[case::late_in_matroska("25", "a.mkv", &["-vf", "setpts=PTS+0.5/TB"])]
#[case::every_third("25", "a.mkv", &["-vf", "select=lt(n\\,10)+mod(n\\,3)", "-vsync", "vfr"])]
fn other_rates_and_starts_are_kept(
    #[case] rate: &str,
    #[case] name: &str,
    #[case] options: &[&str],
    #[values("mov", "mkv")] extension: &str,
) {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = shapes(&folder, name, rate, options);
    check_times(
        &path,
        &folder.path().join("again").with_extension(extension),
    );
}

#[test]
fn the_clock_of_a_broadcast_starts_at_zero_and_its_sound_with_it() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sound = ["-f", "lavfi", "-i", "sine=duration=1.2", "-c:a", "aac"];
    let path = shapes(&folder, "a.ts", "25", &sound);
    let to = folder.path().join("a.mp4");
    rewrite(&VideoFile::open(&path).unwrap(), &to);
    let (before, after) = (frame_times(&path), frame_times(&to));
    assert!(before[0] > 1.0 && after[0] < 0.1, "{before:?} {after:?}");
    let distance = |path: &Path, first: f64| {
        let start: f64 = stream(path, "a:0", "start_time").parse().unwrap();
        start - first
    };
    let moved = distance(&path, before[0]) - distance(&to, after[0]);
    assert!(moved.abs() < 0.002, "{moved} s");
}
