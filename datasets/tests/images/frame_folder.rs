//! Folders of frames, clips out of many of them, and masks beside them.

use crate::allocations;
use std::path::Path;

use burn::data::dataset::{Dataset, DatasetError};
use burn_memopt_datasets::{
    image_file::ImageFileError,
    lazy::LazyDataset,
    masks::{HoleMask, MaskError, MaskSource},
    stream::StreamingDataset,
    synthetic::clip::{MovingClip, MovingClipConfig, write_clips},
    video::{
        ClipConfig, ClipFolder, FrameError, FrameFolder, FrameFolderWriter, FrameFormat,
        VideoFrame, VideoSource,
    },
};
use rstest::rstest;

const SMALL: (usize, usize) = (24, 40);

fn clip(num_frames: usize) -> MovingClip {
    let config = MovingClipConfig::new().with_num_frames(num_frames);
    MovingClip::new(&config.with_height(SMALL.0).with_width(SMALL.1))
}

/// Everything that a source gives from `start` on, loaded.
fn stream<I, D: StreamingDataset<I>>(source: &D, start: u64) -> Vec<I> {
    let records = source.records(start).unwrap();
    let loaded: Result<_, DatasetError> = records.map(|record| source.load(record?)).collect();
    loaded.unwrap()
}

#[test]
fn written_frames_and_masks_come_back_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(3);
    let files = clip.write(folder.path(), "a", FrameFormat::Png).unwrap();
    let frames = FrameFolder::open(&files.frames).unwrap();
    frames.verify().unwrap();
    assert_eq!((frames.height(), frames.width(), frames.len()), (24, 40, 3));
    let masks = MaskSource::open(&files.masks).unwrap();
    masks.check(3, 24, 40).unwrap();
    assert_eq!(stream(&masks, 1), [clip.hole_mask(1), clip.hole_mask(2)]);
    for index in 0..3 {
        assert_eq!(frames.get(index).unwrap(), clip.frame(index));
    }
    let pixels = 24 * 40 * 3;
    assert!((pixels..pixels + 100).contains(&frames.item_bytes(0)));
    let source = VideoSource::open(&files.frames).unwrap();
    assert_eq!(source.num_records(), Some(3));
    assert_eq!(stream(&source, 2), [clip.frame(2)]);
    assert!(stream(&source, 3).is_empty());
}

#[test]
fn jpeg_frames_differ_little() {
    let folder = tempfile::tempdir().unwrap();
    let format = FrameFormat::Jpeg { quality: 95 };
    let files = clip(2).write(folder.path(), "a", format).unwrap();
    let frame = FrameFolder::open(&files.frames).unwrap().frame(1).unwrap();
    let exact = clip(2).frame(1);
    let differences = frame.pixels.iter().zip(&exact.pixels);
    let sum: u32 = differences.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
    let mean = f64::from(sum) / frame.pixels.len() as f64;
    // JPEG halves the resolution of colour, which a border of two colours shows most.
    assert!(mean > 0.0 && mean < 6.0, "{mean}");
}

#[test]
fn frames_come_in_natural_order_and_an_unfinished_file_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: u8| {
        let image = image::RgbImage::from_pixel(2, 1, image::Rgb([value; 3]));
        image.save(folder.path().join(name)).unwrap();
    };
    write("frame10.png", 10);
    write("frame9.png", 9);
    std::fs::write(folder.path().join(".unfinished-x.part"), "half a frame").unwrap();
    let frames = FrameFolder::open(folder.path()).unwrap();
    let first: Vec<u8> = frames
        .iter()
        .map(|frame| frame.unwrap().pixels[0])
        .collect();
    assert_eq!(first, [9, 10]);
}

#[test]
fn a_frame_of_another_size_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let writer = FrameFolderWriter::create(folder.path(), FrameFormat::Png).unwrap();
    for (index, width) in [(0, 3), (1, 3), (2, 4)] {
        let pixels = vec![0; 2 * width * 3];
        let frame = VideoFrame {
            index,
            height: 2,
            width,
            pixels,
        };
        writer.write(&frame).unwrap();
    }
    let frames = FrameFolder::open(folder.path()).unwrap();
    frames.frame(1).unwrap();
    for error in [frames.frame(2).unwrap_err(), frames.verify().unwrap_err()] {
        let text = error.to_string();
        assert!(
            text.contains("00002.png is 2×4")
                && text.contains("00000.png, the first frame, is 2×3"),
            "{text}"
        );
    }
}

