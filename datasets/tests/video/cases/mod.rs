//! Videos as people have them: what is read and written again keeps its times, shape, colours and
//! sound, and damage is named.

mod damage;
mod shape;
mod sound;
mod times;

use std::path::{Path, PathBuf};

use burn_memopt_datasets::video::{
    Ffmpeg, FrameRate, VideoFile, VideoFrame, VideoWriter, VideoWriterConfig,
};
use tempfile::TempDir;

use crate::probe::ffmpeg;

fn case(name: &str) -> PathBuf {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/video");
    cases.join(name)
}

/// Makes a video of moving shapes; `options` follow the input.
fn shapes(folder: &TempDir, name: &str, rate: &str, options: &[&str]) -> PathBuf {
    let source = format!("testsrc2=size=64x48:rate={rate}:duration=1.2");
    let path = folder.path().join(name);
    ffmpeg(&[&["-f", "lavfi", "-i", &source], options].concat(), &path);
    path
}

fn frames(file: &VideoFile) -> Vec<VideoFrame> {
    let frames = file.frames(0).unwrap();
    frames.collect::<Result<_, _>>().unwrap()
}

/// Reads a video and writes it again, with everything that belongs to it.
fn rewrite(file: &VideoFile, to: &Path) {
    let scan = file.scan().unwrap();
    let info = file.info();
    let config = VideoWriterConfig::new(FrameRate::new(24, 1))
        .with_shape_of(info)
        .with_times(scan.times.clone())
        .with_tracks(file.tracks(true).unwrap());
    let program = Ffmpeg::from_env();
    let mut writer =
        VideoWriter::create_configured(to, info.height, info.width, &config, &program).unwrap();
    for frame in file.frames(0).unwrap() {
        writer.write(&frame.unwrap()).unwrap();
    }
    writer.finish().unwrap();
}

#[track_caller]
fn check_close(left: &[f64], right: &[f64]) {
    let is_close = |(left, right): (&f64, &f64)| (left - right).abs() < 0.0011;
    let mut pairs = left.iter().zip(right);
    let are_close = left.len() == right.len() && pairs.all(is_close);
    assert!(are_close, "{left:?}\n{right:?}");
}
