//! Frames and masks on their way into video networks, against the golden numbers and Pillow's
//! definition.

#[path = "../../../models/tests/golden/harness.rs"]
mod harness;
#[path = "../../../models/tests/golden/other_set.rs"]
mod other_set;

use burn_memopt_datasets::masks::HoleMask;
use burn_memopt_datasets::video::{Resampling, VideoFrame};
use harness::{Case, number_in};
use other_set::{OtherSet, Values};
use proptest::prelude::*;
use rstest::rstest;

fn bytes(case: &Case, name: &str) -> Vec<u8> {
    case.ints(name).iter().map(|&byte| byte as u8).collect()
}

fn frame(height: usize, width: usize, pixels: Vec<u8>) -> VideoFrame {
    VideoFrame {
        index: 0,
        height,
        width,
        pixels,
    }
}

fn stored_frame(case: &Case, name: &str) -> VideoFrame {
    let [height, width, 3] = case.shape(name)[..] else {
        panic!("{name} is no frame")
    };
    frame(height, width, bytes(case, name))
}

/// The masks of a stored `[height, width]`, or `[masks, height, width]`.
fn stored_masks(case: &Case, name: &str) -> Vec<HoleMask> {
    let [.., height, width] = case.shape(name)[..] else {
        panic!("{name} is no mask")
    };
    let values = bytes(case, name);
    let masks = values.chunks_exact(height * width).map(|values| {
        let values = values.iter().map(|byte| u8::from(*byte > 0));
        HoleMask::new(height, width, values.collect())
    });
    masks.collect()
}

#[test]
fn golden_masks_are_dilated_and_resized() {
    let case = Case::open("prim_preprocess");
    let mask = &stored_masks(&case, "mask")[0];
    let dilated = case.names("dilated_");
    assert!(!dilated.is_empty());
    for name in dilated {
        let steps = number_in(name, "dilated_").expect("steps");
        assert_eq!(mask.dilated(steps), stored_masks(&case, name)[0], "{name}");
    }
    let small = &stored_masks(&case, "mask_nearest")[0];
    assert_eq!(mask.resized(small.height(), small.width()), *small);
}

#[rstest]
fn golden_masks_of_a_pipeline_are_dilated(#[values("pipeline_a", "pipeline_b")] name: &str) {
    let case = Case::open(name);
    let steps = case.require("mask_dilation") as usize;
    let masks = stored_masks(&case, "mask_u8").into_iter();
    let dilated: Vec<_> = masks.map(|mask| mask.dilated(steps)).collect();
    assert_eq!(dilated, stored_masks(&case, "dilated_mask_u8"));
}

#[test]
fn golden_frames_are_resized_within_one_of_255() {
    let case = Case::open("prim_preprocess");
    let image = stored_frame(&case, "image");
    let small = stored_frame(&case, "resize_bicubic_down");
    let bicubic = case.names("resize_bicubic_").into_iter();
    let bicubic = bicubic.map(|name| (&image, name, Resampling::Bicubic));
    let bilinear = (&small, "resize_bilinear_opencv", Resampling::Bilinear);
    for (from, wanted, resampling) in bicubic.chain([bilinear]) {
        let wanted_frame = stored_frame(&case, wanted);
        let mine = from.resized(wanted_frame.height, wanted_frame.width, resampling);
        let off = largest_difference(&mine.pixels, &wanted_frame.pixels);
        assert!(off <= 1, "{wanted}: off by {off}");
    }
}

