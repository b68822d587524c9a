//! Video files, read and written through `ffmpeg`.

use std::path::Path;

use burn::data::dataset::{Dataset, DatasetError};
use burn_memopt_datasets::{
    masks::{MaskError, MaskSource},
    stream::StreamingDataset,
    video::{
        Ffmpeg, FrameFolder, FrameRate, VideoError, VideoFile, VideoFrame, VideoSource, VideoWriter,
    },
};
use rstest::rstest;

use crate::clip::{HEIGHT, WIDTH, clip, convert, encode, has_ffmpeg};

fn decode(video: &VideoFile, start: usize) -> Vec<VideoFrame> {
    let frames = video.frames(start).unwrap();
    frames.collect::<Result<_, _>>().unwrap()
}

/// The mean difference of two frames' values.
fn difference(left: &VideoFrame, right: &VideoFrame) -> f64 {
    let pairs = left.pixels.iter().zip(&right.pixels);
    let sum: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
    f64::from(sum) / left.pixels.len() as f64
}

#[test]
fn every_frame_comes_back_in_its_place() {
    if !has_ffmpeg() {
        return;
    }
    let (_folder, path) = encode(30);
    let video = VideoFile::open(&path).unwrap();
    let info = video.info();
    assert_eq!((info.height, info.width), (HEIGHT, WIDTH));
    assert_eq!(info.frame_rate, Some(FrameRate::new(25, 1)));
    assert_eq!(info.declared_frames, Some(30));
    assert_eq!(video.count_frames().unwrap(), 30);
    let frames = decode(&video, 0);
    assert_eq!(frames.len(), 30);
    for frame in &frames {
        let own = difference(frame, &clip(30).frame(frame.index));
        // Colour has half the resolution, and H.264 loses a little; a neighbouring frame differs
        // more.
        assert!(own < 6.0, "frame {}: {own}", frame.index);
        for other in [frame.index.wrapping_sub(1), frame.index + 1] {
            if other < 30 {
                let other = difference(frame, &clip(30).frame(other));
                assert!(own < other, "frame {}: {own}, {other}", frame.index);
            }
        }
    }
}

#[test]
fn the_colours_that_were_written_are_read() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("colours.mp4");
    let colours = [[200u8, 40, 60], [30, 180, 90], [50, 70, 210], [128; 3]];
    let rate = FrameRate::new(24, 1);
    let mut writer = VideoWriter::create(&path, 16, 16, rate).unwrap();
    let frame = |index: usize| VideoFrame {
        index,
        height: 16,
        width: 16,
        pixels: colours[index].repeat(256),
    };
    for index in 0..colours.len() {
        writer.write(&frame(index)).unwrap();
    }
    writer.finish().unwrap();
    for read in decode(&VideoFile::open(&path).unwrap(), 0) {
        let difference = difference(&read, &frame(read.index));
        // Two roundings to 8 bits and the encoder's own; the matrix of another standard is 10 off.
        assert!(difference < 4.0, "{difference}");
    }
}

/// Reading from any frame on is the end of reading from the first.
fn check_any_start(path: &Path, num_frames: usize) {
    let video = VideoFile::open(path).unwrap();
    let all = decode(&video, 0);
    assert_eq!(all.len(), num_frames);
    for start in [
        1,
        num_frames / 2,
        num_frames - 1,
        num_frames,
        num_frames + 9,
    ] {
        let records = video.records(start as u64).unwrap();
        let loaded: Result<Vec<_>, DatasetError> =
            records.map(|record| video.load(record?)).collect();
        assert_eq!(loaded.unwrap(), all[start.min(num_frames)..], "{start}");
    }
}

