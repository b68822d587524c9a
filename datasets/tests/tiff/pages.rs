//! Pages as they are stored: every byte order, version, layout and compression gives the samples
//! that were put in, mapped where the file allows it.

use std::{io::Write, path::Path};

use crate::stacks::{Format, Gray, LONG, LONG8, directories, imagej_head};
use burn_memopt_datasets::tiff::{FrameSource, SampleType, TiffStack, TiffStackError};
use flate2::{Compression, write::ZlibEncoder};
use proptest::prelude::*;
use rstest::rstest;

const CLASSIC: Format = Format {
    big_endian: false,
    big_tiff: false,
};

fn open(bytes: &[u8]) -> Result<TiffStack, TiffStackError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    std::fs::write(&path, bytes).unwrap();
    // The file is open, so its folder may go.
    TiffStack::open(&path)
}

/// Pixels that differ from page to page.
fn pixels(page: u64, gray: Gray) -> Vec<u64> {
    let most = u64::MAX >> (64 - gray.bits.min(16));
    let numbers = (0..gray.height * gray.width).map(|pixel| page * 7919 + pixel * 31);
    numbers.map(|number| number & most).collect()
}

/// Pages one behind the other, and their directories behind all of them.
fn contiguous(format: Format, gray: Gray, num_pages: u64) -> Vec<u8> {
    let start = 16 + num_pages * gray.page_bytes();
    let mut bytes = format.header(start);
    bytes.resize(16, 0);
    for page in 0..num_pages {
        for pixel in pixels(page, gray) {
            bytes.extend(format.number(pixel, gray.bits as usize / 8));
        }
    }
    bytes.extend(directories(format, gray, num_pages, 16, start));
    bytes
}

