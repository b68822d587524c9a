use std::fs;

use image::Rgb;
use proptest::prelude::*;

use super::*;
use crate::masks::ImageMaskFolder;

fn small() -> WatermarkConfig {
    WatermarkConfig::new()
        .with_num_images(4)
        .with_height(40)
        .with_width(56)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_mask_and_the_difference_are_where_the_text_is(
        seed: u64,
        height in 16usize..80,
        width in 16usize..80,
        text_height in 12.0..40.0,
        tiled in 0.0..=1.0,
        max_angle in 0.0..=180.0,
    ) {
        let config = WatermarkConfig::new()
            .with_num_images(2)
            .with_height(height)
            .with_width(width)
            .with_min_text_height(text_height)
            .with_max_text_height(text_height + 10.0)
            .with_tiled(tiled)
            .with_max_angle(max_angle)
            .with_blank(0.3)
            .with_seed(seed);
        let (least, most) = (config.min_opacity as f32, config.max_opacity as f32);
        let item = Watermarks::new(config).image(1).unwrap();
        let mask = &item.hole_mask;
        prop_assert_eq!((mask.height(), mask.width()), (height, width));
        prop_assert_eq!(item.text.is_some(), mask.num_holes() > 0);
        prop_assert_eq!(item.text.is_some(), item.image != item.background);
        let pixels = item.image.chunks(3).zip(item.background.chunks(3));
        for (((image, background), &alpha), &hole) in
            pixels.zip(&item.alpha).zip(mask.values())
        {
            prop_assert_eq!(hole == 1, alpha > 0.0);
            prop_assert!(hole == 1 || image == background);
            prop_assert!(hole == 0 || (MIN_COVERAGE * least..=most).contains(&alpha), "{}", alpha);
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_files_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |name: &str, seed| {
        let watermarks = Watermarks::new(small().with_seed(seed));
        let files = watermarks.write(folder.path().join(name)).unwrap();
        let read = |folder: PathBuf| {
            (0..4).map(move |index| fs::read(folder.join(format!("{index:05}.png"))).unwrap())
        };
        read(files.images)
            .chain(read(files.masks))
            .collect::<Vec<_>>()
    };
    let first = bytes("a", 1);
    assert_eq!(first, bytes("b", 1));
    assert!(
        first
            .iter()
            .zip(bytes("c", 2))
            .all(|(one, other)| *one != other)
    );
}

#[test]
fn written_images_read_back_with_their_masks() {
    let folder = tempfile::tempdir().unwrap();
    let watermarks = Watermarks::new(small());
    let files = watermarks.write(folder.path()).unwrap();
    let pairs = ImageMaskFolder::open(files.images, files.masks).unwrap();
    for index in 0..4 {
        let (read, made) = (pairs.item(index).unwrap(), watermarks.image(index).unwrap());
        assert_eq!((read.height, read.width), (40, 56));
        let mask: Vec<f32> = made
            .hole_mask
            .values()
            .iter()
            .copied()
            .map(f32::from)
            .collect();
        assert_eq!(read.mask, mask);
        let red: Vec<f32> = made
            .image
            .iter()
            .step_by(3)
            .map(|&red| f32::from(red) / 255.0)
            .collect();
        assert_eq!(read.image[..red.len()], red);
    }
}

#[test]
fn texts_backgrounds_and_masks_differ_between_images() {
    let watermarks = Watermarks::new(small().with_num_images(20).with_blank(0.0));
    let items: Vec<_> = (0..20)
        .map(|index| watermarks.image(index).unwrap())
        .collect();
    for (index, item) in items.iter().enumerate() {
        for other in &items[..index] {
            assert_ne!(item.text, other.text);
            assert_ne!(item.background, other.background);
            assert_ne!(item.hole_mask, other.hole_mask);
        }
    }
}

#[test]
fn shares_of_blank_and_tiled_images_are_kept() {
    let blank = |share| {
        let watermarks = Watermarks::new(small().with_num_images(100).with_blank(share));
        let images = (0..100).map(|index| watermarks.image(index).unwrap());
        images.filter(|image| image.text.is_none()).count()
    };
    assert_eq!((blank(0.0), blank(1.0)), (0, 100));
    assert!((25..75).contains(&blank(0.5)));
    let covered = |share| {
        let watermarks = Watermarks::new(
            small()
                .with_tiled(share)
                .with_min_text_height(12.0)
                .with_max_text_height(12.0),
        );
        let images = (0..4).map(|index| watermarks.image(index).unwrap().alpha);
        images.flatten().sum::<f32>()
    };
    assert!(
        covered(1.0) > 1.5 * covered(0.0),
        "{} {}",
        covered(1.0),
        covered(0.0)
    );
}

#[test]
fn parts_of_photographs_lie_under_the_watermarks() {
    let folder = tempfile::tempdir().unwrap();
    // Red from the row, green from the column, blue from the file; one is smaller than the images.
    for (name, blue, height, width) in [("2.png", 20, 120, 200), ("10.png", 200, 30, 20)] {
        RgbImage::from_fn(width, height, |x, y| Rgb([y as u8, x as u8, blue]))
            .save(folder.path().join(name))
            .unwrap();
    }
    let config = small().with_num_images(6);
    let watermarks = Watermarks::on_photographs(config, folder.path()).unwrap();
    for index in 0..6 {
        let background = watermarks.image(index).unwrap().background;
        let pixels = background.as_chunks::<3>().0;
        assert_eq!(pixels.len(), 40 * 56);
        let blue = if index < 3 { 20 } else { 200 };
        assert!(pixels.iter().all(|pixel| pixel[2] == blue), "{index}");
        let (first, last) = (pixels[0], pixels[40 * 56 - 1]);
        assert!(
            first[0] < last[0] && first[1] < last[1],
            "{first:?} {last:?}"
        );
    }
    let files = watermarks.write(folder.path().join("made")).unwrap();
    let written = image::open(files.images.join("00004.png"))
        .unwrap()
        .to_rgb8();
    assert_eq!(written.into_raw(), watermarks.image(4).unwrap().image);
}

#[test]
fn a_folder_without_photographs_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Watermarks::on_photographs(small(), folder.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&folder.path().display().to_string()),
        "{error}"
    );
}

#[rstest::rstest]
#[case::no_image(small().with_num_images(0))]
#[case::too_small(small().with_height(15))]
#[case::too_fine(small().with_min_text_height(11.0))]
#[case::empty_range(small().with_min_opacity(0.95))]
#[case::not_a_number(small().with_max_angle(f64::NAN))]
#[should_panic(expected = "must be")]
fn impossible_configurations_are_refused(#[case] config: WatermarkConfig) {
    Watermarks::new(config);
}
