//! Tiles that give what the whole image gives, or a refusal that says why not.

use burn_memopt_models::unet::{NormKind, Upsample};
use rstest::rstest;

use crate::plain::{by_default, densities};
use crate::{assert_close, counting, event, infer, read_stack, write_stack};

#[rstest]
#[case::bilinear("bilinear", Upsample::Bilinear)]
#[case::transposed("transposed", Upsample::Transposed)]
fn exact_tiles_are_equal_to_the_whole_image(#[case] flag: &str, #[case] upsample: Upsample) {
    let place = counting(&["--norm", "batch", "--upsampling", flag]);
    write_stack(&place.path("in.tif"), 2, 101, 75);
    let args = ["--exact", "--chunk-size", "48"];
    let run = infer(&place, "model", "in.tif", "out.tif", &args).succeeded();
    let config = by_default(1).with_norm(NormKind::Batch);
    let plain = densities(&place, config.with_upsample(upsample), "in.tif");
    let largest = plain
        .iter()
        .fold(0_f32, |largest, value| largest.max(value.abs()));
    assert_close(&read_stack(&place.path("out.tif")), &plain, 1e-6 * largest);
    assert!(event(&run, "done")["windows_run"].as_u64() > Some(8));

    let small = ["--exact", "--chunk-size", "8"];
    let words = ["--chunk-size", "margin", "got 8"];
    infer(&place, "model", "in.tif", "out.tif", &small).failed(2, &words);
}

#[test]
fn a_model_that_sees_the_whole_image_is_named_with_its_deviation() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 1, 40, 40);
    let words = ["inc.norm1", "GroupNorm", "deviate", "--norm batch"];
    infer(&place, "model", "in.tif", "out.tif", &["--exact"]).failed(1, &words);
    assert!(!place.path("out.tif").exists());
}
