//! Images and masks paired by name, and folders where that fails.

use std::path::{Path, PathBuf};

use burn::data::dataset::Dataset;
use burn_memopt_datasets::{
    image_file::ImageFileError,
    lazy::LazyDataset,
    masks::{ImageMaskError, ImageMaskFolder},
};
use image::{GrayImage, Luma, Rgb, RgbImage};
use rstest::rstest;
use tempfile::TempDir;

/// Folders for images and masks.
fn folders() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (images, masks) = (folder.path().join("images"), folder.path().join("masks"));
    std::fs::create_dir(&images).unwrap();
    std::fs::create_dir(&masks).unwrap();
    (folder, images, masks)
}

fn write_image(folder: &Path, name: &str) {
    RgbImage::from_fn(3, 2, |x, y| Rgb([255, (x * 51) as u8, (y * 51) as u8]))
        .save(folder.join(name))
        .unwrap();
}

fn write_mask(folder: &Path, name: &str, on: u8) {
    GrayImage::from_fn(3, 2, |x, _| Luma([if x == 0 { on } else { 0 }]))
        .save(folder.join(name))
        .unwrap();
}

#[test]
fn pairs_come_in_natural_order() {
    let (_folder, images, masks) = folders();
    for stem in ["frame10", "frame9", "frame100"] {
        write_image(&images, &format!("{stem}.jpg"));
        write_mask(&masks, &format!("{stem}.png"), 255);
    }
    std::fs::write(images.join("notes.txt"), "no image").unwrap();
    let folder = ImageMaskFolder::open(&images, &masks).unwrap();
    let stems: Vec<_> = folder.iter().map(|item| item.unwrap().stem).collect();
    assert_eq!(stems, ["frame9", "frame10", "frame100"]);
    folder.verify().unwrap();
}

