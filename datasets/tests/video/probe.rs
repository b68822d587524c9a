//! What `ffprobe` says of a file, for comparisons with what was read.

use std::{path::Path, process::Command};

/// Runs `ffmpeg` into a file.
#[track_caller]
pub fn ffmpeg(options: &[&str], to: &Path) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-y"]);
    let output = command.args(options).arg(to).output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{messages}");
}

#[track_caller]
fn ffprobe(path: &Path, options: &[&str]) -> String {
    let mut command = Command::new("ffprobe");
    command.args(["-loglevel", "error", "-of", "default=nw=1:nk=1"]);
    let output = command.args(options).arg(path).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A value of the container or its streams, one a line.
pub fn value(path: &Path, entry: &str) -> String {
    ffprobe(path, &["-show_entries", entry])
}

/// A field of a stream.
pub fn stream(path: &Path, stream: &str, field: &str) -> String {
    let entry = format!("stream={field}");
    let values = ffprobe(path, &["-select_streams", stream, "-show_entries", &entry]);
    // Streams of a broadcast are listed twice.
    values.lines().next().unwrap_or_default().to_owned()
}

/// Seconds at which the frames are shown.
pub fn frame_times(path: &Path) -> Vec<f64> {
    let entry = ["-show_entries", "frame=best_effort_timestamp_time"];
    let times = ffprobe(path, &[&["-select_streams", "V:0"], &entry[..]].concat());
    // Side data of a frame may be a line of its own.
    times.lines().filter_map(|line| line.parse().ok()).collect()
}

/// A hash of the packets of each sound.
pub fn sound_hashes(path: &Path) -> Vec<String> {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-loglevel", "error", "-i"])
        .arg(path);
    let copy = ["-map", "0:a", "-c", "copy", "-f", "streamhash", "-"];
    let output = command.args(copy).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let hashes = text.lines().filter_map(|line| line.split_once('='));
    hashes.map(|(_, hash)| hash.to_owned()).collect()
}
