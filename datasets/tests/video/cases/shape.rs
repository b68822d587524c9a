//! The shape of pixels, what samples mean, and the order of fields.

use burn_memopt_datasets::video::{VideoFile, VideoFrame};
use rstest::rstest;

use super::{case, check_close, frames, rewrite, shapes};
use crate::clip::has_ffmpeg;
use crate::probe::{ffmpeg, frame_times, stream};

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
