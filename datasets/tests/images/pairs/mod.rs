//! Images and masks as people have them: each folder of `cases/pairs` is read as `plain` is, and so
//! are its neighbours of other depths, containers and names.

mod classes;
mod values;

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::data::dataset::Dataset;
use burn_memopt_datasets::{
    folder::unread_files,
    image_file::ImageFileError,
    masks::{ImageMask, ImageMaskError, ImageMaskFolder, MaskRule, MaskSource},
    stream::StreamingDataset,
    video::{FrameFolder, VideoRecord},
};
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb};
use rstest::rstest;

fn cases(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases")
        .join(name)
}

/// The items of a folder, once it has been verified, and what is object in its masks.
fn open(name: &str) -> (Vec<ImageMask>, MaskRule) {
    let folder = cases("pairs").join(name);
    let pairs = ImageMaskFolder::open(folder.join("images"), folder.join("masks")).unwrap();
    pairs.verify().unwrap();
    let rule = pairs.mask_rule().unwrap().clone();
    (pairs.iter().map(Result::unwrap).collect(), rule)
}

fn masks(items: &[ImageMask]) -> Vec<&[f32]> {
    items.iter().map(|item| &item.mask[..]).collect()
}

#[rstest]
#[case("mask_16_bit_0_1")]
#[case("labels_0_1_2")]
#[case("instance_labels_16_bit")]
#[case("class_palette")]
#[case("object_in_alpha")]
#[case("carvana_suffix_mask")]
#[case("carvana_suffix_mask_gif")]
#[case("names_composed_and_decomposed")]
#[case("jpeg_with_movie_behind")]
#[case("exif_turned_180")]
#[case("one_pair_is_bmp")]
fn each_case_has_the_masks_of_plain(#[case] name: &str) {
    let (plain, plain_rule) = open("plain");
    let (items, rule) = open(name);
    assert_eq!(masks(&items)[..plain.len()], masks(&plain));
    if name != "one_pair_is_bmp" {
        assert_eq!(rule.object_share(), plain_rule.object_share());
        assert_eq!(items.len(), plain.len());
    }
    for (item, plain) in items.iter().zip(&plain) {
        let differences = item.image.iter().zip(&plain.image);
        let sum: f32 = differences.map(|(one, other)| (one - other).abs()).sum();
        let mean = sum / item.image.len() as f32;
        // JPEG files are close, others equal. A picture that is upside down is far away.
        let allowed = if name.contains("jpeg") || name.contains("exif") {
            0.1
        } else {
            0.0
        };
        assert!(mean <= allowed, "{name}: images differ by {mean}");
    }
}

#[test]
fn a_pair_of_another_format_is_one_more_pair() {
    let (items, _) = open("one_pair_is_bmp");
    assert_eq!(items.len(), 6);
    assert_eq!(items[5].stem, "p7");
}

#[test]
fn noise_in_an_empty_mask_is_no_object() {
    let (plain, _) = open("plain");
    let (noisy, rule) = open("one_empty_mask_with_noise");
    let empty = noisy
        .iter()
        .filter(|item| !item.mask.contains(&1.0))
        .count();
    assert_eq!(empty, 1);
    for (noisy, plain) in noisy.iter().zip(&plain) {
        assert!(noisy.mask == plain.mask || !noisy.mask.contains(&1.0));
    }
    assert!(rule.to_string().contains("noise or edges"), "{rule}");
}

#[test]
fn masks_without_an_object_are_said() {
    let (items, rule) = open("all_masks_empty");
    assert!(items.iter().all(|item| !item.mask.contains(&1.0)));
    assert_eq!(rule.object_share(), 0.0);
    assert!(
        rule.to_string().contains("warning: no mask has an object"),
        "{rule}"
    );
}

#[test]
fn photographs_are_turned_as_viewers_turn_them() {
    let path = cases("pairs/exif_turned_180/images/p0.jpg");
    let stored = image::load_from_memory(&fs::read(path).unwrap()).unwrap();
    let seen = stored.rotate180().to_rgb32f();
    let (items, _) = open("exif_turned_180");
    let red: Vec<f32> = seen.pixels().map(|pixel| pixel.0[0]).collect();
    assert_eq!(items[0].image[..red.len()], red);
}

