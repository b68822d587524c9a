use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// Where the shape's first row and column are.
fn corner(mask: &HoleMask) -> (usize, usize) {
    let holes = mask.values().iter().enumerate();
    let holes = holes.filter(|(_, value)| **value == 1);
    let places = holes.map(|(at, _)| (at / mask.width(), at % mask.width()));
    places.fold((usize::MAX, usize::MAX), |(top, left), (row, column)| {
        (top.min(row), left.min(column))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn masks_keep_their_size_their_share_and_their_speed(
        height in 8usize..60, width in 8usize..60, seed in any::<u64>(),
        least in 0.01f64..0.9, more in 0.05f64..0.4, speed in 0.0f64..9.0,
    ) {
        let most = (least + more).min(1.0);
        let config = RandomMaskConfig::new()
            .with_min_hole_share(least)
            .with_max_hole_share(most)
            .with_max_speed(speed);
        let mask = RandomMask::new(&config, height, width, seed);
        let masks: Vec<HoleMask> = (0..6).map(|frame| mask.hole_mask(frame)).collect();
        for mask in &masks {
            prop_assert_eq!((mask.height(), mask.width()), (height, width));
            prop_assert!((least..=most).contains(&mask.hole_share()));
            prop_assert_eq!(mask.num_holes(), masks[0].num_holes());
        }
        for pair in masks.windows(2) {
            let (before, after) = (corner(&pair[0]), corner(&pair[1]));
            let step = before.0.abs_diff(after.0).max(before.1.abs_diff(after.1));
            // Places are rounded to whole pixels, half a pixel at each end.
            prop_assert!(step as f64 <= speed + 1.0, "{step} above {speed}");
        }
        prop_assert_eq!(&RandomMask::new(&config, height, width, seed).hole_mask(5), &masks[5]);
    }
}

#[rstest]
#[case::object(0.0)]
#[case::strokes(1.0)]
fn moving_masks_move_and_others_stand_still(#[case] stroke_prob: f64) {
    for seed in 0..10 {
        let masks = |moving_prob| {
            let config = RandomMaskConfig::new()
                .with_stroke_prob(stroke_prob)
                .with_moving_prob(moving_prob);
            let mask = RandomMask::new(&config, 60, 80, seed);
            [0, 5, 10].map(|frame| mask.hole_mask(frame))
        };
        let [first, second, third] = masks(0.0);
        assert!(first == second && second == third);
        let [first, second, third] = masks(1.0);
        assert!(first != second || second != third);
    }
}

#[test]
fn seeds_and_kinds_give_different_masks() {
    let mask = |stroke_prob, seed| {
        let config = RandomMaskConfig::new().with_stroke_prob(stroke_prob);
        RandomMask::new(&config, 60, 80, seed).hole_mask(0)
    };
    assert_ne!(mask(0.0, 1), mask(0.0, 2));
    assert_ne!(mask(1.0, 1), mask(1.0, 2));
    assert_ne!(mask(0.0, 1), mask(1.0, 1));
}

#[test]
fn an_object_is_in_one_piece() {
    let config = RandomMaskConfig::new().with_stroke_prob(0.0);
    for seed in 0..20 {
        let mask = RandomMask::new(&config, 60, 80, seed).hole_mask(0);
        let (height, width) = (mask.height(), mask.width());
        let mut rest = mask.values().to_vec();
        let first = rest.iter().position(|&value| value == 1).unwrap();
        let mut found = vec![first];
        let mut num_found = 0;
        rest[first] = 0;
        while let Some(at) = found.pop() {
            num_found += 1;
            let (row, column) = (at / width, at % width);
            let rows = row.saturating_sub(1)..=(row + 1).min(height - 1);
            for near in rows.flat_map(|row| {
                let columns = column.saturating_sub(1)..=(column + 1).min(width - 1);
                columns.map(move |column| row * width + column)
            }) {
                if std::mem::take(&mut rest[near]) == 1 {
                    found.push(near);
                }
            }
        }
        assert_eq!(num_found, mask.num_holes(), "seed {seed}");
    }
}

#[rstest]
#[should_panic(expected = "stroke_prob must lie between 0 and 1, got 1.5")]
#[case::probability(RandomMaskConfig::new().with_stroke_prob(1.5))]
#[should_panic(expected = "min_hole_share must lie between 0 and 1, got NaN")]
#[case::nan(RandomMaskConfig::new().with_min_hole_share(f64::NAN))]
#[should_panic(expected = "max_speed must be finite and at least 0, got -1")]
#[case::speed(RandomMaskConfig::new().with_max_speed(-1.0))]
#[should_panic(expected = "must allow a whole number above 0, got 0.05 to 0.01 of 8×8")]
#[case::bounds(RandomMaskConfig::new().with_max_hole_share(0.01))]
fn impossible_masks_are_refused(#[case] config: RandomMaskConfig) {
    RandomMask::new(&config, 8, 8, 0);
}
