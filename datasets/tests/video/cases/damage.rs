//! Files that are cut off or damaged.

use std::{fs, path::Path};

use burn_memopt_datasets::video::{CutOff, VideoError, VideoFile};
use rstest::rstest;

use super::{case, frames, rewrite, shapes};
use crate::clip::has_ffmpeg;
use crate::probe::frame_times;

/// What is said of a file that is not whole, and the same file with its damage skipped.
#[track_caller]
fn refused(path: &Path) -> (String, VideoFile) {
    let file = VideoFile::open(path).unwrap();
    let error = file.count_frames().unwrap_err();
    assert!(matches!(error, VideoError::Damaged { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(path.file_name().unwrap().to_str().unwrap()),
        "{text}"
    );
    let skipping = file.skip_damaged();
    // Every time belongs to a frame.
    let num_frames = skipping.count_frames().unwrap();
    assert_eq!(frames(&skipping).len() as u64, num_frames);
    (text, skipping)
}

#[test]
fn the_file_that_is_cut_off_is_refused_and_its_frames_can_be_had() {
    if !has_ffmpeg() {
        return;
    }
    let (text, file) = refused(&case("cut_off.mkv"));
    assert!(
        text.contains("cut off or unreadable after frame 17, at 1.50 s of 2.50 s"),
        "{text}"
    );
    assert!(text.contains("File ended prematurely"), "{text}");
    let cut_off = file.scan().unwrap().damage.cut_off.unwrap();
    assert_eq!((cut_off.last_frame, cut_off.duration), (17, Some(2.5)));
}

/// Keeps a part of a file.
fn cut(path: &Path, share: f64) {
    let bytes = fs::read(path).unwrap();
    let len = (bytes.len() as f64 * share) as usize;
    fs::write(path, &bytes[..len]).unwrap();
}

#[rstest]
#[case::webm("a.webm", &["-c:v", "libvpx"])]
#[case::matroska("a.mkv", &["-c:v", "mpeg4"])]
#[case::mp4("a.mp4", &["-movflags", "+faststart"])]
#[case::fragments("a.mp4", &["-movflags", "frag_keyframe+empty_moov", "-g", "5"])]
#[case::avi("a.avi", &["-c:v", "mpeg4"])]
#[case::without_a_word("a.flv", &["-c:v", "flv1"])]
fn other_files_that_are_cut_off_are_refused(
    #[case] name: &str,
    #[case] options: &[&str],
    #[values(0.9, 0.7)] share: f64,
) {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = shapes(&folder, name, "25", options);
    cut(&path, share);
    let error = VideoFile::open(&path).unwrap().count_frames().unwrap_err();
    if matches!(error, VideoError::Decode { frame: 0, .. }) {
        // Not even the first frame is whole.
        return;
    }
    let (_, file) = refused(&path);
    assert!((1..30).contains(&file.count_frames().unwrap()));
}

#[test]
fn an_mp4_without_its_table_is_named() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = shapes(&folder, "a.mp4", "25", &[]);
    cut(&path, 0.7);
    let error = VideoFile::open(&path).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, VideoError::NoTable { .. }), "{text}");
    assert!(text.contains("cut off") && text.contains("a.mp4"), "{text}");
}

/// Overwrites bytes in the middle of a file with noise.
fn spoil(path: &Path, len: usize) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    let mut state = 12345_u32;
    for byte in &mut bytes[middle..middle + len] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    fs::write(path, bytes).unwrap();
}

#[rstest]
#[case::matroska("a.mkv", &["-g", "10"])]
#[case::webm("a.webm", &["-c:v", "libvpx", "-g", "10"])]
#[case::mp4("a.mp4", &["-g", "10"])]
#[case::avi("a.avi", &["-c:v", "mpeg4"])]
fn noise_in_the_middle_is_named_and_can_be_skipped(#[case] name: &str, #[case] options: &[&str]) {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = shapes(&folder, name, "25", options);
    spoil(&path, 1000);
    let (text, file) = refused(&path);
    let damage = &file.scan().unwrap().damage;
    let num_frames = file.count_frames().unwrap() as usize;
    let num_missing: usize = damage.missing.iter().map(|missing| missing.count).sum();
    let is_cut_off = damage.cut_off.is_some();
    assert!(num_frames + num_missing == 30 || is_cut_off, "{text}");
    assert!(
        num_missing > 0 || is_cut_off || !damage.damaged.is_empty(),
        "{text}"
    );
    assert!(damage.damaged.iter().all(|frame| *frame < num_frames));
    for word in damage
        .missing
        .iter()
        .map(|missing| format!("before frame {}", missing.before))
    {
        assert!(text.contains(&word), "{text}");
    }
    // The same pixels in every run.
    assert_eq!(frames(&file), frames(&file));
    let to = folder.path().join("again.mkv");
    rewrite(&file, &to);
    assert_eq!(frame_times(&to).len(), num_frames);
}

#[test]
fn what_is_damaged_reads_as_a_sentence() {
    let damage = burn_memopt_datasets::video::Damage {
        damaged: vec![3, 4],
        cut_off: Some(CutOff {
            last_frame: 17,
            end: 1.5,
            duration: None,
        }),
        ..Default::default()
    };
    let text = "is cut off or unreadable after frame 17, at 1.50 s, and is damaged in frames 3, 4";
    assert_eq!(damage.to_string(), text);
}