fn largest_difference(mine: &[u8], other: &[u8]) -> u8 {
    assert_eq!(mine.len(), other.len());
    let pairs = mine.iter().zip(other);
    pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

/// What Pillow defines, step by step: rows first, then columns, each rounded and clipped to bytes. The
/// weights are rounded to 22 bits, which decides where a value is just between two bytes.
fn by_definition(frame: &VideoFrame, to: [usize; 2], resampling: Resampling) -> VideoFrame {
    let rows = axis_by_definition(&frame.pixels, [frame.width, to[1]], 3, resampling);
    let sides = [frame.height, to[0]];
    let pixels = axis_by_definition(&rows, sides, 3 * to[1], resampling);
    VideoFrame {
        index: frame.index,
        height: to[0],
        width: to[1],
        pixels,
    }
}

/// The middle axis of `[_, from, inner]` at the length `to`.
fn axis_by_definition(
    values: &[u8],
    [from, to]: [usize; 2],
    inner: usize,
    resampling: Resampling,
) -> Vec<u8> {
    if from == to {
        return values.to_vec();
    }
    // Keys' cubic with a = -0.5, and the triangle.
    let kernel = |x: f64| match (resampling, x.abs()) {
        (Resampling::Bicubic, x) if x <= 1.0 => 1.5 * x.powi(3) - 2.5 * x.powi(2) + 1.0,
        (Resampling::Bicubic, x) if x < 2.0 => -0.5 * x.powi(3) + 2.5 * x.powi(2) - 4.0 * x + 2.0,
        (Resampling::Bilinear, x) if x < 1.0 => 1.0 - x,
        _ => 0.0,
    };
    let scale = from as f64 / to as f64;
    let mut resized = Vec::new();
    for block in values.chunks(from * inner) {
        for at in 0..to {
            let centre = (at as f64 + 0.5) * scale;
            let distances = (0..from).map(|pixel| pixel as f64 + 0.5 - centre);
            let weights: Vec<f64> = distances.map(|x| kernel(x / scale.max(1.0))).collect();
            let sum: f64 = weights.iter().sum();
            let fraction = f64::from(1 << 22);
            let weights = weights
                .iter()
                .map(|w| (w / sum * fraction).round() / fraction);
            let weights: Vec<f64> = weights.collect();
            for column in 0..inner {
                let values = block.iter().skip(column).step_by(inner);
                let weighted = values.zip(&weights).map(|(v, w)| f64::from(*v) * w);
                let mean: f64 = weighted.sum();
                resized.push((mean + 0.5).floor().clamp(0.0, 255.0) as u8);
            }
        }
    }
    resized
}

/// Smooth frames, noise, and black and white alone, where bicubic weights overshoot most.
fn frames() -> impl Strategy<Value = VideoFrame> {
    (1..34_usize, 1..34_usize).prop_flat_map(|(height, width)| {
        let len = height * width * 3;
        let noise = proptest::collection::vec(any::<u8>(), len);
        let hard = proptest::collection::vec(prop_oneof![Just(0_u8), Just(255)], len);
        let smooth = any::<[usize; 3]>().prop_map(move |factors| {
            let [right, down, start] = factors.map(|factor| factor % 256);
            let value = |at: usize| {
                let (x, y) = (at / 3 % width, at / 3 / width);
                (right * x / 8 + down * y / 8 + start) as u8
            };
            (0..len).map(value).collect::<Vec<u8>>()
        });
        let pixels = prop_oneof![noise, hard, smooth];
        pixels.prop_map(move |pixels| frame(height, width, pixels))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn a_frame_of_any_size_is_within_one_of_the_definition(
        frame in frames(),
        to in [1..50_usize, 1..50_usize],
        is_halved in any::<bool>(),
        resampling in prop_oneof![Just(Resampling::Bicubic), Just(Resampling::Bilinear)],
    ) {
        let to = match is_halved {
            true => [frame.height, frame.width].map(|side| side.div_ceil(2)),
            false => to,
        };
        let mine = frame.resized(to[0], to[1], resampling);
        let wanted = by_definition(&frame, to, resampling);
        prop_assert!(largest_difference(&mine.pixels, &wanted.pixels) <= 1);
    }
}

/// The rows of a white corner undershoot. Without clipping them, the columns, which undershoot too, would
/// make a light spot.
#[test]
fn overshoot_is_clipped_between_rows_and_columns() {
    let is_white = |at: usize| at / 3 % 12 < 5 && at / 3 / 12 < 5;
    let pixels = (0..12 * 12 * 3).map(|at| if is_white(at) { 255 } else { 0 });
    let corner = frame(12, 12, pixels.collect());
    let half = corner.resized(6, 6, Resampling::Bicubic);
    assert_eq!(half, by_definition(&corner, [6, 6], Resampling::Bicubic));
    assert_eq!(half.pixels[(3 * 6 + 3) * 3], 0);
}

/// The same tests with a set of other sizes and steps, computed by definition.
#[test]
fn preprocessing_passes_with_another_golden_set() {
    let (height, width) = (37, 83);
    let noise = |at: usize| (at * at % 251) as u8;
    let image = frame(height, width, (0..height * width * 3).map(noise).collect());
    let down = by_definition(&image, [32, 80], Resampling::Bicubic);
    let half = by_definition(&image, [18, 41], Resampling::Bicubic);
    let back = by_definition(&down, [height, width], Resampling::Bilinear);

    let is_hole = |y: usize, x: usize| (y / 5 + x / 7).is_multiple_of(11);
    let mask = |rows: &[usize], columns: &[usize], steps: usize| {
        let holes = rows.iter().flat_map(|&y| {
            columns.iter().map(move |&x| {
                let near = |y2: usize, x2: usize| y2.abs_diff(y) + x2.abs_diff(x) <= steps;
                let mut all = (0..height).flat_map(|y2| (0..width).map(move |x2| (y2, x2)));
                u8::from(all.any(|(y2, x2)| near(y2, x2) && is_hole(y2, x2)))
            })
        });
        holes.collect::<Vec<u8>>()
    };
    let all = |to: usize, from: usize| -> Vec<usize> {
        (0..to).map(|at| (2 * at + 1) * from / (2 * to)).collect()
    };
    let (rows, columns) = (all(height, height), all(width, width));
    let small = mask(&all(32, height), &all(80, width), 0);

    let set = OtherSet::new();
    let mask_of = |steps| Values::Bytes(vec![height, width], mask(&rows, &columns, steps));
    let image_of =
        |frame: VideoFrame| Values::Bytes(vec![frame.height, frame.width, 3], frame.pixels);
    let tensors = [
        ("mask", mask_of(0)),
        ("dilated_2", mask_of(2)),
        ("dilated_5", mask_of(5)),
        ("mask_nearest", Values::Bytes(vec![32, 80], small)),
        ("image", image_of(image)),
        ("resize_bicubic_down", image_of(down)),
        ("resize_bicubic_half", image_of(half)),
        ("resize_bilinear_opencv", image_of(back)),
    ];
    set.write("prim_preprocess", "", tensors);
    set.check("preprocess_golden::golden_masks_are_dilated_and_resized");
    set.check("preprocess_golden::golden_frames_are_resized_within_one_of_255");
}
