//! Masks of several classes.

use burn::data::dataset::Dataset;
use burn_memopt_datasets::masks::{ImageMaskError, ImageMaskFolder, MaskRule};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage};

use super::{RED, cases, folders};

/// The classes of a folder of one mask of columns, each of one value.
fn classes(columns: &[u16], num_classes: usize) -> Result<(Vec<f32>, MaskRule), ImageMaskError> {
    let (_folder, images, masks) = folders();
    let width = columns.len() as u32;
    GrayImage::new(width, 2).save(images.join("a.png")).unwrap();
    let mask = ImageBuffer::from_fn(width, 2, |x, _| Luma([columns[x as usize]]));
    DynamicImage::from(mask).save(masks.join("a.png")).unwrap();
    let pairs = ImageMaskFolder::open(&images, &masks)?.with_classes(num_classes);
    let mask = pairs.item(0)?.mask;
    Ok((mask[..columns.len()].to_vec(), pairs.mask_rule()?.clone()))
}

#[test]
fn classes_are_numbered_by_their_values() {
    let read = |columns: &[u16], num| classes(columns, num).unwrap().0;
    assert_eq!(read(&[2, 0, 1], 3), [2.0, 0.0, 1.0]);
    assert_eq!(read(&[3, 0], 4), [3.0, 0.0]);
    assert_eq!(read(&[0, 255, 1], 2), [0.0, -1.0, 1.0]);
    assert_eq!(read(&[255, 0, 127], 3), [2.0, 0.0, 1.0]);
    assert_eq!(read(&[1000, 0, 40_000, 7], 4), [2.0, 0.0, 3.0, 1.0]);
    let (_, rule) = classes(&[3, 0], 4).unwrap();
    assert!(
        rule.to_string()
            .ends_with("warning: no pixel is of the classes 1, 2"),
        "{rule}"
    );
}

#[test]
fn values_that_are_not_the_classes_asked_for_are_named() {
    for (columns, num, words) in [
        (
            &[0, 5, 9][..],
            4,
            "have 3 values: 0, 5, 9; these are not the numbers of 4 classes",
        ),
        (&[0, 1, 2], 2, "have 3 values: 0, 1, 2; these"),
    ] {
        let error = classes(columns, num).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn classes_by_palette_and_by_colour() {
    let of = |name: &str| {
        let folder = cases("pairs").join(name);
        let pairs = ImageMaskFolder::open(folder.join("images"), folder.join("masks")).unwrap();
        let pairs = pairs.with_classes(3);
        pairs
            .iter()
            .map(|pair| pair.unwrap().mask)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("class_palette"), of("labels_0_1_2"));
    assert!(of("labels_0_1_2").concat().contains(&2.0));

    let (_folder, images, masks) = folders();
    RgbImage::new(2, 1).save(images.join("a.png")).unwrap();
    let mut mask = RgbImage::new(2, 1);
    mask.put_pixel(0, 0, Rgb(RED));
    mask.save(masks.join("a.png")).unwrap();
    let pairs = ImageMaskFolder::open(&images, &masks)
        .unwrap()
        .with_classes(2);
    let error = pairs.item(0).unwrap_err().to_string();
    assert!(error.contains("its pixels have colours"), "{error}");
}