/// Writes one whole frame and a second one that `damage` changes.
fn damaged(format: FrameFormat, damage: impl Fn(Vec<u8>) -> Vec<u8>) -> FrameError {
    let folder = tempfile::tempdir().unwrap();
    let writer = FrameFolderWriter::create(folder.path(), format).unwrap();
    writer.write(&clip(2).frame(0)).unwrap();
    writer.write(&clip(2).frame(1)).unwrap();
    let bytes = std::fs::read(writer.path(1)).unwrap();
    std::fs::write(writer.path(1), damage(bytes)).unwrap();
    let frames = FrameFolder::open(folder.path()).unwrap();
    assert_eq!(frames.frame(0).unwrap().index, 0);
    let error = frames.frame(1).unwrap_err();
    let name = writer.path(1);
    let name = name.file_name().unwrap().to_str().unwrap();
    assert!(error.to_string().contains(name), "{error}");
    error
}

#[rstest]
#[case::png(FrameFormat::Png)]
#[case::jpeg(FrameFormat::Jpeg { quality: 90 })]
fn a_frame_cut_off_anywhere_is_named(#[case] format: FrameFormat) {
    for share in [0, 10, 50, 90, 99] {
        damaged(format, |mut bytes| {
            bytes.truncate(bytes.len() * share / 100);
            bytes
        });
    }
}

#[test]
fn what_follows_the_end_of_a_jpeg_frame_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let format = FrameFormat::Jpeg { quality: 90 };
    let writer = FrameFolderWriter::create(folder.path(), format).unwrap();
    writer.write(&clip(1).frame(0)).unwrap();
    let mut bytes = std::fs::read(writer.path(0)).unwrap();
    bytes.extend([0; 100]);
    std::fs::write(writer.path(0), bytes).unwrap();
    FrameFolder::open(folder.path()).unwrap().frame(0).unwrap();
}

#[test]
fn a_small_file_that_claims_a_huge_frame_is_refused_before_anything_is_allocated() {
    allocations::take();
    let error = damaged(FrameFormat::Png, |mut bytes| {
        // Width and height of the header, and its checksum.
        bytes[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
        let checksum = crc32(&bytes[12..29]).to_be_bytes();
        bytes[29..33].copy_from_slice(&checksum);
        bytes
    });
    let largest = allocations::take().largest;
    assert!(largest < 4 << 20, "{largest} bytes at once");
    let claimed = 0x4000u64 * 0x4000 * 3;
    let is_claim = matches!(&error, FrameError::File(ImageFileError::Claim { claimed: c, .. }) if *c == claimed);
    assert!(is_claim, "{error}");
}

/// The checksum of PNG chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[rstest]
#[case::missing(true)]
#[case::empty(false)]
fn a_folder_without_frames_is_named(#[case] missing: bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = match missing {
        true => folder.path().join("nowhere"),
        false => folder.path().into(),
    };
    let error = FrameFolder::open(&path).unwrap_err();
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
}

fn clips(root: &Path, config: ClipConfig) -> Result<ClipFolder, FrameError> {
    ClipFolder::open(root, config)
}

#[test]
fn clips_are_cut_from_every_video_and_scaled() {
    let root = tempfile::tempdir().unwrap();
    let config = MovingClipConfig::new()
        .with_num_frames(7)
        .with_height(24)
        .with_width(40);
    write_clips(root.path(), &config, 2, FrameFormat::Png).unwrap();
    let config = ClipConfig::new(12, 20)
        .with_num_local(3)
        .with_num_reference(2);
    let folder = clips(root.path(), config.clone()).unwrap();
    // Five begins in each video.
    assert_eq!(folder.len(), 10);
    for index in 0..folder.len() {
        let clip = folder.clip(index).unwrap();
        let (video, frames) = folder.clip_frames(index);
        assert_eq!(clip.video, video);
        assert_eq!(video, ["clip-0", "clip-1"][index / 5]);
        assert_eq!(frames.local.start, index % 5);
        let numbers = |frames: &[VideoFrame]| frames.iter().map(|f| f.index).collect::<Vec<_>>();
        assert_eq!(numbers(&clip.local), frames.local.collect::<Vec<_>>());
        assert_eq!(numbers(&clip.reference), frames.reference);
        let all: Vec<_> = clip.local.iter().chain(&clip.reference).collect();
        assert!(
            all.iter()
                .all(|f| (f.height, f.width, f.pixels.len()) == (12, 20, 720))
        );
        let bytes: u64 = all.iter().map(|frame| frame.pixels.len() as u64).sum();
        assert!((bytes..bytes + 1000).contains(&folder.item_bytes(index)));
        assert_eq!(folder.clip(index).unwrap(), clip);
    }
    // The folder of the videos itself is a root too.
    let inside = root.path().join("JPEGImages");
    let inside = clips(&inside, config.with_stride(4)).unwrap();
    assert_eq!(inside.len(), 4);
    assert_eq!(inside.clip_frames(3).1.local, 4..7);
}

