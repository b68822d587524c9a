use proptest::prelude::*;

use super::*;
use crate::memory::Bytes;

#[test]
fn a_step_without_cost_fits_any_number_of_items() {
    let free = StepBytes::default();
    assert_eq!(free.largest_batch(Bytes::ZERO), u64::MAX);
    let fixed = StepBytes {
        fixed: Bytes::new(11),
        ..free
    };
    assert_eq!(fixed.largest_batch(Bytes::new(10)), 0);
}

proptest! {
    #[test]
    fn the_largest_batch_fits_and_one_more_does_not(fixed in 0..1u64 << 40, per_item in 1..1u64 << 30, budget in 0..1u64 << 41) {
        let step = StepBytes { fixed: Bytes::new(fixed), per_item: Bytes::new(per_item) };
        let budget = Bytes::new(budget);
        let batch = step.largest_batch(budget);
        prop_assert!(batch == 0 || step.of_batch(batch) <= budget);
        prop_assert!(step.of_batch(batch + 1) > budget);
    }
}