#[rstest]
fn contiguous_pages_are_mapped_in_every_byte_order_and_version(
    #[values(false, true)] big_endian: bool,
    #[values(false, true)] big_tiff: bool,
    #[values(2, 7, 8, 40)] num_pages: u64,
) {
    let format = Format {
        big_endian,
        big_tiff,
    };
    let gray = Gray::u16(5, 6);
    let stack = open(&contiguous(format, gray, num_pages)).unwrap();
    assert_eq!(stack.num_frames() as u64, num_pages);
    for index in (0..num_pages).rev() {
        let page = stack.page(index as usize).unwrap();
        assert!(page.is_mapped());
        assert_eq!(page.sample_type(), SampleType::U16);
        assert_eq!(page.is_big_endian(), big_endian);
        let expected = pixels(index, gray);
        let native = big_endian == cfg!(target_endian = "big");
        match page.as_slice::<u16>() {
            Some(samples) if native => {
                assert!(samples.iter().map(|&s| u64::from(s)).eq(expected.clone()));
            }
            None if !native => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(page.as_slice::<i16>(), None);
        let expected: Vec<_> = expected.iter().map(|&pixel| pixel as f32).collect();
        assert_eq!(page.to_f32(), expected);
    }
}

#[test]
fn samples_at_odd_bytes_have_no_slice_but_all_their_values() {
    let gray = Gray::u16(1, 2);
    let mut bytes = CLASSIC.header(14);
    bytes.extend([0, 1, 2, 3, 4, 0]);
    bytes.extend(CLASSIC.directory(&gray.tags(9, 4), 0));
    let page = open(&bytes).unwrap().page(0).unwrap();
    assert!(page.is_mapped());
    assert_eq!(page.as_slice::<u16>(), None);
    assert_eq!(page.to_f32(), [f32::from(0x0201u16), f32::from(0x0403u16)]);
}

#[test]
fn strips_that_follow_each_other_are_one_mapped_page() {
    let gray = Gray::u16(5, 3);
    let mut bytes = CLASSIC.header(0);
    let samples: Vec<u8> = (0..30).collect();
    bytes.extend(&samples);
    let lists = bytes.len() as u64;
    for value in [8u32, 20, 32, 12, 12, 6] {
        bytes.extend(value.to_le_bytes());
    }
    let mut tags = gray.tags(8, 30);
    tags[5] = (273, LONG, 3, lists);
    tags[7].3 = 2;
    tags[8] = (279, LONG, 3, lists + 12);
    let directory = bytes.len() as u64;
    bytes.extend(CLASSIC.directory(&tags, 0));
    bytes[4..8].copy_from_slice(&(directory as u32).to_le_bytes());
    let page = open(&bytes).unwrap().page(0).unwrap();
    assert!(page.is_mapped());
    assert_eq!(page.bytes(), samples);

    // The second strip elsewhere: the same page in pieces.
    bytes.extend([99; 12]);
    let moved = bytes.len() as u32 - 12;
    bytes[lists as usize + 4..][..4].copy_from_slice(&moved.to_le_bytes());
    let page = open(&bytes).unwrap().page(0).unwrap();
    assert!(!page.is_mapped());
    assert_eq!(page.bytes()[..12], samples[..12]);
    assert_eq!(page.bytes()[12..24], [99; 12]);
    assert_eq!(page.bytes()[24..], samples[24..]);
}

#[rstest]
fn all_images_behind_one_imagej_directory_are_mapped(#[values(false, true)] big_endian: bool) {
    let format = Format {
        big_endian,
        big_tiff: false,
    };
    let gray = Gray::u16(3, 4);
    let (mut bytes, _) = imagej_head(format, gray, 50);
    for page in 0..50 {
        for pixel in pixels(page, gray) {
            bytes.extend(format.number(pixel, 2));
        }
    }
    let stack = open(&bytes).unwrap();
    assert_eq!(stack.num_frames(), 50);
    for index in [49, 0, 17] {
        let page = stack.page(index).unwrap();
        let expected = pixels(index as u64, gray);
        let expected: Vec<_> = expected.iter().map(|&pixel| pixel as f32).collect();
        assert!(page.is_mapped());
        assert_eq!(page.to_f32(), expected);
    }
}

#[test]
fn a_page_that_is_elsewhere_than_the_others_say_is_read_where_it_is() {
    let gray = Gray::u16(2, 2);
    let mut bytes = contiguous(CLASSIC, gray, 40);
    // Page 10 shows the pixels of page 0.
    let len = CLASSIC.directory(&gray.tags(0, 0), 0).len();
    let start = bytes.len() - 40 * len;
    let strip = start + 10 * len + 2 + 5 * 12 + 8;
    bytes[strip..strip + 4].copy_from_slice(&16u32.to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    std::fs::write(&path, &bytes).unwrap();

    for stack in [TiffStack::open(&path), TiffStack::open_checked(&path)] {
        let stack = stack.unwrap();
        assert_eq!(stack.num_frames(), 40);
        assert_eq!(
            stack.frame(10).unwrap().pixels,
            stack.frame(0).unwrap().pixels
        );
        assert_ne!(
            stack.frame(11).unwrap().pixels,
            stack.frame(0).unwrap().pixels
        );
    }
}

#[test]
fn a_page_that_moved_after_the_stack_was_opened_is_named() {
    let gray = Gray::u16(2, 2);
    let mut bytes = contiguous(CLASSIC, gray, 40);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    std::fs::write(&path, &bytes).unwrap();
    let stack = TiffStack::open(&path).unwrap();
    let len = CLASSIC.directory(&gray.tags(0, 0), 0).len();
    let strip = bytes.len() - 30 * len + 2 + 5 * 12 + 8;
    bytes[strip..strip + 4].copy_from_slice(&16u32.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let error = stack.page(10).unwrap_err();
    assert!(
        matches!(error, TiffStackError::Irregular { page: 10, .. }),
        "{error}"
    );
    stack.page(11).unwrap();
}

#[test]
fn pages_that_are_only_regular_at_first_are_all_found() {
    let gray = Gray::u16(2, 2);
    let mut bytes = contiguous(CLASSIC, gray, 20);
    let len = CLASSIC.directory(&gray.tags(0, 0), 0).len();
    let start = bytes.len() - 20 * len;
    // The last directory links one more, at no multiple of the distance.
    let more = bytes.len() as u32 + 1;
    let link = start + 20 * len - 4;
    bytes[link..].copy_from_slice(&more.to_le_bytes());
    bytes.push(0);
    bytes.extend(CLASSIC.directory(&gray.tags(16, 8), 0));
    let stack = open(&bytes).unwrap();
    assert_eq!(stack.num_frames(), 21);
    assert_eq!(
        stack.frame(20).unwrap().pixels,
        stack.frame(0).unwrap().pixels
    );
}

#[test]
fn a_page_outlives_its_stack() {
    let gray = Gray::u16(2, 2);
    let page = open(&contiguous(CLASSIC, gray, 9))
        .unwrap()
        .page(8)
        .unwrap();
    let expected = pixels(8, gray);
    assert_eq!(page.to_f32()[3], expected[3] as f32);
}

#[test]
fn a_stack_in_memory_reads_as_its_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dna-paint");
    for name in ["frames_bigtiff_be.tif", "frames_deflate.tif"] {
        let path = path.join(name);
        let memory = TiffStack::from_bytes(std::fs::read(&path).unwrap()).unwrap();
        let file = TiffStack::open(&path).unwrap();
        for index in [0, 57, 99] {
            assert_eq!(memory.frame(index).unwrap(), file.frame(index).unwrap());
        }
    }
    let error = TiffStack::from_bytes(*b"II").unwrap_err();
    assert!(
        error.to_string().starts_with("<memory> is not a TIFF file"),
        "{error}"
    );
}

/// What the general decoder makes of the first page.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = tiff::decoder::Decoder::new(std::io::Cursor::new(bytes)).unwrap();
    let mut pixels = vec![0; decoder.image_buffer_layout().unwrap().complete_len];
    decoder.read_image_bytes(&mut pixels).unwrap();
    pixels
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn deflated_strips_read_as_the_general_decoder_reads_them(
        big_endian in any::<bool>(), big_tiff in any::<bool>(), predictor in 1u64..3,
        kind in prop::sample::select(vec![(8, 1), (8, 2), (16, 1), (16, 2), (32, 1), (32, 2), (32, 3), (64, 3)]),
        (height, width) in (1u64..20, 1u64..20), rows_per_strip in prop_oneof![1u64..22, Just(u64::from(u32::MAX))],
        number in prop_oneof![Just(8u64), Just(32_946)], seed in any::<u64>(),
    ) {
        let (bits, sample_format) = kind;
        prop_assume!(predictor == 1 || sample_format != 3);
        let format = Format { big_endian, big_tiff };
        let gray = Gray { height, width, bits, format: sample_format, compression: number, predictor };
        let row = (width * bits / 8) as usize;
        let samples: Vec<u8> = (0..gray.page_bytes()).map(|byte| (byte.wrapping_mul(seed | 1) >> 5) as u8).collect();
        let mut bytes = format.header(0);
        let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
        for strip in samples.chunks(row.saturating_mul(rows_per_strip as usize)) {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(strip).unwrap();
            let strip = encoder.finish().unwrap();
            offsets.push(bytes.len() as u64);
            lengths.push(strip.len() as u64);
            bytes.extend(strip);
        }
        let mut tags = gray.tags(offsets[0], lengths[0]);
        tags[7].3 = rows_per_strip;
        if offsets.len() > 1 {
            for (tag, values) in [(5, &offsets), (8, &lengths)] {
                let at = bytes.len() as u64;
                values.iter().for_each(|&value| bytes.extend(format.number(value, 4)));
                tags[tag] = (tags[tag].0, LONG, values.len() as u64, at);
            }
            // Two values fit into a tag of BigTIFF.
            if big_tiff && offsets.len() == 2 {
                for (tag, values) in [(5, &offsets), (8, &lengths)] {
                    tags[tag].1 = LONG8;
                    tags[tag].3 = bytes.len() as u64;
                    values.iter().for_each(|&value| bytes.extend(format.number(value, 8)));
                }
            }
        }
        let first = bytes.len() as u64;
        bytes.extend(format.directory(&tags, 0));
        let header = format.header(first);
        bytes[..header.len()].copy_from_slice(&header);
        let page = TiffStack::from_bytes(bytes.clone()).unwrap().page(0).unwrap();
        prop_assert!(!page.is_mapped());
        prop_assert_eq!(page.bytes(), decoded(&bytes));
        prop_assert!(sample_format != 3 || bits != 32 || page.as_slice::<f32>().is_some());
    }
}

#[test]
fn damage_in_a_deflated_strip_is_an_error_of_its_page() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/dna-paint/frames_deflate.tif"
    );
    let mut bytes = std::fs::read(path).unwrap();
    // Page 2 stores its strip at byte 3184.
    bytes[3200..3300].fill(0xff);
    let stack = TiffStack::from_bytes(bytes).unwrap();
    let error = stack.frame(2).unwrap_err();
    assert!(
        matches!(error, TiffStackError::Decode { page: 2, .. }),
        "{error}"
    );
    assert!(std::error::Error::source(&error).is_some());
    stack.frame(3).unwrap();
}
