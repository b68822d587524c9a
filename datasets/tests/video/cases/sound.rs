//! Sound and subtitles.

use std::fs;

use burn_memopt_datasets::video::{Container, VideoFile};

use super::{case, check_close, rewrite, shapes};
use crate::clip::has_ffmpeg;
use crate::probe::{frame_times, sound_hashes, stream, value};

#[test]
fn sound_is_copied() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = VideoFile::open(case("with_sound.mp4")).unwrap();
    let source = file.tracks(true).unwrap().unwrap();
    assert!(file.tracks(false).unwrap().is_none());
    for name in ["again.mp4", "again.mov", "again.mkv"] {
        let to = folder.path().join(name);
        assert!(source.notes(Container::from_path(&to).unwrap()).is_empty());
        rewrite(&file, &to);
        assert_eq!(sound_hashes(&to), sound_hashes(file.path()), "{name}");
        let start: f64 = stream(&to, "a:0", "start_time").parse().unwrap();
        assert!(start.abs() < 0.025, "{name}: {start}");
    }
}

#[test]
fn sound_that_a_container_does_not_take_is_encoded_and_named() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = VideoFile::open(case("with_sound.mp4")).unwrap();
    let notes = file.tracks(true).unwrap().unwrap().notes(Container::Webm);
    assert!(
        notes[0].contains("encoded as libopus") && notes[0].contains("aac"),
        "{notes:?}"
    );
    let to = folder.path().join("again.webm");
    rewrite(&file, &to);
    assert_eq!(stream(&to, "a:0", "codec_name"), "opus");
    let sound = [
        "-f",
        "lavfi",
        "-i",
        "sine=duration=1.2",
        "-c:a",
        "pcm_s16le",
    ];
    let path = shapes(
        &folder,
        "a.avi",
        "25",
        &[&sound[..], &["-c:v", "mpeg4"]].concat(),
    );
    let to = folder.path().join("a.mp4");
    rewrite(&VideoFile::open(&path).unwrap(), &to);
    assert_eq!(stream(&to, "a:0", "codec_name"), "aac");
}

#[test]
fn every_sound_and_the_subtitles_go_along_and_may_last_longer() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("a.srt");
    fs::write(&text, "1\n00:00:00,100 --> 00:00:01,000\nHello\n").unwrap();
    let sound = [
        "-f",
        "lavfi",
        "-i",
        "sine=duration=3",
        "-f",
        "lavfi",
        "-i",
        "sine=500:d=2",
    ];
    let maps = [
        "-map", "0", "-map", "1", "-map", "2", "-map", "3", "-c:a", "aac",
    ];
    let text = ["-i", text.to_str().unwrap()];
    let path = shapes(&folder, "a.mkv", "25", &[&sound[..], &text, &maps].concat());
    let file = VideoFile::open(&path).unwrap();
    for name in ["b.mp4", "b.mkv"] {
        let to = folder.path().join(name);
        rewrite(&file, &to);
        assert_eq!(sound_hashes(&to), sound_hashes(&path), "{name}");
        let kinds = value(&to, "stream=codec_type");
        assert_eq!(kinds, "video\naudio\naudio\nsubtitle", "{name}");
        let duration: f64 = value(&to, "format=duration").parse().unwrap();
        assert!((duration - 3.0).abs() < 0.06, "{name}: {duration}");
        assert!(file.scan().unwrap().damage.is_none());
        check_close(&frame_times(&path), &frame_times(&to));
    }
}
