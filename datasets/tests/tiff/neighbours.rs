//! The kinds of `tiff_cases` in other byte orders, versions, depths and numbers of pages.

use crate::stacks::{Format, Gray, LONG};
use burn_memopt_datasets::tiff::{FrameSource, TiffStack};
use rstest::rstest;

const HEIGHT: u64 = 3;
const WIDTH: u64 = 5;

/// Value `pixel` of page `page` in so many bits.
fn value(page: u64, pixel: u64, bits: u64) -> u64 {
    (page * 37 + pixel * 11 + 1) & (u64::MAX >> (64 - bits.min(16)))
}

/// A page's samples, packed where they are not whole bytes: rows start at whole bytes.
fn samples(format: Format, bits: u64, page: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in 0..HEIGHT {
        let values = (0..WIDTH).map(|column| value(page, row * WIDTH + column, bits));
        if bits.is_multiple_of(8) {
            values.for_each(|value| bytes.extend(format.number(value, bits as usize / 8)));
            continue;
        }
        let mut packed = vec![0u8; (WIDTH * bits).div_ceil(8) as usize];
        for (place, bit) in values
            .flat_map(|v| (0..bits).rev().map(move |b| v >> b & 1))
            .enumerate()
        {
            packed[place / 8] |= (bit as u8) << (7 - place % 8);
        }
        bytes.extend(packed);
    }
    bytes
}

fn gray(bits: u64) -> Gray {
    Gray {
        bits,
        ..Gray::u16(HEIGHT, WIDTH)
    }
}

/// Pages one behind the other, each behind its directory; `change` sees the tags of each page and
/// the offset of the next directory.
fn stack(
    format: Format,
    bits: u64,
    num_pages: u64,
    change: impl Fn(u64, &mut Vec<(u16, u16, u64, u64)>, &mut u64),
) -> Vec<u8> {
    let mut bytes = format.header(16);
    bytes.resize(16, 0);
    for page in 0..num_pages {
        let pixels = samples(format, bits, page);
        // A tag more than a page has, so that each page may get one.
        let mut tags = gray(bits).tags(0, pixels.len() as u64);
        tags.insert(0, (254, LONG, 1, 0));
        let data = bytes.len() as u64 + format.directory(&tags, 0).len() as u64;
        tags[6].3 = data;
        let mut next = match page + 1 < num_pages {
            true => data + pixels.len() as u64,
            false => 0,
        };
        change(page, &mut tags, &mut next);
        bytes.extend(format.directory(&tags, next));
        bytes.extend(pixels);
    }
    bytes
}

fn check(bytes: &[u8], bits: u64, pages: &[u64]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    std::fs::write(&path, bytes).unwrap();
    let stacks = [
        TiffStack::open(&path),
        TiffStack::open_checked(&path),
        TiffStack::from_bytes(bytes),
    ];
    let mut notes = Vec::new();
    for stack in stacks {
        let stack = stack.unwrap();
        assert_eq!(stack.num_frames(), pages.len());
        for (frame, &page) in pages.iter().enumerate() {
            let expected = (0..HEIGHT * WIDTH).map(|pixel| value(page, pixel, bits) as f32);
            let expected: Vec<_> = expected.collect();
            assert_eq!(stack.frame(frame).unwrap().pixels, expected, "page {page}");
        }
        notes = stack.notes().to_vec();
    }
    notes
}

#[rstest]
fn packed_and_whole_samples_of_every_depth(
    #[values(false, true)] big_endian: bool,
    #[values(false, true)] big_tiff: bool,
    #[values(1, 2, 4, 6, 8, 10, 12, 14, 16, 24, 32, 64)] bits: u64,
    #[values(1, 3, 12)] num_pages: u64,
) {
    let format = Format {
        big_endian,
        big_tiff,
    };
    let bytes = stack(format, bits, num_pages, |_, _, _| ());
    let pages: Vec<_> = (0..num_pages).collect();
    assert!(check(&bytes, bits, &pages).is_empty());
}

