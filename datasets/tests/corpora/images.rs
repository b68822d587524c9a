//! Images of every format that is read, photographs with an orientation among them.

use std::fs;

use burn_memopt_datasets::image_file::decode;
use image::{DynamicImage, ImageFormat, RgbImage};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{Saved, changes::change_numbers, saved, within};

const NUM_INPUTS: usize = 25_000;
/// Bytes of the front of a file, where its headers are: most changes are there.
const FRONT: usize = 200;
/// Bytes that one byte of a file may decode to, of which a decoder may take twice as many, and what
/// WebP may take whatever its length.
const MAX_EXPANSION: usize = 1_032 * 24;
const MAX_WEBP: usize = 64 << 20;

fn corpus() -> Vec<Saved> {
    let pairs = "tests/cases/pairs";
    let folder = |name: &str| format!("{pairs}/{name}");
    let folders = [
        "plain/images",
        "class_palette/masks",
        "mask_16_bit_0_1/masks",
        "carvana_suffix_mask_gif/masks",
        "exif_turned_180/images",
        "jpeg_with_movie_behind/images",
        "object_in_alpha/masks",
        "one_pair_is_bmp/images",
    ];
    let mut files = Vec::new();
    for name in folders {
        // Two of a folder show what is in all of them.
        let of_folder = saved(&[&folder(name)], &[]).into_iter();
        files.extend(of_folder.rev().take(2));
    }
    let image = DynamicImage::from(RgbImage::from_fn(9, 7, |x, y| {
        [x as u8, y as u8, 200].into()
    }));
    for format in [ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Gif] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).expect("the image");
        let (name, bytes) = (format!("{format:?}"), bytes.into_inner());
        files.push(Saved { name, bytes });
    }
    files
}

#[test]
fn changed_inputs_are_decoded_or_refused_by_name() {
    let corpus = corpus();
    assert!(corpus.len() >= 16, "{} files", corpus.len());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hostile");
    let mut rng = StdRng::seed_from_u64(4);
    let mut num_decoded = 0;
    for number in 0..NUM_INPUTS {
        let Saved { name, bytes } = &corpus[rng.random_range(0..corpus.len())];
        let other = &corpus[rng.random_range(0..corpus.len())].bytes;
        let mut input = bytes.clone();
        let rest = input.split_off(match rng.random_range(0..4) {
            0 => input.len(),
            _ => input.len().min(FRONT),
        });
        for _ in 0..rng.random_range(1..4) {
            change_numbers(&mut input, other, &mut rng);
        }
        input.extend(rest);
        fs::write(&path, &input).expect("the image is written");
        let name = format!("input {number} from {name}");
        let limit = (2 * MAX_EXPANSION * input.len()).max(MAX_WEBP);
        match within(limit, &name, || decode(&path)) {
            Ok((image, _)) => {
                assert!(image.width() > 0 && image.height() > 0, "{name}");
                num_decoded += 1;
            }
            Err(error) => assert!(error.to_string().contains("hostile"), "{name}: {error}"),
        }
    }
    // Some changes must be harmless, or nothing behind a header was reached.
    assert!(
        (NUM_INPUTS / 20..NUM_INPUTS).contains(&num_decoded),
        "{num_decoded}"
    );
}