#[test]
fn reading_from_any_frame_gives_the_same_pixels() {
    if !has_ffmpeg() {
        return;
    }
    let (_folder, path) = encode(40);
    check_any_start(&path, 40);
    // Every third frame is left out after the tenth: no even rate, and one that does not declare
    // how many there are.
    let uneven = "select='lt(n,10)+mod(n,3)'";
    let uneven = ["-vf", uneven, "-c:v", "libx264"];
    check_any_start(&convert(&path, &[], &uneven, "uneven.mkv"), 30);
}

#[test]
fn a_file_that_was_cut_shows_fewer_frames_than_it_declares() {
    if !has_ffmpeg() {
        return;
    }
    let (_folder, path) = encode(40);
    let cut = convert(&path, &["-ss", "0.6"], &["-c", "copy"], "cut.mp4");
    let video = VideoFile::open(&cut).unwrap();
    let num_frames = decode(&video, 0).len();
    assert!(num_frames <= 25, "{num_frames}");
    assert_eq!(video.info().declared_frames, Some(40));
    assert_eq!(video.num_records(), None);
    let video = video.counted().unwrap();
    assert_eq!(video.num_records(), Some(num_frames as u64));
    check_any_start(&cut, num_frames);
}

#[test]
fn a_turned_video_has_the_size_it_is_shown_in() {
    if !has_ffmpeg() {
        return;
    }
    let (_folder, path) = encode(2);
    let tag = ["-c", "copy", "-metadata:s:v", "rotate=90"];
    let mut turned = VideoFile::open(convert(&path, &[], &tag, "turned.mp4")).unwrap();
    if turned.info().height == HEIGHT {
        // Later versions of ffmpeg take it as an option instead.
        let option = ["-display_rotation", "90"];
        let file = convert(&path, &option, &["-c", "copy"], "turned.mp4");
        turned = VideoFile::open(file).unwrap();
    }
    assert_eq!((turned.info().height, turned.info().width), (WIDTH, HEIGHT));
    let frame = &decode(&turned, 0)[0];
    assert_eq!((frame.height, frame.width), (WIDTH, HEIGHT));
}

#[test]
fn a_name_that_looks_like_an_option_or_an_address_is_a_file() {
    if !has_ffmpeg() {
        return;
    }
    let (folder, path) = encode(2);
    for name in ["-version", "http:clip", "%d.mp4", "concat:a|b"] {
        let other = folder.path().join(name);
        std::fs::copy(&path, &other).unwrap();
        assert_eq!(decode(&VideoFile::open(&other).unwrap(), 0).len(), 2);
    }
}

#[test]
fn odd_sides_are_made_even_by_repeating_the_last_pixels() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.mp4");
    let rate = FrameRate::new(30000, 1001);
    let mut writer = VideoWriter::create(&path, 17, 33, rate).unwrap();
    let pixels = vec![90; 17 * 33 * 3];
    let frame = VideoFrame {
        index: 0,
        height: 17,
        width: 33,
        pixels,
    };
    writer.write(&frame).unwrap();
    writer.finish().unwrap();
    let video = VideoFile::open(&path).unwrap();
    assert_eq!((video.info().height, video.info().width), (18, 34));
    assert_eq!(video.info().frame_rate, Some(rate));
    let frame = &decode(&video, 0)[0];
    assert!(frame.pixels.iter().all(|value| value.abs_diff(90) < 4));
}

