//! Video files: what belongs to a video besides its pixels is kept, and damage is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use burn_memopt_datasets::masks::MaskSource;
use burn_memopt_datasets::stream::StreamingDataset;
use burn_memopt_datasets::video::{VideoFile, VideoFrame, VideoRecord};

use crate::runner::{Run, SHORT, Workplace, has_ffmpeg, run};

fn case(name: &str) -> PathBuf {
    let cases = "../../datasets/tests/cases/video";
    Path::new(env!("CARGO_MANIFEST_DIR")).join(cases).join(name)
}

/// Completes a file with the mask of the cases.
fn complete(video: &Path, output: &str, more: &[&str]) -> Run {
    let (video, mask) = (
        video.display().to_string(),
        case("mask.png").display().to_string(),
    );
    let flags = ["--video", &video, "--mask", &mask, "--output", output];
    run(flags.into_iter().chain(SHORT).chain(more.iter().copied()))
}

fn ffmpeg(args: &[&str], to: &Path) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error"]);
    let status = command.args(args).arg(to).status().expect("ffmpeg starts");
    assert!(status.success());
}

fn frames(file: &VideoFile) -> Vec<VideoFrame> {
    let frames = file.frames(0).expect("ffmpeg starts");
    frames.map(|frame| frame.expect("a frame")).collect()
}

/// A hash of the coded sound.
fn sound(path: &Path) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-loglevel", "error", "-i"])
        .arg(path);
    let hash = ["-map", "0:a", "-c", "copy", "-f", "md5", "-"];
    let output = command.args(hash).output().expect("ffmpeg starts");
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_phone_video_keeps_its_times_its_sound_and_its_side_up() {
    if !has_ffmpeg() {
        return;
    }
    let place = Workplace::new();
    let video = place.path("phone.mp4");
    let uneven = case("uneven_times.mp4").display().to_string();
    let input = ["-i", &uneven, "-f", "lavfi", "-i", "sine=duration=1.6"];
    let turned = ["-c:v", "copy", "-metadata:s:v", "rotate=90", "-c:a", "aac"];
    ffmpeg(&[&input[..], &turned].concat(), &video);
    let done = complete(&video, &place.arg("out.mp4"), &[]).succeeded();
    assert!(
        done.stderr.contains("phone: sound: copied"),
        "{}",
        done.stderr
    );

    let [given, completed] =
        [&video, &place.path("out.mp4")].map(|path| VideoFile::open(path).expect("a video"));
    let scans = [&given, &completed].map(|file| file.scan().expect("whole").times.clone());
    assert_eq!(scans[0], scans[1]);
    assert_eq!(sound(&video), sound(&place.path("out.mp4")));
    let masks = MaskSource::open(case("mask.png")).expect("a mask");
    let mask = masks
        .load(VideoRecord::Index(0))
        .expect("a mask")
        .dilated(4);
    let (mut sum, mut num_known) = (0, 0);
    for (given, completed) in frames(&given).iter().zip(frames(&completed)) {
        let pairs = given.pixels.chunks(3).zip(completed.pixels.chunks(3));
        for ((given, completed), _) in pairs.zip(mask.values()).filter(|(_, hole)| **hole == 0) {
            let channels = given.iter().zip(completed);
            sum += channels
                .map(|(a, b)| u64::from(a.abs_diff(*b)))
                .sum::<u64>();
            num_known += 3;
        }
    }
    // Encoded once more; a frame that is turned differs by far more.
    assert!(num_known > 0 && sum < 4 * num_known, "{sum} of {num_known}");
}

#[test]
fn a_file_that_is_cut_off_is_refused_or_completed_with_a_note() {
    if !has_ffmpeg() {
        return;
    }
    let place = Workplace::new();
    let output = place.arg("out.mkv");
    let words = [
        "cut_off.mkv is cut off or unreadable after frame 17, at 1.50 s of 2.50 s",
        "--skip-damaged",
    ];
    complete(&case("cut_off.mkv"), &output, &[]).failed(1, &words);
    assert!(!place.path("out.mkv.part").exists());

    let video = place.path("short.mkv");
    let source = "testsrc2=size=64x64:rate=5:duration=1";
    ffmpeg(&["-f", "lavfi", "-i", source, "-c:v", "mjpeg"], &video);
    let bytes = fs::read(&video).expect("a video");
    fs::write(&video, &bytes[..bytes.len() * 2 / 3]).expect("cut off");
    let done = complete(&video, &output, &["--skip-damaged"]).succeeded();
    let note = "short: the video is cut off or unreadable after frame";
    assert!(done.stderr.contains(note), "{}", done.stderr);
    let completed = VideoFile::open(place.path("out.mkv")).expect("a video");
    let num_frames = completed.count_frames().expect("whole");
    assert!((1..5).contains(&num_frames), "{num_frames}");
}
