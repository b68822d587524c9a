use burn::tensor::{Device, Distribution};
use burn_memopt::grad_checkpoint::hold_random_stream;
use proptest::prelude::*;

use super::*;

fn random(shape: [usize; 4], distribution: Distribution) -> Tensor<4> {
    Tensor::random(shape, distribution, &Device::flex())
}

/// The largest difference relative to the largest value.
fn deviation(mine: Tensor<4>, wanted: Tensor<4>) -> f32 {
    let scale = wanted.clone().abs().max().into_scalar::<f32>();
    (mine - wanted).abs().max().into_scalar::<f32>() / scale
}

/// A value looked up one by one, as its definition says.
fn looked_up(map: &[f32], [height, width]: [usize; 2], x: f64, y: f64) -> f64 {
    let cell = |x: f64, y: f64| {
        let is_inside = x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64;
        if is_inside {
            f64::from(map[y as usize * width + x as usize])
        } else {
            0.0
        }
    };
    let (left, upper) = (x.floor(), y.floor());
    let (share_x, share_y) = (x - left, y - upper);
    let across = |y| (1.0 - share_x) * cell(left, y) + share_x * cell(left + 1.0, y);
    (1.0 - share_y) * across(upper) + share_y * across(upper + 1.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn on_demand_is_all_pairs(
        batch_size in 1_usize..3, channels in 1_usize..20, height in 8_usize..20, width in 8_usize..20,
        far in 0.0..60.0_f64, max_bytes in 1_u64..200_000,
    ) {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let shape = [batch_size, channels, height, width];
        let normal = Distribution::Normal(0.0, 1.0);
        let (first, second) = (random(shape, normal), random(shape, normal));
        let coords = Distribution::Uniform(-far, 20.0 + far);
        // The last one is within, so that there is something to compare.
        let coords = random([batch_size, 2, height, width], coords)
            .slice_assign([0..1, 0..2, 0..1, 0..1], Tensor::full([1, 2, 1, 1], 4.5, &Device::flex()));
        let field = |correlation| CorrelationField::new(first.clone(), second.clone(), correlation);
        let wanted = field(Correlation::AllPairs).lookup(coords.clone());
        let max_bytes = Bytes::new(max_bytes);
        let mine = field(Correlation::OnDemand { max_bytes }).lookup(coords);
        prop_assert!(deviation(mine, wanted) <= 1e-5);
    }

    #[test]
    fn a_window_holds_the_values_around_its_position(
        x in -30.0..40.0_f64, y in -30.0..40.0_f64, height in 8_usize..18, width in 8_usize..18,
    ) {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let normal = Distribution::Normal(0.0, 1.0);
        let (first, second) = (random([1, 6, height, width], normal), random([1, 6, height, width], normal));
        let field = CorrelationField::new(first, second, Correlation::AllPairs);
        let at = Tensor::<1>::from_floats([x as f32, y as f32], &Device::flex());
        let coords = at.reshape([1, 2, 1, 1]).expand([1, 2, height, width]);
        let values = field.lookup(coords).narrow(2, 0, 1).narrow(3, 0, 1);
        let values: Vec<f32> = values.into_data().iter::<f32>().collect();
        for level in 0..NUM_LEVELS {
            let map = field.level(level).expect("levels are kept").narrow(0, 0, 1);
            let map: Vec<f32> = map.into_data().iter::<f32>().collect();
            let scale = f64::from(1 << level);
            let (x, y) = (f64::from(x as f32) / scale, f64::from(y as f32) / scale);
            for i in 0..9 {
                for j in 0..9 {
                    let (x, y) = (x + f64::from(i) - 4.0, y + f64::from(j) - 4.0);
                    let wanted = looked_up(&map, field.sizes[level], x, y);
                    let mine = f64::from(values[81 * level + (9 * i + j) as usize]);
                    prop_assert!((mine - wanted).abs() < 1e-4, "{mine} at {level} {i} {j}: {wanted}");
                }
            }
        }
    }
}

#[test]
fn a_bound_takes_all_pairs_as_long_as_their_volume_fits() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    // 100 cells at the finest level, then 25, 4 and 1.
    let bytes = 4 * 100 * (100 + 25 + 4 + 1);
    let bounded = |max_volume| Correlation::Bounded {
        max_volume: Bytes::new(max_volume),
        max_bytes: Bytes::kib(1),
    };
    let keeps_volume = |pairs: usize, max_volume| {
        let features = random([pairs, 3, 10, 10], Distribution::Default);
        let field = CorrelationField::new(features.clone(), features, bounded(max_volume));
        field.level(0).is_some()
    };
    assert!(keeps_volume(1, bytes) && !keeps_volume(1, bytes - 1));
    assert!(keeps_volume(2, 2 * bytes) && !keeps_volume(2, bytes));
    let at_once = |max_volume| bounded(max_volume).pairs_at_once(7, [10, 10]);
    assert_eq!([3 * bytes, 90 * bytes, bytes - 1].map(at_once), [3, 7, 7]);
    assert_eq!(Correlation::AllPairs.pairs_at_once(7, [10, 10]), 7);
}

#[test]
#[should_panic(expected = "one shape")]
fn features_of_different_sizes_are_refused() {
    let shapes = [[1, 2, 8, 8], [1, 2, 8, 9]].map(|shape| random(shape, Distribution::Default));
    let [first, second] = shapes;
    CorrelationField::new(first, second, Correlation::AllPairs);
}
