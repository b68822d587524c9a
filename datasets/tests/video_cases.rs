//! Videos as people have them: what is read and written again keeps its times, shape, colours and
//! sound, and damage is named.

#![cfg(feature = "video")]

#[path = "video/clip.rs"]
mod shared;

#[path = "video/probe.rs"]
mod probe;

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn_memopt_datasets::video::{
    Container, CutOff, Ffmpeg, FrameRate, VideoError, VideoFile, VideoFrame, VideoWriter,
    VideoWriterConfig,
};
use rstest::rstest;
use tempfile::TempDir;

use probe::{ffmpeg, frame_times, sound_hashes, stream, value};
use shared::has_ffmpeg;

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
    let ffmpeg = Ffmpeg::from_env();
    let mut writer =
        VideoWriter::create_configured(to, info.height, info.width, &config, &ffmpeg).unwrap();
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

#[rstest]
fn the_shape_of_pixels_is_kept(#[values("mp4", "mkv", "webm")] extension: &str) {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("again").with_extension(extension);
    let file = VideoFile::open(case("pixels_16_by_11.mp4")).unwrap();
    assert_eq!(file.info().pixel_aspect, Some((16, 11)));
    rewrite(&file, &to);
    let aspect = stream(&to, "v:0", "sample_aspect_ratio");
    // WebM has whole numbers of pixels: 93 for 64 · 16 / 11.
    let right = if extension == "webm" {
        "93:64"
    } else {
        "16:11"
    };
    assert_eq!(aspect, right);
}

/// The mean difference of the values of all frames.
fn difference(left: &[VideoFrame], right: &[VideoFrame]) -> f64 {
    assert_eq!(left.len(), right.len());
    let values = |frames: &[VideoFrame]| -> Vec<u8> {
        frames
            .iter()
            .flat_map(|frame| frame.pixels.clone())
            .collect()
    };
    let (left, right) = (values(left), values(right));
    assert_eq!(left.len(), right.len());
    let pairs = left.iter().zip(&right);
    let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / left.len() as f64
}

#[rstest]
fn a_turned_video_is_written_as_it_is_shown(#[values("90", "180", "270")] degrees: &str) {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plain = shapes(&folder, "plain.mp4", "10", &["-vf", "setsar=16/11"]);
    let path = folder.path().join("turned.mp4");
    let input = plain.to_str().unwrap();
    let rotate = format!("rotate={degrees}");
    ffmpeg(
        &["-i", input, "-c", "copy", "-metadata:s:v", &rotate],
        &path,
    );
    let file = VideoFile::open(&path).unwrap();
    let is_quarter = degrees != "180";
    let (size, aspect) = match is_quarter {
        true => ((64, 48), Some((11, 16))),
        false => ((48, 64), Some((16, 11))),
    };
    assert_eq!((file.info().height, file.info().width), size);
    assert_eq!(file.info().pixel_aspect, aspect);
    let to = folder.path().join("again.mp4");
    rewrite(&file, &to);
    let again = VideoFile::open(&to).unwrap();
    assert_eq!((again.info().height, again.info().width), size);
    assert_eq!(again.info().pixel_aspect, aspect);
    let changed = difference(&frames(&file), &frames(&again));
    assert!(changed < 3.0, "{changed}");
    let upright = frames(&VideoFile::open(&plain).unwrap());
    assert!(is_quarter || difference(&upright, &frames(&again)) > 10.0);
}

/// Frames of strong colours, in which a wrong matrix or range shows.
const COLOURS: &str = "color=c=0xC82840:s=64x48:d=0.2,drawbox=x=16:w=16:c=0x1EB45A:t=fill,\
    drawbox=x=32:w=16:c=0x3246D2:t=fill,drawbox=x=48:w=16:c=0xF0F010:t=fill";

