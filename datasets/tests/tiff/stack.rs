//! Stacks of every layout and sample type, read frame by frame.

use std::{fs::File, path::PathBuf};

use burn::data::dataset::Dataset;
use burn_memopt_datasets::tiff::{FrameSource, TiffStack, TiffStackError, TiffStackWriter};
use rstest::rstest;
use tiff::encoder::{Compression, TiffEncoder, TiffKind, TiffValue, colortype};

fn dna_paint(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dna-paint");
    PathBuf::from(folder).join(name)
}

#[rstest]
#[case::deflate("frames_deflate.tif")]
#[case::big_endian_bigtiff("frames_bigtiff_be.tif")]
#[case::imagej("frames_imagej.tif")]
fn every_layout_of_a_movie_gives_the_same_frames(#[case] name: &str) {
    let plain = TiffStack::open(dna_paint("frames.tif")).unwrap();
    let other = TiffStack::open(dna_paint(name)).unwrap();
    assert_eq!(
        (plain.num_frames(), plain.height(), plain.width()),
        (100, 32, 32)
    );
    assert_eq!(other.num_frames(), 100);
    // Backwards, so that no access can lean on the one before.
    for index in (0..100).rev() {
        assert_eq!(plain.frame(index).unwrap(), other.frame(index).unwrap());
    }
}

#[test]
fn the_movie_shows_its_emitters_where_the_table_says() {
    let stack = TiffStack::open(dna_paint("frames.tif")).unwrap();
    let table = burn_memopt_datasets::localizations::read_csv(dna_paint("localizations.csv"));
    for emitter in table.unwrap() {
        let frame = stack.frame(emitter.frame).unwrap();
        let at = emitter.y.round() as usize * 32 + emitter.x.round() as usize;
        let mean = frame.pixels.iter().sum::<f32>() / 1024.0;
        assert!(frame.pixels[at] > 1.5 * mean, "frame {}", emitter.frame);
    }
}

#[test]
fn threads_read_one_stack_at_once() {
    let stack = TiffStack::open(dna_paint("frames_deflate.tif")).unwrap();
    let expected: Vec<_> = (0..100).map(|index| stack.frame(index).unwrap()).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (stack, expected) = (&stack, &expected);
            scope.spawn(move || {
                for step in 0..100 {
                    let index = (step * 37 + thread * 11) % 100;
                    assert_eq!(stack.get(index).unwrap(), expected[index]);
                }
            });
        }
    });
}

/// Writes two frames of 9×7 pixels, the second from `second` on.
fn write<C: colortype::ColorType, K: TiffKind>(
    mut encoder: TiffEncoder<&File, K>,
    value: impl Fn(usize) -> C::Inner,
) where
    [C::Inner]: TiffValue,
{
    for frame in 0..2 {
        let pixels: Vec<_> = (0..63).map(|pixel| value(frame * 63 + pixel)).collect();
        let mut image = encoder.new_image::<C>(7, 9).unwrap();
        image.rows_per_strip(4).unwrap();
        image.write_data(&pixels).unwrap();
    }
}

#[rstest]
#[case::uncompressed(Compression::Uncompressed)]
#[case::lzw(Compression::Lzw)]
#[case::deflate(Compression::Deflate(Default::default()))]
#[case::packbits(Compression::Packbits)]
fn every_sample_type_keeps_its_values(
    #[case] compression: Compression,
    #[values("u8", "u16", "u32", "i16", "f32", "big")] kind: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let file = File::create(&path).unwrap();
    let classic = || {
        TiffEncoder::new(&file)
            .unwrap()
            .with_compression(compression)
    };
    let big = || {
        TiffEncoder::new_big(&file)
            .unwrap()
            .with_compression(compression)
    };
    let mut sign = 1.0;
    match kind {
        "u8" => write::<colortype::Gray8, _>(classic(), |value| value as u8),
        "u16" => write::<colortype::Gray16, _>(classic(), |value| value as u16),
        "u32" => write::<colortype::Gray32, _>(classic(), |value| value as u32),
        "f32" => write::<colortype::Gray32Float, _>(classic(), |value| value as f32),
        "big" => write::<colortype::Gray16, _>(big(), |value| value as u16),
        "i16" => {
            sign = -1.0;
            write::<colortype::GrayI16, _>(classic(), |value| -(value as i16));
        }
        other => unreachable!("no kind {other}"),
    }
    let stack = TiffStack::open(&path).unwrap();
    assert_eq!(
        (stack.num_frames(), stack.height(), stack.width()),
        (2, 9, 7)
    );
    let expected: Vec<f32> = (63..126).map(|value| sign * value as f32).collect();
    assert_eq!(stack.frame(1).unwrap().pixels, expected);
}