/// A folder of images and one of masks, for pairs that a test writes.
fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (images, masks) = (folder.path().join("images"), folder.path().join("masks"));
    fs::create_dir(&images).unwrap();
    fs::create_dir(&masks).unwrap();
    (folder, images, masks)
}

const SIDE: u32 = 16;
const RED: [u8; 3] = [200, 0, 0];

/// A square of `label` in the middle.
fn square(x: u32, y: u32, label: u16) -> u16 {
    if (4..12).contains(&x) && (4..12).contains(&y) {
        label
    } else {
        0
    }
}

/// The mask of one image, as it is read.
fn read_mask(mask: impl Into<DynamicImage>, name: &str) -> Vec<f32> {
    let (_folder, images, masks) = folders();
    GrayImage::new(SIDE, SIDE)
        .save(images.join("a.png"))
        .unwrap();
    mask.into().save(masks.join(name)).unwrap();
    let pairs = ImageMaskFolder::open(&images, &masks).unwrap();
    pairs.verify().unwrap();
    pairs.item(0).unwrap().mask
}

#[rstest]
fn a_square_is_found_at_every_depth_in_every_container(
    #[values("a.png", "a.tif", "a.tiff", "a.webp", "a.bmp", "a.gif", "a_mask.png")] name: &str,
    #[values(1, 2, 200, 255)] label: u16,
) {
    let expected: Vec<f32> = (0..SIDE * SIDE)
        .map(|index| f32::from(square(index % SIDE, index / SIDE, 1)))
        .collect();
    let gray = GrayImage::from_fn(SIDE, SIDE, |x, y| Luma([square(x, y, label) as u8]));
    // These containers are written in colours.
    let mask = match name {
        "a.webp" | "a.gif" => DynamicImage::from(gray).into_rgb8().into(),
        _ => DynamicImage::from(gray),
    };
    assert_eq!(read_mask(mask, name), expected);
    if name.contains(".tif") || name.contains(".png") {
        let deep = ImageBuffer::from_fn(SIDE, SIDE, |x, y| Luma([square(x, y, label * 257)]));
        assert_eq!(read_mask(deep, name), expected);
        let shallow = ImageBuffer::from_fn(SIDE, SIDE, |x, y| Luma([square(x, y, label)]));
        assert_eq!(read_mask(shallow, name), expected);
    }
}

#[test]
fn classes_next_to_each_other_are_all_object() {
    for labels in [[1, 2], [1, 255], [128, 255], [300, 40_000]] {
        let mask = ImageBuffer::from_fn(SIDE, SIDE, |x, y| {
            Luma([square(x, y, if x < 8 { labels[0] } else { labels[1] })])
        });
        let read = read_mask(mask, "a.png");
        assert_eq!(read.iter().sum::<f32>(), 64.0, "{labels:?}");
    }
}

#[test]
fn soft_edges_end_at_one_half() {
    let mask = GrayImage::from_fn(SIDE, SIDE, |x, _| {
        Luma([match x {
            0..7 => 255,
            7 => 180,
            8 => 60,
            _ => 0,
        }])
    });
    let read = read_mask(mask, "a.png");
    assert_eq!(read.iter().sum::<f32>(), f64::from(8 * SIDE) as f32);
}

#[test]
fn an_object_is_found_in_the_alpha_channel_alone() {
    for (gray, object) in [(255, 255), (0, 255), (9, 1)] {
        let mask =
            ImageBuffer::from_fn(SIDE, SIDE, |x, y| LumaA([gray, square(x, y, object) as u8]));
        assert_eq!(read_mask(mask, "a.png").iter().sum::<f32>(), 64.0);
    }
}

#[test]
fn a_transparent_pixel_is_background() {
    let mask = ImageBuffer::from_fn(SIDE, SIDE, |x, y| match square(x, y, 1) {
        1 => LumaA([(200 + x) as u8, 255]),
        _ => LumaA([255, 0]),
    });
    assert_eq!(read_mask(mask, "a.png").iter().sum::<f32>(), 64.0);
}