#[rstest]
#[case::high_definition("tv", "bt709", "bt709", "bt709")]
#[case::full_range("pc", "bt709", "bt709", "bt709")]
#[case::television("tv", "smpte170m", "smpte170m", "smpte170m")]
#[case::pal("pc", "bt470bg", "bt470bg", "gamma28")]
#[case::high_dynamic_range("tv", "bt2020nc", "bt2020", "arib-std-b67")]
fn colours_keep_their_meaning_and_their_values(
    #[case] range: &str,
    #[case] matrix: &str,
    #[case] primaries: &str,
    #[case] transfer: &str,
    #[values("mp4", "webm")] extension: &str,
) {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("colours.mp4");
    let scaler = match matrix {
        "bt470bg" => "bt601",
        "bt2020nc" => "bt2020",
        other => other,
    };
    let filter = format!("scale=out_color_matrix={scaler}:out_range={range},format=yuv420p");
    let source = ["-f", "lavfi", "-i", COLOURS, "-vf", &filter, "-crf", "5"];
    let tags = ["-color_range", range, "-colorspace", matrix];
    let more = ["-color_primaries", primaries, "-color_trc", transfer];
    ffmpeg(&[&source[..], &tags, &more].concat(), &path);
    let to = folder.path().join("again").with_extension(extension);
    let file = VideoFile::open(&path).unwrap();
    rewrite(&file, &to);
    for field in [
        "color_range",
        "color_space",
        "color_primaries",
        "color_transfer",
    ] {
        let [before, after] = [&path, &to].map(|path| stream(path, "v:0", field));
        assert_eq!(before, after, "{field}");
    }
    let difference = difference(&frames(&file), &frames(&VideoFile::open(&to).unwrap()));
    // The matrix of another standard is 10 off, another range more.
    assert!(difference < 3.0, "{difference}");
    let red = &frames(&file)[0].pixels[..3];
    let pairs = red.iter().zip([0xC8, 0x28, 0x40]);
    assert!(
        pairs
            .into_iter()
            .all(|(value, right)| value.abs_diff(right) < 6),
        "{red:?}"
    );
}

#[test]
fn colours_of_unknown_meaning_keep_their_values_and_stay_unknown() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, to) = (folder.path().join("a.mp4"), folder.path().join("b.mp4"));
    ffmpeg(
        &["-f", "lavfi", "-i", COLOURS, "-pix_fmt", "yuv420p"],
        &path,
    );
    let file = VideoFile::open(&path).unwrap();
    rewrite(&file, &to);
    assert_eq!(stream(&to, "v:0", "color_space"), "unknown");
    let again = VideoFile::open(&to).unwrap();
    assert!(difference(&frames(&file), &frames(&again)) < 3.0);
}

#[rstest]
#[case::ten_bits(&["-pix_fmt", "yuv420p10le"])]
#[case::full_colour(&["-pix_fmt", "yuv444p"])]
#[case::grey(&["-pix_fmt", "gray", "-c:v", "ffv1"])]
#[case::red_green_blue(&["-pix_fmt", "gbrp", "-c:v", "ffv1"])]
#[case::photographs(&["-pix_fmt", "yuvj422p", "-c:v", "mjpeg", "-q:v", "2"])]
#[case::odd(&["-vf", "crop=63:47", "-pix_fmt", "yuv444p"])]
#[case::odd_at_half(&["-vf", "crop=63:47", "-pix_fmt", "yuv420p", "-c:v", "ffv1"])]
fn other_samples_are_read_and_written(#[case] options: &[&str]) {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = shapes(&folder, "a.mkv", "10", options);
    let file = VideoFile::open(&path).unwrap();
    assert_eq!(file.info().pixel_format, stream(&path, "v:0", "pix_fmt"));
    let to = folder.path().join("b.mp4");
    rewrite(&file, &to);
    let again = VideoFile::open(&to).unwrap();
    let info = file.info();
    let even = (
        info.height.next_multiple_of(2),
        info.width.next_multiple_of(2),
    );
    assert_eq!((again.info().height, again.info().width), even);
    check_close(&frame_times(&path), &frame_times(&to));
    if even == (info.height, info.width) {
        // Small shapes of strong colours lose some of it at half resolution.
        let difference = difference(&frames(&file), &frames(&again));
        assert!(difference < 8.0, "{difference}");
    } else {
        // VP9 takes odd sides.
        let to = folder.path().join("b.webm");
        rewrite(&file, &to);
        let again = VideoFile::open(&to).unwrap();
        assert_eq!((again.info().height, again.info().width), (47, 63));
    }
}

#[rstest]
#[case("tff", "tt")]
#[case("bff", "bb")]
fn an_interlaced_video_stays_interlaced(#[case] filter: &str, #[case] order: &str) {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let field = format!("setfield={filter}");
    let options = ["-vf", &field, "-flags", "+ildct+ilme", "-c:v", "mpeg2video"];
    let path = shapes(&folder, "a.ts", "25", &options);
    assert_eq!(stream(&path, "v:0", "field_order"), order);
    let file = VideoFile::open(&path).unwrap();
    assert!(file.info().field_order.is_some());
    let to = folder.path().join("b.mp4");
    rewrite(&file, &to);
    let again = VideoFile::open(&to).unwrap();
    assert_eq!(again.info().field_order, file.info().field_order);
}

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
