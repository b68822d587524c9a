//! Damaged and malicious TIFF files: each is refused by name, none panics,
//! hangs or makes the reader allocate what the file only claims.

use crate::allocations;
use std::{path::PathBuf, time::Instant};

use burn_memopt_datasets::tiff::{FrameSource, TiffStack, TiffStackError};
use proptest::prelude::*;
use rstest::rstest;
use tempfile::TempDir;

/// The largest single allocation that a page may cause: far below 4 GiB, and
/// far above what the small files here need.
const MAX_ALLOCATION: usize = 64 << 20;

const SHORT: u16 = 3;
const LONG: u16 = 4;

/// A little-endian classic TIFF, built byte by byte.
#[derive(Clone)]
struct File {
    bytes: Vec<u8>,
    /// Where the offset of the next directory is to be written.
    link: usize,
}

impl File {
    fn new() -> Self {
        Self {
            bytes: b"II\x2a\0\0\0\0\0".to_vec(),
            link: 4,
        }
    }

    fn set(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Appends a directory and links it; answers its offset.
    fn page(&mut self, tags: &[(u16, u16, u32, u32)]) -> u32 {
        let offset = self.bytes.len() as u32;
        self.set(self.link, offset);
        self.bytes.extend((tags.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in tags {
            self.bytes.extend(tag.to_le_bytes());
            self.bytes.extend(kind.to_le_bytes());
            self.bytes.extend(count.to_le_bytes());
            self.bytes.extend(value.to_le_bytes());
        }
        self.link = self.bytes.len();
        self.bytes.extend([0; 4]);
        offset
    }

    /// Appends a gray 8-bit page of claimed size, with some bytes for it.
    fn gray(&mut self, height: u32, width: u32, stored: u32, compression: u32) -> u32 {
        let pixels = self.bytes.len() as u32;
        self.bytes.extend(vec![0; stored as usize]);
        self.page(&gray_tags(height, width, pixels, stored, compression))
    }

    fn open(&self) -> Result<TiffStack, TiffStackError> {
        let (_folder, path) = self.save();
        TiffStack::open(path)
    }

    fn error(&self) -> TiffStackError {
        let error = self.open().unwrap_err();
        assert!(error.to_string().contains("hostile.tif"), "{error}");
        error
    }

    /// The first page is read, and a note says that the second is cut off.
    fn has_one_good_page(&self) {
        let stack = self.open().unwrap();
        assert_eq!(stack.num_frames(), 1);
        let [note] = stack.notes() else {
            panic!("{:?}", stack.notes());
        };
        assert!(note.contains("page 1 is truncated"), "{note}");
    }

    fn save(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hostile.tif");
        std::fs::write(&path, &self.bytes).unwrap();
        (folder, path)
    }
}

fn gray_tags(
    height: u32,
    width: u32,
    pixels: u32,
    stored: u32,
    compression: u32,
) -> [(u16, u16, u32, u32); 9] {
    [
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, 1, 8),
        (259, SHORT, 1, compression),
        (262, SHORT, 1, 1),
        (273, LONG, 1, pixels),
        (277, SHORT, 1, 1),
        (278, LONG, 1, height),
        (279, LONG, 1, stored),
    ]
}

#[test]
fn the_builder_makes_stacks_that_read_well() {
    let mut file = File::new();
    file.gray(2, 3, 6, 1);
    file.gray(2, 3, 6, 1);
    let (_folder, path) = file.save();
    let stack = TiffStack::open(path).unwrap();
    assert_eq!(stack.frame(1).unwrap().pixels, [0.0; 6]);
}

#[test]
fn pages_in_tiles_read_row_by_row() {
    let mut file = File::new();
    let value = |row: usize, column: usize| (row * 11 + column) as u8;
    let mut tags = gray_tags(20, 18, 0, 0, 1).to_vec();
    tags.retain(|tag| !matches!(tag.0, 273 | 278 | 279));
    let tiles: Vec<_> = [(0, 0), (0, 16), (16, 0), (16, 16)]
        .into_iter()
        .map(|(top, left)| {
            let at = file.bytes.len() as u32;
            let pixels = (0..256).map(|pixel| value(top + pixel / 16, left + pixel % 16));
            file.bytes.extend(pixels);
            at
        })
        .collect();
    let mut list = |values: Vec<u32>| {
        let at = file.bytes.len() as u32;
        file.bytes
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
        at
    };
    let (offsets, counts) = (list(tiles), list(vec![256; 4]));
    for (tag, count, value) in [
        (322, 1, 16),
        (323, 1, 16),
        (324, 4, offsets),
        (325, 4, counts),
    ] {
        set_tag(&mut tags, (tag, LONG, count, value));
    }
    file.page(&tags);
    let (_folder, path) = file.save();
    let frame = TiffStack::open(path).unwrap().frame(0).unwrap();
    let expected: Vec<f32> = (0..360)
        .map(|pixel| f32::from(value(pixel / 18, pixel % 18)))
        .collect();
    assert_eq!(frame.pixels, expected);
}

#[test]
fn jpeg_pages_read_as_the_decoder_of_images_reads_them() {
    let image = image::GrayImage::from_fn(24, 16, |x, y| image::Luma([(x * 7 + y * 3) as u8]));
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95)
        .encode_image(&image)
        .unwrap();
    let mut file = File::new();
    let (at, stored) = (file.bytes.len() as u32, jpeg.len() as u32);
    file.bytes.extend(&jpeg);
    file.page(&gray_tags(16, 24, at, stored, 7));
    let (_folder, path) = file.save();
    let frame = TiffStack::open(path).unwrap().frame(0).unwrap();
    let expected = image::load_from_memory(&jpeg)
        .unwrap()
        .to_luma8()
        .into_raw();
    assert_eq!(
        frame.pixels,
        expected.into_iter().map(f32::from).collect::<Vec<_>>()
    );
}

#[rstest]
#[case::empty(b"", "it holds 0 bytes")]
#[case::text(b"frame,x,y\n1,2,3\n", "it starts with the bytes")]
#[case::cut_header(b"II\x2a\0\x08", "its header is cut off")]
#[case::other_version(b"II\x2c\0\x08\0\0\0", "its version number is 44")]
#[case::bigtiff_offsets_of_4_bytes(
    b"MM\0\x2b\0\x04\0\0\0\0\0\0\0\0\0\x10",
    "BigTIFF header is corrupt"
)]
fn what_is_no_tiff_is_told_apart(#[case] bytes: &[u8], #[case] reason: &str) {
    let file = File {
        bytes: bytes.to_vec(),
        link: 4,
    };
    let error = file.error();
    assert!(matches!(error, TiffStackError::NotTiff { .. }), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn zero_pages() {
    assert!(matches!(
        File::new().error(),
        TiffStackError::NoPages { .. }
    ));
}

#[test]
fn truncated_ifd() {
    let mut file = File::new();
    file.gray(2, 3, 6, 1);
    let offset = file.gray(2, 3, 6, 1);
    file.bytes.truncate(offset as usize + 30);
    file.has_one_good_page();
}

#[test]
fn ifd_loop() {
    let mut file = File::new();
    let first = file.gray(2, 3, 6, 1);
    file.gray(2, 3, 6, 1);
    file.set(file.link, first);
    let error = file.error();
    assert!(
        matches!(error, TiffStackError::PageLoop { page: 2, offset, .. } if offset == u64::from(first))
    );
}

#[test]
fn ifd_that_follows_itself() {
    let mut file = File::new();
    let first = file.gray(2, 3, 6, 1);
    file.set(file.link, first);
    assert!(matches!(
        file.error(),
        TiffStackError::PageLoop { page: 1, .. }
    ));
}

#[rstest]
#[case::just_behind(0)]
#[case::far_away(u32::MAX)]
fn ifd_offset_past_the_end(#[case] offset: u32) {
    let mut file = File::new();
    file.gray(2, 3, 6, 1);
    let offset = if offset == 0 {
        file.bytes.len() as u32
    } else {
        offset
    };
    file.set(file.link, offset);
    file.has_one_good_page();
}

#[test]
fn strip_past_the_end() {
    let mut file = File::new();
    let mut tags = gray_tags(2, 3, 8, 6, 1);
    tags[5].3 = 1_000_000;
    file.page(&tags);
    let error = file.error();
    assert!(
        matches!(error, TiffStackError::Truncated { page: 0, .. }),
        "{error}"
    );
}

#[rstest]
#[case::uncompressed(1)]
#[case::deflate(8)]
#[case::lzw(5)]
#[case::packbits(32773)]
#[case::jpeg(7)]
fn claim_of_4_gib_in_a_1_kb_file(#[case] compression: u32) {
    let mut file = File::new();
    file.gray(65_536, 65_536, 800, compression);
    assert!(file.bytes.len() < 1024);
    let error = file.error();
    assert!(
        matches!(
            error,
            TiffStackError::Implausible {
                claimed: 4_294_967_296,
                ..
            }
        ),
        "{error}"
    );
}

#[rstest]
#[case::wide(1 << 31, 16)]
#[case::high(16, 1 << 31)]
fn claim_of_a_huge_tile_in_a_1_kb_file(#[case] width: u32, #[case] height: u32) {
    let mut file = File::new();
    let mut tags = gray_tags(2, 3, 8, 6, 8).to_vec();
    tags.retain(|tag| !matches!(tag.0, 273 | 278 | 279));
    for tag in [(322, width), (323, height), (324, 8), (325, 6)] {
        set_tag(&mut tags, (tag.0, LONG, 1, tag.1));
    }
    file.page(&tags);
    let error = file.error();
    assert!(
        matches!(error, TiffStackError::Implausible { page: 0, .. }),
        "{error}"
    );
}

#[rstest]
#[case::strip_offsets(5)]
#[case::rows_per_strip(7)]
fn claim_of_4_gib_of_values_in_a_1_kb_file(#[case] tag: usize) {
    let mut file = File::new();
    let mut tags = gray_tags(2, 3, 8, 6, 1);
    tags[tag].2 = u32::MAX / 4;
    file.page(&tags);
    let error = file.error();
    assert!(
        matches!(error, TiffStackError::Truncated { page: 0, .. }),
        "{error}"
    );
}

#[rstest]
#[case::no_rows(0, 3)]
#[case::no_columns(2, 0)]
fn zero_sized_image(#[case] height: u32, #[case] width: u32) {
    let mut file = File::new();
    file.gray(height, width, 6, 1);
    let error = file.error();
    assert!(
        matches!(error, TiffStackError::ZeroSized { page: 0, .. }),
        "{error}"
    );
}

#[test]
fn page_sizes_that_differ() {
    let mut file = File::new();
    file.gray(2, 3, 6, 1);
    file.gray(3, 2, 6, 1);
    let error = file.error();
    assert!(
        matches!(error, TiffStackError::SizeDiffers { page: 1, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("is 3×2 pixels, page 0 is 2×3"),
        "{error}"
    );
}

#[test]
fn wrong_strip_count() {
    let mut file = File::new();
    let mut tags = gray_tags(2, 3, 8, 6, 1);
    tags[7].3 = 1;
    file.page(&tags);
    let (_folder, path) = file.save();
    let error = TiffStack::open(path)
        .and_then(|stack| stack.frame(0))
        .unwrap_err();
    assert!(
        matches!(error, TiffStackError::Decode { page: 0, .. }),
        "{error}"
    );
}

#[test]
fn truncated_page() {
    let mut file = File::new();
    file.gray(16, 16, 256, 1);
    let pixels = file.bytes.len() as u32 + 2 + 9 * 12 + 4;
    file.page(&gray_tags(16, 16, pixels, 256, 1));
    file.bytes.extend([0; 255]);
    file.has_one_good_page();
    file.bytes.push(0);
    assert_eq!(file.open().unwrap().num_frames(), 2);
}

#[test]
fn file_cut_after_it_was_opened() {
    let mut file = File::new();
    file.gray(20, 30, 600, 1);
    let (_folder, path) = file.save();
    let stack = TiffStack::open(&path).unwrap();
    std::fs::write(&path, &file.bytes[..100]).unwrap();
    assert!(matches!(
        stack.frame(0),
        Err(TiffStackError::Changed { page: 0, .. })
    ));
}

#[rstest]
#[case::fifty_bits(2, 50, "50-bit unsigned")]
#[case::colour(4, 2, "photometric interpretation 2")]
#[case::three_samples(6, 3, "3 samples per pixel")]
#[case::jpeg_2000(3, 34_712, "uses compression 34712 (JPEG 2000)")]
#[case::unknown_compression(3, 12_345, "uses compression 12345")]
fn unsupported_pages_say_what_they_are(#[case] tag: usize, #[case] value: u32, #[case] what: &str) {
    let mut file = File::new();
    let mut tags = gray_tags(2, 3, 8, 6, 1);
    tags[tag].3 = value;
    file.page(&tags);
    let error = file.error();
    assert!(
        matches!(error, TiffStackError::Unsupported { page: 0, .. }),
        "{error}"
    );
    assert!(error.to_string().contains(what), "{error}");
}

/// An ImageJ stack of 3 images of 6 bytes that claims `images`.
fn imagej(images: u32, compression: u32) -> File {
    let mut file = File::new();
    let text = format!("ImageJ=1.53t\nimages={images}\nslices={images}\n");
    let at = file.bytes.len() as u32;
    file.bytes.extend(text.as_bytes());
    let pixels = at + text.len() as u32 + 126;
    let mut tags = gray_tags(2, 3, pixels, 6, compression).to_vec();
    tags.insert(5, (270, 2, text.len() as u32, at));
    file.page(&tags);
    assert_eq!(file.bytes.len() as u32, pixels);
    file.bytes.extend((0..18).collect::<Vec<u8>>());
    file
}

#[test]
fn all_images_behind_one_imagej_directory_are_frames() {
    let stack = imagej(3, 1).open().unwrap();
    assert_eq!(stack.num_frames(), 3);
    assert_eq!(
        stack.frame(2).unwrap().pixels,
        [12., 13., 14., 15., 16., 17.]
    );
}

#[rstest]
#[case::one_more(4)]
#[case::billions(u32::MAX)]
fn more_images_behind_one_directory_than_the_file_holds(#[case] images: u32) {
    let error = imagej(images, 1).error();
    assert!(
        matches!(error, TiffStackError::Truncated { page: 0, .. }),
        "{error}"
    );
}

#[test]
fn compressed_images_behind_one_directory_are_refused() {
    let error = imagej(3, 5).error();
    assert!(
        error.to_string().contains("ImageJ stack of 3 images"),
        "{error}"
    );
}

/// Reads whatever opens; any answer but a panic or a hang will do.
fn read_all(bytes: Vec<u8>) {
    let file = File { bytes, link: 4 };
    let (_folder, path) = file.save();
    let started = Instant::now();
    allocations::take();
    if let Ok(stack) = TiffStack::open(path) {
        for index in 0..stack.num_frames().min(20) {
            stack.frame(index).ok();
        }
    }
    assert!(started.elapsed().as_secs() < 60);
    let largest = allocations::take().largest;
    assert!(
        largest <= MAX_ALLOCATION,
        "{largest} bytes were allocated at once"
    );
}

/// Numbers that stand at the borders of what a tag may hold.
fn border() -> impl Strategy<Value = u32> {
    prop_oneof![
        0u32..10,
        prop::sample::select(vec![15, 16, 17, 32, 64, 255, 256, 32_773, 32_946, 65_535]),
        prop::sample::select(vec![
            65_536,
            1 << 20,
            1 << 27,
            1 << 30,
            1 << 31,
            u32::MAX - 1,
            u32::MAX
        ]),
        any::<u32>(),
    ]
}

/// Tags that change how pixels are read.
fn tag() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![
        254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338,
        339, 347, 530,
    ])
}

/// Sets a tag, or adds it; the directory stays in order.
fn set_tag(tags: &mut Vec<(u16, u16, u32, u32)>, new: (u16, u16, u32, u32)) {
    tags.retain(|tag| tag.0 != new.0);
    tags.push(new);
    tags.sort();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn contradicting_tags_never_panic(
        size in (1u32..40, 1u32..40),
        tiled in any::<bool>(),
        bits in prop::sample::select(vec![(8, 1), (16, 1), (16, 2), (32, 3), (64, 3)]),
        compression in prop::sample::select(vec![1, 5, 7, 8, 32_773]),
        predictor in 1u32..4,
        changes in prop::collection::vec((tag(), 1u16..5, prop_oneof![4 => Just(1u32), 1 => border()], border()), 0..3),
        pixels in prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 30),
    ) {
        let mut file = File::new();
        let at = file.bytes.len() as u32;
        file.bytes.extend(pixels.repeat(30));
        let mut tags = gray_tags(size.0, size.1, at, 900, compression).to_vec();
        set_tag(&mut tags, (258, SHORT, 1, bits.0));
        set_tag(&mut tags, (339, SHORT, 1, bits.1));
        set_tag(&mut tags, (317, SHORT, 1, predictor));
        if tiled {
            tags.retain(|tag| !matches!(tag.0, 273 | 278 | 279));
            for tag in [(322, LONG, 1, 64), (323, LONG, 1, 64), (324, LONG, 1, at), (325, LONG, 1, 900)] {
                set_tag(&mut tags, tag);
            }
        }
        for change in changes {
            set_tag(&mut tags, change);
        }
        file.page(&tags);
        read_all(file.bytes);
    }
}

fn movie(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dna-paint/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damaged_stacks_never_panic(
        layout in 0usize..3,
        stored in 1u32..100,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = File::new();
        file.gray(5, 6, 30.max(stored), [1, 5, 8][layout]);
        file.gray(5, 6, 30.max(stored), [32773, 7, 1][layout]);
        for (at, byte) in damage {
            let at = at.index(file.bytes.len());
            file.bytes[at] = byte;
        }
        read_all(file.bytes);
    }

    #[test]
    fn bytes_behind_a_header_never_panic(
        start in prop::sample::select(vec![b"II\x2a\0\x08\0\0\0".to_vec(), b"MM\0\x2a\0\0\0\x08".to_vec(),
            b"II\x2b\0\x08\0\0\0\x10\0\0\0\0\0\0\0".to_vec(), b"MM\0\x2b\0\x08\0\0\0\0\0\0\0\0\0\x10".to_vec()]),
        rest in prop::collection::vec(prop_oneof![3 => Just(0u8), 2 => 0u8..10, 1 => any::<u8>()], 0..400),
    ) {
        read_all([start, rest].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn damaged_movies_never_panic(
        name in prop::sample::select(vec!["frames.tif", "frames_deflate.tif", "frames_bigtiff_be.tif", "frames_imagej.tif"]),
        cut in prop::option::of(any::<prop::sample::Index>()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
    ) {
        let mut bytes = movie(name);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read_all(bytes);
    }
}
