//! Frames with density maps whose sums are the numbers of emitters.

use std::sync::Arc;

use burn::data::dataset::Dataset;
use burn_memopt_datasets::{
    counting::{CountDataset, CountError, density},
    localizations::Localization,
    normalization::Normalization,
    tiff::{TiffStack, TiffStackWriter},
};
use proptest::prelude::*;
use rstest::rstest;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dna-paint");

fn open() -> CountDataset {
    CountDataset::open(
        format!("{FOLDER}/frames.tif"),
        format!("{FOLDER}/localizations.csv"),
    )
    .unwrap()
}

#[test]
fn a_split_keeps_every_frame_and_every_emitter() {
    let (train, validation) = open().split(80).unwrap();
    assert_eq!((train.len(), validation.len()), (80, 20));
    let items = || train.iter().chain(validation.iter()).map(Result::unwrap);
    assert_eq!(
        items().map(|item| item.frame).collect::<Vec<_>>(),
        (0..100).collect::<Vec<_>>()
    );
    assert_eq!(items().map(|item| item.count).sum::<f32>(), 30.0);
    for item in items() {
        let sum: f32 = item.density.iter().sum();
        assert!(
            (sum - item.count).abs() < 1e-5,
            "frame {}: {sum}",
            item.frame
        );
    }
    assert_eq!(validation.emitters(19).len(), 1);
}

#[test]
fn pixels_are_scaled_by_what_the_training_frames_show() {
    let (train, validation) = open().split(80).unwrap();
    assert_eq!(train.normalization(), validation.normalization());
    let mut pixels: Vec<f32> = train.iter().flat_map(|item| item.unwrap().image).collect();
    pixels.sort_by(f32::total_cmp);
    let share = |share: f64| pixels[(share * (pixels.len() - 1) as f64).round() as usize];
    assert_eq!((share(0.5), share(0.999)), (0.0, 1.0));
    // An emitter must stand out after the scaling.
    let item = train.get(12).unwrap();
    assert!(item.image[5 * 32 + 6] > 0.5, "{}", item.image[5 * 32 + 6]);
}

#[test]
fn a_saved_normalization_loads_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("normalization.json");
    let (train, _) = open().split(50).unwrap();
    train.normalization().save(&path).unwrap();
    let loaded = Normalization::load(&path).unwrap();
    assert_eq!(
        open().with_normalization(loaded).get(3).unwrap(),
        train.get(3).unwrap()
    );
    std::fs::write(&path, "{\"low\": 1}").unwrap();
    let error = Normalization::load(&path).unwrap_err().to_string();
    assert!(error.contains("normalization.json"), "{error}");
}

#[test]
fn frames_larger_than_the_sample_are_measured_closely() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let mut writer = TiffStackWriter::create(&path, 100, 100).unwrap();
    for _ in 0..3 {
        writer
            .write_frame(&(0..10_000).collect::<Vec<u16>>())
            .unwrap();
    }
    writer.finish().unwrap();
    let measured = Normalization::measure(&TiffStack::open(&path).unwrap(), 0..3).unwrap();
    assert!((measured.low - 5000.0).abs() < 200.0, "{measured:?}");
    assert!((measured.high - 9990.0).abs() < 10.0, "{measured:?}");
}

#[rstest]
#[case::nothing_to_train(0)]
#[case::nothing_to_validate(100)]
#[case::more_than_there_are(101)]
fn a_split_without_one_side_is_refused(#[case] train_frames: usize) {
    let error = open().split(train_frames).unwrap_err();
    assert!(error.to_string().contains("choose 1 to 99"), "{error}");
}

#[rstest]
#[case::nanometres(812.0, 10.0)]
#[case::left_of_the_frame(-2.0, 10.0)]
#[case::below_the_frame(3.0, 33.0)]
fn positions_outside_the_frame_are_refused(#[case] x: f32, #[case] y: f32) {
    let stack = TiffStack::open(format!("{FOLDER}/frames.tif")).unwrap();
    let error = CountDataset::new(Arc::new(stack), vec![Localization::new(4, x, y)]).unwrap_err();
    assert!(matches!(error, CountError::OutsideFrame { frame: 4, .. }));
    assert!(error.to_string().contains("32×32 pixels"), "{error}");
}

#[test]
fn a_frame_that_is_not_there_is_refused() {
    let stack = TiffStack::open(format!("{FOLDER}/frames.tif")).unwrap();
    let error =
        CountDataset::new(Arc::new(stack), vec![Localization::new(100, 1.0, 1.0)]).unwrap_err();
    assert!(matches!(
        error,
        CountError::FrameOutOfRange {
            frame: 100,
            num_frames: 100,
            ..
        }
    ));
}

proptest! {
    #[test]
    fn a_density_map_sums_to_the_number_of_emitters(
        height in 1usize..20,
        width in 1usize..20,
        places in prop::collection::vec((0.0f32..1.0, 0.0f32..1.0), 0..9),
    ) {
        let emitters: Vec<_> = places
            .iter()
            .map(|(x, y)| Localization::new(0, x * (width + 1) as f32 - 1.0, y * (height + 1) as f32 - 1.0))
            .collect();
        let map = density(&emitters, height, width);
        prop_assert!(map.iter().all(|value| *value >= 0.0));
        let sum: f64 = map.iter().map(|&value| f64::from(value)).sum();
        prop_assert!((sum - emitters.len() as f64).abs() < 1e-5, "{}", sum);
    }
}
