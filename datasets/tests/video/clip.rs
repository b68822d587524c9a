//! What tests of video files share: a clip, and `ffmpeg` where it is installed.

#![allow(
    dead_code,
    reason = "not every test that shares this file needs all of it"
)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use burn_memopt_datasets::{
    synthetic::clip::{MovingClip, MovingClipConfig},
    video::{FrameRate, VideoWriter},
};
use tempfile::TempDir;

pub const HEIGHT: usize = 48;
pub const WIDTH: usize = 64;

/// Whether `ffmpeg` is there; says so where it is not.
pub fn has_ffmpeg() -> bool {
    let starts = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !starts {
        println!("skipped: ffmpeg is not installed");
    }
    starts
}

pub fn clip(num_frames: usize) -> MovingClip {
    let config = MovingClipConfig::new().with_num_frames(num_frames);
    MovingClip::new(&config.with_height(HEIGHT).with_width(WIDTH))
}

/// Writes a clip as `clip.mp4`.
pub fn encode(num_frames: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let rate = FrameRate::new(25, 1);
    let mut writer = VideoWriter::create(&path, HEIGHT, WIDTH, rate).unwrap();
    let clip = clip(num_frames);
    for frame in 0..num_frames {
        writer.write(&clip.frame(frame)).unwrap();
    }
    writer.finish().unwrap();
    (folder, path)
}

/// Runs `ffmpeg` on a file and returns the file it makes next to it.
pub fn convert(input: &Path, before: &[&str], after: &[&str], name: &str) -> PathBuf {
    let output = input.with_file_name(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-y"]);
    command.args(before).arg("-i").arg(input);
    let status = command.args(after).arg(&output).status().unwrap();
    assert!(status.success());
    output
}