#[rstest]
#[case::black_and_white("a.png", 255)]
#[case::zero_and_one("a.png", 1)]
#[case::jpeg("a.jpg", 255)]
fn pixels_come_as_planes_and_masks_as_zero_and_one(#[case] mask: &str, #[case] on: u8) {
    let (_folder, images, masks) = folders();
    write_image(&images, "a.png");
    write_mask(&masks, mask, on);
    let item = ImageMaskFolder::open(&images, &masks)
        .unwrap()
        .item(0)
        .unwrap();
    assert_eq!((item.height, item.width), (2, 3));
    assert_eq!(item.image[..6], [1.0; 6]);
    assert_eq!(item.image[6..12], [0.0, 0.2, 0.4, 0.0, 0.2, 0.4]);
    assert_eq!(item.image[12..], [0.0, 0.0, 0.0, 0.2, 0.2, 0.2]);
    assert_eq!(item.mask, [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn one_mask_file_belongs_to_all_images() {
    let (_folder, images, masks) = folders();
    for stem in ["a", "b"] {
        write_image(&images, &format!("{stem}.png"));
    }
    write_mask(&masks, "any-name.png", 255);
    let folder = ImageMaskFolder::open(&images, masks.join("any-name.png")).unwrap();
    folder.verify().unwrap();
    let stems: Vec<_> = (0..folder.len()).map(|item| folder.stem(item)).collect();
    assert_eq!(stems, ["a", "b"]);
    for item in folder.iter() {
        assert_eq!(item.unwrap().mask, [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    }
}

#[test]
fn an_item_tells_its_cost_before_it_is_decoded() {
    let (_folder, images, masks) = folders();
    write_image(&images, "a.png");
    write_mask(&masks, "a.png", 255);
    let folder = ImageMaskFolder::open(&images, &masks).unwrap();
    let item = folder.item(0).unwrap();
    let planes = 4 * (item.image.len() + item.mask.len()) as u64;
    assert!((planes..planes + 200).contains(&folder.item_bytes(0)));
}

#[test]
fn an_empty_mask_stays_empty() {
    let (_folder, images, masks) = folders();
    write_image(&images, "a.png");
    write_mask(&masks, "a.png", 0);
    let item = ImageMaskFolder::open(&images, &masks)
        .unwrap()
        .item(0)
        .unwrap();
    assert_eq!(item.mask, [0.0; 6]);
}

#[test]
fn an_image_without_mask_is_named() {
    let (_folder, images, masks) = folders();
    write_image(&images, "a.png");
    write_image(&images, "b.png");
    write_mask(&masks, "a.png", 1);
    let error = ImageMaskFolder::open(&images, &masks).unwrap_err();
    assert!(matches!(&error, ImageMaskError::MissingMask { stem, .. } if stem == "b"));
    assert!(error.to_string().contains("add b.png to"), "{error}");
}

#[test]
fn a_mask_without_image_is_named() {
    let (_folder, images, masks) = folders();
    write_image(&images, "a.png");
    write_mask(&masks, "a.png", 1);
    write_mask(&masks, "z.png", 1);
    let error = ImageMaskFolder::open(&images, &masks).unwrap_err();
    assert!(matches!(&error, ImageMaskError::ExtraMask { stem, .. } if stem == "z"));
}

#[test]
fn two_files_with_one_stem_are_named() {
    let (_folder, images, masks) = folders();
    write_image(&images, "a.png");
    write_image(&images, "a.jpg");
    write_mask(&masks, "a.png", 1);
    let error = ImageMaskFolder::open(&images, &masks).unwrap_err();
    assert!(
        matches!(error, ImageMaskError::File(ImageFileError::SameStem { .. })),
        "{error}"
    );
}

#[test]
fn different_sizes_name_both_files_and_sizes() {
    let (_folder, images, masks) = folders();
    write_image(&images, "a.png");
    GrayImage::new(4, 5).save(masks.join("a.png")).unwrap();
    let folder = ImageMaskFolder::open(&images, &masks).unwrap();
    for error in [folder.item(0).unwrap_err(), folder.verify().unwrap_err()] {
        let text = error.to_string();
        assert!(
            text.contains("images/a.png is 2×3") && text.contains("masks/a.png is 5×4"),
            "{text}"
        );
    }
}

#[test]
fn a_damaged_file_is_named() {
    let (_folder, images, masks) = folders();
    write_image(&images, "a.png");
    std::fs::write(masks.join("a.png"), "no image").unwrap();
    let folder = ImageMaskFolder::open(&images, &masks).unwrap();
    for error in [folder.item(0).unwrap_err(), folder.verify().unwrap_err()] {
        assert!(
            matches!(&error, ImageMaskError::File(ImageFileError::Unreadable { path, .. }) if path.ends_with("masks/a.png"))
        );
    }
}

#[rstest]
#[case::missing(true)]
#[case::empty(false)]
fn a_folder_without_images_is_named(#[case] missing: bool) {
    let (_folder, images, masks) = folders();
    write_mask(&masks, "a.png", 1);
    if missing {
        std::fs::remove_dir(&images).unwrap();
    }
    let error = ImageMaskFolder::open(&images, &masks).unwrap_err();
    match missing {
        true => assert!(matches!(
            error,
            ImageMaskError::File(ImageFileError::Folder { .. })
        )),
        false => assert!(matches!(
            error,
            ImageMaskError::File(ImageFileError::EmptyFolder { .. })
        )),
    }
}

#[test]
fn a_real_clip_pairs_and_decodes() {
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/bmx-trees");
    if !Path::new(clip).exists() {
        println!("skipped: {clip} is not there");
        return;
    }
    let folder = ImageMaskFolder::open(format!("{clip}/frames"), format!("{clip}/masks")).unwrap();
    assert_eq!(folder.len(), 80);
    folder.verify().unwrap();
    let item = folder.item(79).unwrap();
    assert_eq!(
        (item.stem.as_str(), item.height, item.width),
        ("00079", 240, 432)
    );
    // Counted once with another decoder.
    assert_eq!(item.mask.iter().sum::<f32>(), 1003.0);
}