#[rstest]
#[case("_mask")]
#[case("-gt")]
#[case("_cp_masks")]
#[case(".ome.label")]
#[case(" copy")]
fn any_suffix_that_masks_have_in_common_is_found(#[case] suffix: &str) {
    let (_folder, images, masks) = folders();
    for stem in ["p1", "p10", "p1_1"] {
        DynamicImage::new_rgb8(4, 4)
            .save(images.join(format!("{stem}.png")))
            .unwrap();
        DynamicImage::new_luma8(4, 4)
            .save(masks.join(format!("{stem}{suffix}.png")))
            .unwrap();
    }
    let pairs = ImageMaskFolder::open(&images, &masks).unwrap();
    let stems: Vec<_> = (0..pairs.len()).map(|index| pairs.stem(index)).collect();
    assert_eq!(stems, ["p1", "p1_1", "p10"]);
    pairs.verify().unwrap();
    DynamicImage::new_luma8(4, 4)
        .save(masks.join("other_mask.png"))
        .unwrap();
    let error = ImageMaskFolder::open(&images, &masks).unwrap_err();
    assert!(matches!(error, ImageMaskError::ExtraMask { .. }), "{error}");
}

#[test]
fn every_pixel_as_object_is_said() {
    let (_folder, images, masks) = folders();
    GrayImage::new(4, 4).save(images.join("a.png")).unwrap();
    GrayImage::from_pixel(4, 4, Luma([255]))
        .save(masks.join("a.png"))
        .unwrap();
    let pairs = ImageMaskFolder::open(&images, &masks).unwrap();
    let rule = pairs.mask_rule().unwrap();
    assert!(
        rule.to_string().contains("warning: every pixel is object"),
        "{rule}"
    );
}

#[test]
fn a_mask_with_two_files_is_named() {
    let (_folder, images, masks) = folders();
    for path in [
        images.join("a.png"),
        masks.join("a.png"),
        masks.join("a_mask.gif"),
    ] {
        DynamicImage::new_rgb8(4, 4).save(path).unwrap();
    }
    let error = ImageMaskFolder::open(&images, &masks).unwrap_err();
    assert!(matches!(error, ImageMaskError::TwoMasks { .. }), "{error}");
}

#[rstest]
#[case(ImageFormat::Jpeg)]
#[case(ImageFormat::Png)]
fn a_file_that_is_cut_off_is_found_when_a_folder_is_opened(#[case] format: ImageFormat) {
    let (_folder, images, masks) = folders();
    let image = ImageBuffer::from_fn(64, 64, |x, y| Rgb([(x * y) as u8, x as u8, y as u8]));
    let path = images.join("a.png");
    image.save_with_format(&path, format).unwrap();
    GrayImage::new(64, 64).save(masks.join("a.png")).unwrap();
    let pairs = ImageMaskFolder::open(&images, &masks).unwrap();
    pairs.verify().unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let error = pairs.verify().unwrap_err();
    assert!(
        matches!(&error, ImageMaskError::File(ImageFileError::Truncated { path }) if path.ends_with("a.png")),
        "{error}"
    );
    assert!(FrameFolder::open(&images).unwrap().verify().is_err());
}

#[test]
fn a_frame_of_another_format_is_a_frame() {
    let frames = FrameFolder::open(cases("frames/five_png_and_one_bmp")).unwrap();
    frames.verify().unwrap();
    assert_eq!(frames.len(), 6);
    let masks = MaskSource::open(cases("frames/mask.png")).unwrap();
    masks.check(6, frames.height(), frames.width()).unwrap();
    let mask = masks.load(VideoRecord::Index(0)).unwrap();
    assert!(mask.num_holes() > 0 && mask.hole_share() < 1.0);
}

#[test]
fn noise_in_the_masks_of_a_video_is_no_hole() {
    let masks = cases("pairs/one_empty_mask_with_noise/masks");
    let source = MaskSource::open(masks).unwrap();
    let frames = source.num_records().unwrap();
    source
        .check(frames, source.height(), source.width())
        .unwrap();
    let holes = (0..frames as usize).map(|index| source.load(VideoRecord::Index(index)).unwrap());
    assert_eq!(holes.filter(|mask| mask.num_holes() == 0).count(), 1);
}

#[test]
fn what_is_not_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.png", "b.tif", "c.heic", "notes.txt", ".hidden"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let note = unread_files(folder.path()).unwrap().unwrap();
    assert!(
        note.ends_with("2 files are not read: c.heic, notes.txt"),
        "{note}"
    );
}