#[test]
fn frames_of_their_own_size_are_not_scaled() {
    let root = tempfile::tempdir().unwrap();
    clip(2).write(root.path(), "a", FrameFormat::Png).unwrap();
    let config = ClipConfig::new(24, 40)
        .with_num_local(2)
        .with_num_reference(0);
    let got = clips(root.path(), config).unwrap().clip(0).unwrap();
    assert_eq!(got.local, [clip(2).frame(0), clip(2).frame(1)]);
}

#[test]
fn a_video_shorter_than_a_clip_is_named() {
    let root = tempfile::tempdir().unwrap();
    clip(4)
        .write(root.path(), "long", FrameFormat::Png)
        .unwrap();
    clip(3)
        .write(root.path(), "short", FrameFormat::Png)
        .unwrap();
    let config = ClipConfig::new(8, 8)
        .with_num_local(3)
        .with_num_reference(1);
    let error = clips(root.path(), config).unwrap_err().to_string();
    assert!(
        error.contains("short holds 3 frames, but a clip needs 4"),
        "{error}"
    );
}

#[test]
fn a_root_without_videos_is_named() {
    let root = tempfile::tempdir().unwrap();
    let error = clips(root.path(), ClipConfig::new(8, 8)).unwrap_err();
    assert!(matches!(error, FrameError::NoVideos { .. }), "{error}");
}

#[test]
fn generated_files_are_the_same_from_the_same_seed() {
    let files = || {
        let root = tempfile::tempdir().unwrap();
        let config = MovingClipConfig::new().with_num_frames(2).with_seed(9);
        let written = write_clips(root.path(), &config, 2, FrameFormat::Png).unwrap();
        let folders = written.iter().flat_map(|clip| [&clip.frames, &clip.masks]);
        let paths = folders.flat_map(|f| [f.join("00000.png"), f.join("00001.png")]);
        paths
            .map(|path| std::fs::read(path).unwrap())
            .collect::<Vec<_>>()
    };
    let first = files();
    assert_eq!(first, files());
    assert_ne!(first[0], first[4], "clips of one run differ");
}

#[test]
fn one_mask_serves_all_frames() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.png");
    // Object numbers of an annotation: any but 0 is a hole.
    let image = image::GrayImage::from_vec(3, 1, vec![0, 1, 255]).unwrap();
    image.save(&path).unwrap();
    let masks = MaskSource::open(&path).unwrap();
    masks.check(1000, 1, 3).unwrap();
    assert_eq!(masks.num_records(), None);
    let first = masks.records(70).unwrap().take(2);
    let hole_mask = HoleMask::new(1, 3, vec![0, 1, 1]);
    for record in first {
        assert_eq!(masks.load(record.unwrap()).unwrap(), hole_mask);
    }
}

#[test]
fn gray_in_a_jpeg_mask_is_no_hole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.jpg");
    let image =
        image::GrayImage::from_fn(16, 8, |x, _| image::Luma([if x < 8 { 40 } else { 220 }]));
    image.save(&path).unwrap();
    let masks = MaskSource::open(&path).unwrap();
    let record = masks.records(0).unwrap().next().unwrap().unwrap();
    assert_eq!(masks.load(record).unwrap().num_holes(), 64);
}

#[test]
fn masks_that_do_not_fit_name_both_counts_and_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let files = clip(3).write(folder.path(), "a", FrameFormat::Png).unwrap();
    let masks = MaskSource::open(&files.masks).unwrap();
    let error = masks.check(5, 24, 40).unwrap_err();
    assert!(matches!(
        error,
        MaskError::CountDiffers {
            num_masks: 3,
            num_frames: 5,
            ..
        }
    ));
    assert!(
        error
            .to_string()
            .contains("holds 3 masks, but the video has 5 frames"),
        "{error}"
    );
    let error = masks.check(3, 48, 80).unwrap_err().to_string();
    assert!(
        error.contains("24×40 pixels") && error.contains("frames 48×80"),
        "{error}"
    );
}

#[test]
fn a_real_clip_reads_with_its_masks() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/bmx-trees");
    if !Path::new(data).exists() {
        println!("skipped: {data} is not there");
        return;
    }
    let frames = FrameFolder::open(format!("{data}/frames")).unwrap();
    frames.verify().unwrap();
    let masks = MaskSource::open(format!("{data}/masks")).unwrap();
    masks
        .check(frames.len() as u64, frames.height(), frames.width())
        .unwrap();
    assert_eq!(
        (frames.len(), frames.height(), frames.width()),
        (80, 240, 432)
    );
    frames.frame(79).unwrap();
    // Counted once with another decoder.
    assert_eq!(stream(&masks, 79)[0].num_holes(), 1003);
}