#[rstest]
fn pages_that_are_no_frames_at_any_place(
    #[values(false, true)] big_endian: bool,
    #[values(false, true)] big_tiff: bool,
    #[values(1, 4, 5)] mark: u64,
    #[values(0, 1, 5, 11)] marked: u64,
) {
    let format = Format {
        big_endian,
        big_tiff,
    };
    let bytes = stack(format, 16, 12, |page, tags, _| {
        if page == marked {
            tags[0].3 = mark;
        }
    });
    let pages: Vec<_> = (0..12).filter(|&page| page != marked).collect();
    assert_eq!(check(&bytes, 16, &pages).len(), 1);
}

#[rstest]
fn a_page_unlinked_at_any_place(
    #[values(false, true)] big_endian: bool,
    #[values(8, 16, 32)] bits: u64,
    #[values(1, 3, 5, 10)] unlinked: u64,
) {
    let format = Format {
        big_endian,
        big_tiff: false,
    };
    let each = stack(format, bits, 2, |_, _, _| ()).len() as u64 - 16;
    let bytes = stack(format, bits, 12, |page, _, next| {
        if page + 1 == unlinked {
            *next += each / 2;
        }
    });
    let pages: Vec<_> = (0..12).filter(|&page| page != unlinked).collect();
    assert!(check(&bytes, bits, &pages).is_empty());
}

#[rstest]
fn a_broken_end_leaves_the_good_pages(
    #[values(false, true)] big_endian: bool,
    #[values(false, true)] big_tiff: bool,
    #[values(1, 5, 20)] num_pages: u64,
    #[values(3, 60_000)] link: u64,
) {
    let format = Format {
        big_endian,
        big_tiff,
    };
    let bytes = stack(format, 16, num_pages, |page, _, next| {
        if page + 1 == num_pages {
            *next = link;
        }
    });
    let pages: Vec<_> = (0..num_pages).collect();
    let notes = check(&bytes, 16, &pages);
    assert!(
        notes.len() == 1 && notes[0].contains("its end is damaged"),
        "{notes:?}"
    );
}

#[rstest]
fn byte_counts_that_are_missing_or_wrong(
    #[values(false, true)] big_endian: bool,
    #[values(8, 12, 16)] bits: u64,
    #[values(None, Some(0), Some(1), Some(1_000_000))] count: Option<u64>,
) {
    let format = Format {
        big_endian,
        big_tiff: false,
    };
    let bytes = stack(format, bits, 12, |_, tags, _| match count {
        Some(count) => tags[9].3 = count,
        // Another tag of the same length.
        None => tags[9].0 = 280,
    });
    let pages: Vec<_> = (0..12).collect();
    assert!(check(&bytes, bits, &pages).is_empty());
}

#[rstest]
fn planes_behind_one_directory(
    #[values(false, true)] big_endian: bool,
    #[values(false, true)] big_tiff: bool,
    #[values(8, 16, 32)] bits: u64,
    #[values(
        "{\"shape\": [2, 3, 3, 5], \"truncated\": true}",
        "{\"shape\": [6, 3, 5, 1]}",
        "ImageJ=1.54f\nimages=6\n",
        "STK"
    )]
    kind: &str,
) {
    let format = Format {
        big_endian,
        big_tiff,
    };
    let mut bytes = format.header(128);
    let text_at = bytes.len() as u64;
    bytes.extend(kind.as_bytes());
    bytes.resize(128, 0);
    let page: Vec<u8> = samples(format, bits, 0);
    let mut tags = gray(bits).tags(512, page.len() as u64);
    match kind {
        "STK" => tags.push((33_629, 5, 6, 16)),
        text => tags.insert(5, (270, 2, text.len() as u64, text_at)),
    }
    bytes.extend(format.directory(&tags, 0));
    bytes.resize(512, 0);
    (0..6).for_each(|page| bytes.extend(samples(format, bits, page)));
    assert!(check(&bytes, bits, &[0, 1, 2, 3, 4, 5]).is_empty());
    // A plane that the file does not hold is never made up.
    bytes.pop();
    match TiffStack::from_bytes(bytes) {
        Ok(stack) => {
            assert!(kind.contains("shape") && !kind.contains("truncated"));
            assert_eq!(stack.num_frames(), 1);
            assert!(
                stack.notes()[0].contains("of 6 images"),
                "{:?}",
                stack.notes()
            );
        }
        Err(error) => assert!(error.to_string().contains("truncated"), "{error}"),
    }
}
