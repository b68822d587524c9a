//! Frames and masks on their way into video networks, against the golden numbers.

#![cfg(feature = "video")]

#[path = "../../models/tests/golden/harness.rs"]
mod harness;

use burn_memopt_datasets::masks::HoleMask;
use burn_memopt_datasets::video::{Resampling, VideoFrame};
use harness::Case;

fn bytes(case: &Case, name: &str) -> Vec<u8> {
    case.ints(name).iter().map(|&byte| byte as u8).collect()
}

#[test]
fn golden_masks_are_dilated_and_resized() {
    let case = Case::open("prim_preprocess");
    let hole = |name: &str| {
        let [height, width] = case.shape(name)[..] else {
            panic!("{name} is no mask")
        };
        let values = bytes(&case, name)
            .into_iter()
            .map(|byte| u8::from(byte > 0));
        HoleMask::new(height, width, values.collect())
    };
    let mask = hole("mask");
    for steps in [1, 4, 8] {
        assert_eq!(mask.dilated(steps), hole(&format!("dilated_{steps}")));
    }
    assert_eq!(mask.resized(40, 56), hole("mask_nearest"));
}

#[test]
fn golden_frames_are_resized_within_one_of_255() {
    let case = Case::open("prim_preprocess");
    let frame = |name: &str| {
        let [height, width, 3] = case.shape(name)[..] else {
            panic!("{name} is no frame")
        };
        VideoFrame {
            index: 0,
            height,
            width,
            pixels: bytes(&case, name),
        }
    };
    let image = frame("image");
    let small = frame("resize_bicubic_down");
    for (from, wanted, resampling) in [
        (&image, "resize_bicubic_down", Resampling::Bicubic),
        (&image, "resize_bicubic_half", Resampling::Bicubic),
        (&small, "resize_bilinear_opencv", Resampling::Bilinear),
    ] {
        let wanted_frame = frame(wanted);
        let mine = from.resized(wanted_frame.height, wanted_frame.width, resampling);
        let pairs = mine.pixels.iter().zip(&wanted_frame.pixels);
        let off = pairs.map(|(a, b)| a.abs_diff(*b)).max();
        assert!(off <= Some(1), "{wanted}: off by {off:?}");
    }
}