#[test]
fn colour_is_refused_by_page_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let file = File::create(&path).unwrap();
    let mut encoder = TiffEncoder::new(&file).unwrap();
    encoder
        .write_image::<colortype::Gray8>(2, 1, &[0; 2])
        .unwrap();
    encoder
        .write_image::<colortype::RGB8>(2, 1, &[0; 6])
        .unwrap();
    let error = TiffStack::open(&path).unwrap_err();
    assert!(
        matches!(error, TiffStackError::Unsupported { page: 1, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("3 samples per pixel"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = TiffStack::open("no/such/movie.tif").unwrap_err();
    assert!(error.to_string().contains("no/such/movie.tif"), "{error}");
    assert!(matches!(error, TiffStackError::Open { .. }));
}

#[test]
fn there_is_no_frame_behind_the_last() {
    let stack = TiffStack::open(dna_paint("frames.tif")).unwrap();
    let error = stack.frame(100).unwrap_err().to_string();
    assert!(
        error.ends_with("has 100 frames, there is no frame 100"),
        "{error}"
    );
}

#[test]
fn a_written_stack_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let mut writer = TiffStackWriter::create(path.as_path(), 2, 3).unwrap();
    for frame in 0..5u16 {
        let pixels: Vec<u16> = (0..6).map(|pixel| frame * 1000 + pixel).collect();
        writer.write_frame(&pixels).unwrap();
    }
    writer.finish().unwrap();
    let stack = TiffStack::open(&path).unwrap();
    assert_eq!(stack.num_frames(), 5);
    assert_eq!(
        stack.frame(3).unwrap().pixels,
        [3000., 3001., 3002., 3003., 3004., 3005.]
    );
}

#[test]
fn an_unfinished_stack_leaves_the_earlier_one_whole_and_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    std::fs::write(&path, "earlier").unwrap();
    let mut writer = TiffStackWriter::create(&path, 1, 1).unwrap();
    writer.write_frame(&[1u8]).unwrap();
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap(), b"earlier");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_stack_without_frames_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let writer = TiffStackWriter::create(folder.path().join("stack.tif"), 1, 1).unwrap();
    assert!(matches!(
        writer.finish(),
        Err(TiffStackError::NoPages { .. })
    ));
}

#[test]
fn rows_make_pages_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let mut writer = TiffStackWriter::create(&path, 3, 2).unwrap();
    let pixels: Vec<f32> = (0..12).map(|pixel| pixel as f32 / 4.0).collect();
    for (rows, pages) in [(0..2, 0), (2..8, 1), (8..8, 1), (8..12, 2)] {
        writer.write_rows(&pixels[rows]).unwrap();
        assert_eq!(writer.num_frames(), pages);
    }
    writer.finish().unwrap();
    let stack = TiffStack::open(&path).unwrap();
    assert_eq!(stack.frame(0).unwrap().pixels, pixels[..6]);
    assert_eq!(stack.frame(1).unwrap().pixels, pixels[6..]);
}

#[test]
fn a_page_that_lacks_rows_is_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = TiffStackWriter::create(folder.path().join("stack.tif"), 3, 2).unwrap();
    writer.write_rows(&[0u8; 8]).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(
        error.to_string().contains("1 of 3 rows of page 1"),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "pixels must be U8 as those before, got U16")]
fn a_stack_has_one_sample_type() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = TiffStackWriter::create(folder.path().join("stack.tif"), 1, 1).unwrap();
    writer.write_frame(&[0u8]).unwrap();
    writer.write_frame(&[0u16]).ok();
}

#[test]
#[should_panic(expected = "frame must start a page, got 1 rows of one before it")]
fn a_frame_does_not_finish_a_page_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = TiffStackWriter::create(folder.path().join("stack.tif"), 2, 1).unwrap();
    writer.write_rows(&[0u8]).unwrap();
    writer.write_frame(&[0u8; 2]).ok();
}

#[test]
#[should_panic(expected = "frame must have 2×3 = 6 pixels, got 5")]
fn a_frame_of_another_size_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = TiffStackWriter::create(folder.path().join("stack.tif"), 2, 3).unwrap();
    writer.write_frame(&[0u8; 5]).ok();
}