#[test]
fn a_video_gets_its_name_only_when_it_is_finished() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    std::fs::write(&path, "an earlier video").unwrap();
    let create = || VideoWriter::create(&path, 16, 16, FrameRate::new(24, 1)).unwrap();
    let mut writer = create();
    let pixels = vec![0; 16 * 16 * 3];
    writer
        .write(&VideoFrame {
            index: 0,
            height: 16,
            width: 16,
            pixels,
        })
        .unwrap();
    drop(writer);
    let error = create().finish().unwrap_err();
    assert!(matches!(error, VideoError::NoFrames { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"an earlier video");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// The error that ends a video, the number of frames before it, and nothing after it.
fn ending(path: &Path) -> (usize, VideoError) {
    let mut frames = VideoFile::open(path).unwrap().frames(0).unwrap();
    let mut num_whole = 0;
    let error = loop {
        match frames.next() {
            Some(Ok(frame)) => {
                assert_eq!(frame.index, num_whole);
                num_whole += 1;
            }
            Some(Err(error)) => break error,
            None => panic!("no error after {num_whole} frames"),
        }
    };
    assert!(frames.next().is_none());
    (num_whole, error)
}

#[rstest]
#[case::mp4("cut-off.mp4")]
#[case::matroska("cut-off.mkv")]
fn a_file_cut_off_in_the_middle_names_the_frame(#[case] name: &str) {
    if !has_ffmpeg() {
        return;
    }
    let (_folder, path) = encode(60);
    let flags = ["-c", "copy", "-movflags", "+faststart"];
    let flags = if name.ends_with("mkv") {
        &flags[..2]
    } else {
        &flags
    };
    let whole = convert(&path, &[], flags, name);
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&whole, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let (num_whole, error) = ending(&whole);
    assert!(num_whole < 60);
    assert!(
        matches!(&error, VideoError::Decode { frame, source, .. } if *frame == num_whole && !source.messages.is_empty()),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains(name) && text.contains(&format!("frame {num_whole}")),
        "{text}"
    );
}

#[test]
fn a_file_damaged_in_the_middle_is_an_error() {
    if !has_ffmpeg() {
        return;
    }
    let (_folder, path) = encode(60);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() * 2 / 3;
    bytes[middle..middle + 200].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let (num_whole, error) = ending(&path);
    assert!(
        num_whole < 60 && matches!(error, VideoError::Decode { .. }),
        "{error}"
    );
}

#[test]
fn what_is_no_video_is_named() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.mp4");
    std::fs::write(&text, "no video").unwrap();
    let error = VideoFile::open(&text).unwrap_err();
    assert!(
        matches!(&error, VideoError::Probe { path, .. } if *path == text),
        "{error}"
    );
    let sound = ["-f", "lavfi"];
    let sound = convert(Path::new("sine=duration=0.1"), &sound, &[], "tone.wav");
    let wav = folder.path().join("tone.wav");
    std::fs::rename(sound, &wav).unwrap();
    let error = VideoFile::open(&wav).unwrap_err();
    assert!(
        matches!(&error, VideoError::NoVideo { path } if *path == wav),
        "{error}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = VideoFile::open("nowhere/clip.mp4").unwrap_err();
    assert!(matches!(&error, VideoError::Open { path, .. } if path.ends_with("clip.mp4")));
}

#[test]
fn a_missing_program_says_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    std::fs::write(&path, "never read").unwrap();
    let missing = Ffmpeg::new(folder.path().join("nowhere/ffmpeg"));
    let reading = VideoFile::open_with(&path, missing.clone()).unwrap_err();
    let output = folder.path().join("new.mp4");
    let rate = FrameRate::new(24, 1);
    let writing = VideoWriter::create_with(&output, 16, 16, rate, &missing).unwrap_err();
    for (error, program) in [(reading, "nowhere/ffprobe"), (writing, "nowhere/ffmpeg")] {
        let text = error.to_string();
        for part in [
            program,
            "apt install ffmpeg",
            "BURN_MEMOPT_FFMPEG",
            "folder of PNG",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
    assert!(!output.exists());
}

#[test]
fn a_program_that_fails_is_quoted() {
    if cfg!(not(unix)) {
        println!("skipped: the program of this test is a shell script");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ffmpeg");
    std::fs::write(&program, "#!/bin/sh\necho no such encoder >&2\nexit 3\n").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = folder.path().join("clip.mp4");
    let rate = FrameRate::new(24, 1);
    let mut writer = VideoWriter::create_with(&path, 64, 64, rate, &Ffmpeg::new(program)).unwrap();
    let pixels = vec![0; 64 * 64 * 3];
    let frame = VideoFrame {
        index: 0,
        height: 64,
        width: 64,
        pixels,
    };
    // The pipe takes what fits in it, even if nobody reads.
    let error = (0..1000).find_map(|_| writer.write(&frame).err()).unwrap();
    let VideoError::Encode { source, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (source.messages.as_str(), source.status.code()),
        ("no such encoder", Some(3))
    );
}

#[test]
fn a_stream_that_is_dropped_ends_its_program() {
    if !has_ffmpeg() {
        return;
    }
    let (_folder, path) = encode(200);
    let video = VideoFile::open(&path).unwrap();
    // Each program waits with a full pipe; were they not ended, the drop would wait for ever.
    for _ in 0..5 {
        let mut frames = video.frames(0).unwrap();
        assert_eq!(frames.next().unwrap().unwrap().index, 0);
    }
}

#[test]
fn an_extracted_video_is_read_in_any_order() {
    if !has_ffmpeg() {
        return;
    }
    let (folder, path) = encode(5);
    let video = VideoFile::open(&path).unwrap();
    let frames: FrameFolder = video.extract(folder.path().join("frames")).unwrap();
    assert_eq!(frames.len(), 5);
    let all = decode(&video, 0);
    for index in [3, 0, 4] {
        assert_eq!(frames.frame(index).unwrap(), all[index]);
    }
    let source = VideoSource::open(&path).unwrap();
    assert_eq!((source.height(), source.width()), (HEIGHT, WIDTH));
    assert_eq!(source.count_frames().unwrap(), 5);
    let record = source.records(4).unwrap().next().unwrap().unwrap();
    assert_eq!(source.load(record).unwrap(), all[4]);
}

#[test]
fn a_video_of_masks_is_one_a_frame() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("masks.mp4");
    let rate = FrameRate::new(25, 1);
    let mut writer = VideoWriter::create(&path, HEIGHT, WIDTH, rate).unwrap();
    for index in 0..4 {
        let mask = clip(4).hole_mask(index);
        let white = mask.values().iter().flat_map(|&hole| [hole * 255; 3]);
        let pixels = white.collect();
        writer
            .write(&VideoFrame {
                index,
                height: HEIGHT,
                width: WIDTH,
                pixels,
            })
            .unwrap();
    }
    writer.finish().unwrap();
    let masks = MaskSource::open(&path).unwrap();
    masks.check(4, HEIGHT, WIDTH).unwrap();
    let error = masks.check(6, HEIGHT, WIDTH).unwrap_err();
    assert!(matches!(
        error,
        MaskError::CountDiffers {
            num_masks: 4,
            num_frames: 6,
            ..
        }
    ));
    for (index, record) in masks.records(0).unwrap().enumerate() {
        let mask = masks.load(record.unwrap()).unwrap();
        let exact = clip(4).hole_mask(index);
        let pairs = mask.values().iter().zip(exact.values());
        let num_other = pairs.filter(|(a, b)| a != b).count();
        // Compression moves the border by a pixel here and there.
        assert!(num_other * 20 < exact.num_holes(), "{num_other}");
    }
}

#[test]
fn a_real_video_is_read_to_its_end() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/data/running-car/running_car.mp4"
    );
    if !Path::new(path).exists() {
        println!("skipped: {path} is not there");
        return;
    }
    if !has_ffmpeg() {
        return;
    }
    let video = VideoFile::open(path).unwrap();
    assert_eq!((video.info().height, video.info().width), (540, 972));
    assert_eq!(video.info().declared_frames, Some(292));
    let scan = video.scan().unwrap();
    assert_eq!(scan.times.len(), 292);
    assert_eq!(scan.times.seconds(scan.times.end()), 11.68);
    let late: Vec<usize> = decode(&video, 285)
        .iter()
        .map(|frame| frame.index)
        .collect();
    assert_eq!(late, (285..292).collect::<Vec<_>>());
}
