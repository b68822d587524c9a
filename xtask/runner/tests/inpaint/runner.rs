//! The real runner as a process, clips for it, and what it leaves behind.

#[path = "../run_output/mod.rs"]
mod run_output;

use std::path::{Path, PathBuf};
use std::process::Command;

use burn::data::dataset::Dataset;
use burn_memopt_datasets::masks::HoleMask;
use burn_memopt_datasets::synthetic::clip::{MovingClip, MovingClipConfig};
use burn_memopt_datasets::video::{FrameFolder, FrameFormat, VideoFrame};
use serde_json::Value;
use tempfile::TempDir;

pub use run_output::{Run, process};

/// What keeps a run short: one step of optical flow, and few frames at once.
pub const SHORT: [&str; 8] = [
    "--raft-iter",
    "1",
    "--neighbor-length",
    "4",
    "--ref-stride",
    "2",
    "--subvideo-length",
    "3",
];

/// A folder for the files of one test.
pub struct Workplace(TempDir);

impl Workplace {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path as an argument.
    pub fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a clip into the folders `NAME-frames` and `NAME-masks`.
    pub fn clip(&self, name: &str, num_frames: usize, height: usize, width: usize) -> MovingClip {
        let config = MovingClipConfig::new().with_num_frames(num_frames);
        let clip = MovingClip::new(&config.with_height(height).with_width(width));
        let files = clip
            .write(self.path("clips"), name, FrameFormat::Png)
            .expect("a clip");
        std::fs::rename(files.frames, self.path(&format!("{name}-frames"))).expect("moved");
        std::fs::rename(files.masks, self.path(&format!("{name}-masks"))).expect("moved");
        clip
    }

    /// The arguments that complete the clip `name` into `output`.
    pub fn args(&self, name: &str, output: &str) -> Vec<String> {
        let (frames, masks) = (
            self.arg(&format!("{name}-frames")),
            self.arg(&format!("{name}-masks")),
        );
        let output = self.arg(output);
        let args = ["--video", &frames, "--mask", &masks, "--output", &output];
        args.into_iter().chain(SHORT).map(String::from).collect()
    }

    /// Completes the clip `name` into `output`.
    pub fn complete(&self, name: &str, output: &str, more: &[&str]) -> Run {
        let args = self.args(name, output);
        run(args.iter().map(String::as_str).chain(more.iter().copied()))
    }
}

/// A runner's command line with made-up weights; `args` follow `inpaint`.
pub fn command<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let args: Vec<_> = args.into_iter().collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command.args(["inpaint", "--json"]).args(&args);
    if !args.contains(&"--weights") {
        command.args(["--weights", "procedural"]);
    }
    command
        .env("XDG_RUNTIME_DIR", std::env::temp_dir())
        .env_remove("BURN_MEMOPT_DEVICE");
    command
}

/// Runs the runner to its end.
pub fn run<'a>(args: impl IntoIterator<Item = &'a str>) -> Run {
    Run::new(&mut command(args))
}

impl Run {
    /// The events of a kind.
    pub fn events(&self, kind: &str) -> Vec<&Value> {
        self.events
            .iter()
            .filter(|event| event["event"] == kind)
            .collect()
    }
}

/// The frames of a folder.
pub fn frames(folder: &Path) -> Vec<VideoFrame> {
    let folder = FrameFolder::open(folder).expect("a folder of frames");
    (0..folder.len())
        .map(|index| folder.frame(index).expect("a frame"))
        .collect()
}

/// Asserts that frames differ from those of a clip within the grown masks, and only there.
#[track_caller]
pub fn only_holes_changed(clip: &MovingClip, completed: &[VideoFrame], dilation: usize) {
    let mut changed = 0;
    for frame in completed {
        let (given, mask) = (
            clip.frame(frame.index),
            clip.hole_mask(frame.index).dilated(dilation),
        );
        changed += changed_pixels(&given, frame, &mask);
    }
    assert!(changed > 0, "nothing was completed");
}

/// Pixels that differ, all of them in the hole.
#[track_caller]
fn changed_pixels(given: &VideoFrame, frame: &VideoFrame, mask: &HoleMask) -> usize {
    assert_eq!((frame.height, frame.width), (given.height, given.width));
    let pixels = given
        .pixels
        .chunks(3)
        .zip(frame.pixels.chunks(3))
        .zip(mask.values());
    let changed = pixels.filter(|((given, frame), _)| given != frame);
    let holes: Vec<_> = changed.map(|(_, hole)| *hole).collect();
    assert!(
        holes.iter().all(|hole| *hole == 1),
        "frame {} changed outside its hole",
        frame.index
    );
    holes.len()
}

/// Whether `ffmpeg` is there; says so where it is not.
pub fn has_ffmpeg() -> bool {
    let starts = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !starts {
        println!("skipped: ffmpeg is not installed");
    }
    starts
}
