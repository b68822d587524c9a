//! What masks store: numbers in TIFF files, and indices of palettes.

use std::{fs::File, path::Path};

use burn_memopt_datasets::{
    masks::ImageMaskFolder,
    tiff::{Sample, TiffStackWriter},
};
use image::{ExtendedColorType, GrayImage, codecs::bmp::BmpEncoder};
use rstest::rstest;

use super::{RED, SIDE, folders, square};

/// The mask of one image, whose file `write` makes.
fn read_written(name: &str, write: impl FnOnce(&Path)) -> Vec<f32> {
    let (_folder, images, masks) = folders();
    GrayImage::new(SIDE, SIDE)
        .save(images.join("a.png"))
        .unwrap();
    write(&masks.join(name));
    let pairs = ImageMaskFolder::open(&images, &masks).unwrap();
    pairs.verify().unwrap();
    pairs.item(0).unwrap().mask
}

fn square_of<T>(value: impl Fn(u16) -> T) -> Vec<T> {
    (0..SIDE * SIDE)
        .map(|index| value(square(index % SIDE, index / SIDE, 1)))
        .collect()
}

#[rstest]
#[case::labels_of_signed_32_bits(|one| i32::from(one) * 70_000)]
#[case::negative_outside(|one| i32::from(one) - 1)]
fn a_square_is_found_in_tiff_files_of_whole_numbers(#[case] value: fn(u16) -> i32) {
    let read = read_written("a.tif", |path| write_tiff(path, &square_of(value)));
    let expected = square_of(|one| f32::from(u8::from(value(one) > 0)));
    assert_eq!(read, expected);
}

#[rstest]
#[case::zero_and_one(|one| f32::from(one))]
#[case::shares(|one| 0.9 * f32::from(one))]
#[case::labels(|one| 7.0 * f32::from(one))]
#[case::no_number_outside(|one| if one == 1 { 3.0 } else { f32::NAN })]
fn a_square_is_found_in_tiff_files_of_floating_point_numbers(#[case] value: fn(u16) -> f32) {
    let read = read_written("a.tif", |path| write_tiff(path, &square_of(value)));
    assert_eq!(read, square_of(f32::from));
}

fn write_tiff<T: Sample>(path: &Path, pixels: &[T]) {
    let side = SIDE as usize;
    let mut writer = TiffStackWriter::create(path, side, side).unwrap();
    writer.write_frame(pixels).unwrap();
    writer.finish().unwrap();
}

/// Writes the square as an index of a palette, and everything else as another.
fn write_indices(path: &Path, palette: &[[u8; 3]], object: u8, background: u8) {
    let indices = square_of(|one| if one == 1 { object } else { background });
    let palette = palette.concat();
    let side = SIDE as u16;
    match path.extension().unwrap().to_str().unwrap() {
        "png" => {
            let mut encoder = png::Encoder::new(File::create(path).unwrap(), SIDE, SIDE);
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_depth(png::BitDepth::Eight);
            encoder.set_palette(palette);
            let mut writer = encoder.write_header().unwrap();
            writer.write_image_data(&indices).unwrap();
        }
        "gif" => {
            let file = File::create(path).unwrap();
            let mut encoder = gif::Encoder::new(file, side, side, &palette).unwrap();
            let frame = gif::Frame::from_indexed_pixels(side, side, indices, None);
            encoder.write_frame(&frame).unwrap();
        }
        _ => {
            let palette = palette.as_chunks::<3>().0;
            BmpEncoder::new(&mut File::create(path).unwrap())
                .encode_with_palette(&indices, SIDE, SIDE, ExtendedColorType::L8, Some(palette))
                .unwrap();
        }
    }
}

const BLACK: [u8; 3] = [0; 3];
const WHITE: [u8; 3] = [255; 3];
const GREEN: [u8; 3] = [0, 200, 0];

#[rstest]
#[case::a_class_of_dark_colour(&[BLACK, [1, 0, 0], RED], 1, 0, 64)]
#[case::a_background_of_bright_colour(&[GREEN, BLACK, RED], 1, 0, 64)]
#[case::black_behind_white(&[WHITE, BLACK, RED], 0, 1, 64)]
#[case::black_only(&[WHITE, RED, BLACK], 2, 2, 0)]
#[case::grays(&[WHITE, BLACK], 0, 1, 64)]
fn palettes_count_by_index_unless_they_are_gray(
    #[values("a.png", "a.gif", "a.bmp")] name: &str,
    #[case] palette: &[[u8; 3]],
    #[case] object: u8,
    #[case] background: u8,
    #[case] expected: u8,
) {
    let read = read_written(name, |path| {
        write_indices(path, palette, object, background)
    });
    assert_eq!(read.iter().sum::<f32>(), f32::from(expected));
}
