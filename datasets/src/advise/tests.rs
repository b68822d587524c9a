use burn_memopt::memory::{Bytes, estimate::StepBytes};
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn item(loaded: u64) -> ItemBytes {
    ItemBytes {
        stored: Bytes::new(loaded / 4),
        loaded: Bytes::new(loaded),
    }
}

/// A thousand items that take `loaded` together.
fn set_of(loaded: u64) -> DatasetBytes {
    DatasetBytes::from_items((0..1000).map(|index| item((loaded + index) / 1000)))
}

fn advisor(free: u64) -> Advisor {
    Advisor::new()
        .with_free_memory(Bytes::new(free))
        .with_cores(8)
}

const RECORD: Access = Access::Streamed {
    record: Bytes::new(100),
};

#[rstest]
#[case::a_byte_below_half(499_999, Loading::Preload)]
#[case::half(500_000, Loading::Cache)]
#[case::a_byte_below_twice(1_999_999, Loading::Cache)]
#[case::twice(2_000_000, Loading::Stream)]
fn the_borders_are_exact(#[case] loaded: u64, #[case] expected: Loading) {
    let data = set_of(loaded);
    assert_eq!(data.loaded(), Some(Bytes::new(loaded)));
    let advice = advisor(1_000_000).advise(&data, Access::Decoded).unwrap();
    assert_eq!(advice.loading.value, expected, "{}", advice.loading.reason);
}

#[rstest]
#[case::a_byte_below_half(499_999, Loading::Preload)]
#[case::half(500_000, Loading::Stream)]
fn a_stream_is_kept_whole_or_not_at_all(#[case] loaded: u64, #[case] expected: Loading) {
    let advice = advisor(1_000_000).advise(&set_of(loaded), RECORD).unwrap();
    assert_eq!(advice.loading.value, expected, "{}", advice.loading.reason);
    assert_eq!(advice.cache.value, Bytes::ZERO);
    let buffer = advice.shuffle_buffer.value;
    assert_eq!(buffer > 0, expected == Loading::Stream, "{buffer}");
}

#[test]
fn reasons_are_made_of_the_numbers_and_never_contradict_the_border() {
    let advice = advisor(1_000_000)
        .advise(&set_of(499_999), Access::Decoded)
        .unwrap();
    let reason = &advice.loading.reason;
    assert!(
        reason.contains("49.9 %") && reason.contains("976.6 KiB free"),
        "{reason}"
    );
}

#[rstest]
#[case::many_cores(64, Access::Decoded, 4)]
#[case::two_cores(2, Access::Decoded, 2)]
#[case::one_core(1, Access::Decoded, 1)]
#[case::a_stream(3, RECORD, 3)]
#[case::mapped(64, Access::Mapped, 1)]
#[case::mapped_on_one_core(1, Access::Mapped, 0)]
fn workers_are_as_many_as_decoding_needs(
    #[case] cores: u64,
    #[case] access: Access,
    #[case] expected: u64,
) {
    let advice = advisor(1 << 30)
        .with_cores(cores)
        .advise(&DatasetBytes::uniform(10_000, item(1 << 20)), access)
        .unwrap();
    assert_eq!(
        advice.num_workers.value, expected,
        "{}",
        advice.num_workers.reason
    );
    assert_eq!(advice.prefetch.value > Bytes::ZERO, expected > 0);
}

#[test]
fn mapped_pages_are_not_cached_a_second_time() {
    let data = DatasetBytes::uniform(1000, item(1 << 20));
    let advice = advisor(1 << 30).advise(&data, Access::Mapped).unwrap();
    assert_eq!(advice.loading.value, Loading::Cache);
    assert_eq!(advice.cache.value, Bytes::ZERO);
    assert!(
        advice.cache.reason.contains("system"),
        "{}",
        advice.cache.reason
    );
}

#[test]
fn unknown_memory_is_assumed_and_said_so() {
    let data = DatasetBytes::uniform(1000, item(1 << 20));
    let advice = Advisor::new().advise(&data, Access::Decoded).unwrap();
    assert_eq!(advice.loading.value, Loading::Preload);
    let said = advice.assumptions.join("\n");
    assert!(
        said.contains("2.0 GiB") && said.contains("2 cores") && said.contains("unknown"),
        "{said}"
    );
    assert!(advice.to_string().contains("assumed free"), "{advice}");
    assert!(
        advisor(1 << 30)
            .advise(&data, Access::Decoded)
            .unwrap()
            .assumptions
            .is_empty()
    );
}

#[test]
fn an_assumption_refuses_nothing() {
    let data = DatasetBytes::uniform(10, item(1 << 40));
    let step = StepBytes {
        fixed: Bytes::gib(900),
        per_item: Bytes::gib(3000),
    };
    let advice = Advisor::new()
        .with_step(step)
        .advise(&data, Access::Decoded)
        .unwrap();
    assert!(advice.batch_size.value >= 1);
    Advisor::new()
        .advise(&DatasetBytes::uniform(1, item(u64::MAX)), RECORD)
        .unwrap();
}

#[test]
fn an_item_larger_than_memory_is_refused_with_both_numbers() {
    let data = DatasetBytes::uniform(10, item(1001));
    let error = advisor(1000).advise(&data, Access::Decoded).unwrap_err();
    assert_eq!(
        error,
        AdviseError::ItemTooLarge {
            needed: Bytes::new(1001),
            available: Bytes::new(1000)
        }
    );
    advisor(1001).advise(&data, Access::Decoded).unwrap();
}

#[test]
fn a_batch_that_is_asked_for_is_kept_while_it_fits_a_quarter() {
    let data = DatasetBytes::uniform(1000, item(1000));
    let asked = |batch_size| {
        let advisor = advisor(1_000_000).with_batch_size(batch_size);
        advisor.advise(&data, Access::Decoded).unwrap().batch_size
    };
    assert_eq!(asked(7).value, 7);
    assert_eq!(asked(250).value, 250);
    let too_many = asked(251);
    assert_eq!(too_many.value, 250);
    assert!(
        too_many.reason.contains("251 were asked for"),
        "{}",
        too_many.reason
    );
}

#[test]
#[should_panic(expected = "batch_size must be at least 1, got 0")]
fn an_empty_batch_is_refused() {
    let _ = Advisor::new().with_batch_size(0);
}

#[rstest]
#[case::usual(1 << 20, 10_000, 32)]
#[case::few_items(1 << 20, 21, 16)]
#[case::an_eighth(1 << 24, 10_000, 8)]
#[case::huge_items(1 << 29, 10_000, 1)]
fn the_batch_is_a_power_of_two_that_fits(
    #[case] size: u64,
    #[case] num: u64,
    #[case] expected: u64,
) {
    let data = DatasetBytes::uniform(num, item(size));
    let batch_size = advisor(1 << 30)
        .advise(&data, Access::Decoded)
        .unwrap()
        .batch_size;
    assert_eq!(batch_size.value, expected, "{}", batch_size.reason);
}

#[test]
fn the_step_decides_the_batch_on_a_card_and_on_the_host() {
    let data = DatasetBytes::uniform(10_000, item(1 << 20));
    let step = StepBytes {
        fixed: Bytes::gib(1),
        per_item: Bytes::mib(100),
    };
    let host = Advisor::new()
        .with_free_memory(Bytes::gib(64))
        .with_cores(8)
        .with_step(step);
    let on_card = host.clone().with_device_memory(Bytes::gib(10));
    // (8 GiB - 1 GiB) / 100 MiB = 71.
    let advice = on_card.advise(&data, Access::Decoded).unwrap();
    assert_eq!(advice.batch_size.value, 64, "{}", advice.batch_size.reason);
    assert_eq!(advice.loading.value, Loading::Preload);
    // Half of 63 GiB are 322 items.
    let advice = host.advise(&data, Access::Decoded).unwrap();
    assert_eq!(advice.batch_size.value, 256, "{}", advice.batch_size.reason);
    assert!(
        advice.loading.reason.contains("model on the CPU"),
        "{}",
        advice.loading.reason
    );

    let error = on_card
        .with_device_memory(Bytes::gib(1))
        .advise(&data, Access::Decoded);
    let (needed, available) = (
        Bytes::mib(1124),
        Bytes::new((1 << 30) - (1u64 << 30).div_ceil(5)),
    );
    assert_eq!(error, Err(AdviseError::StepTooLarge { needed, available }));
}

#[test]
fn unknown_device_memory_is_said_to_be() {
    let data = DatasetBytes::uniform(100, item(1000));
    let step = StepBytes {
        fixed: Bytes::gib(100),
        per_item: Bytes::gib(1),
    };
    let advisor = advisor(1 << 30).with_step(step).with_device_memory(None);
    let advice = advisor.advise(&data, Access::Decoded).unwrap();
    assert!(
        advice.assumptions[0].contains("device"),
        "{:?}",
        advice.assumptions
    );
}

#[test]
fn the_table_has_a_line_for_each_setting() {
    let data = DatasetBytes::uniform(100, item(1000));
    let table = advisor(1 << 30)
        .advise(&data, Access::Decoded)
        .unwrap()
        .to_string();
    let names: Vec<_> = table.lines().map(|line| line[..14].trim()).collect();
    let expected = [
        "loading",
        "workers",
        "batch size",
        "prefetch",
        "cache",
        "shuffle buffer",
        "host memory",
    ];
    assert_eq!(names, expected, "{table}");
}

#[test]
fn advice_is_written_as_numbers_and_read_back() {
    let data = DatasetBytes::uniform(100, item(1000));
    let advice = advisor(1 << 30).advise(&data, RECORD).unwrap();
    let json = serde_json::to_value(&advice).unwrap();
    assert_eq!(json["loading"]["value"], "preload");
    assert_eq!(json["prefetch"]["value"], 2 * 32 * 1000);
    assert_eq!(serde_json::from_value::<Advice>(json).unwrap(), advice);
}

/// Sizes of every magnitude, the borders among them.
fn size() -> impl Strategy<Value = u64> {
    let magnitude = (0..64u32, any::<u64>()).prop_map(|(shift, bits)| bits >> shift);
    prop_oneof![8 => magnitude, 1 => Just(0), 1 => Just(u64::MAX)]
}

fn access() -> impl Strategy<Value = Access> {
    let record = size().prop_map(|record| Access::Streamed {
        record: Bytes::new(record),
    });
    prop_oneof![Just(Access::Mapped), Just(Access::Decoded), record]
}

prop_compose! {
    fn data()(
        num in prop::option::of(size()),
        sizes in prop::collection::vec(size(), 0..4),
        loaded in prop::option::of(size()),
    ) -> DatasetBytes {
        let data = DatasetBytes::sampled(num, sizes.into_iter().map(item));
        loaded.map_or(data, |loaded| data.with_loaded(Bytes::new(loaded)))
    }
}

prop_compose! {
    fn machine()(
        free in size(),
        cores in prop::option::of(size()),
        asked in prop::option::of(size()),
        step in prop::option::of((size(), size())),
        card in prop::option::of(prop::option::of(size())),
    ) -> Advisor {
        let step = step.map(|(fixed, per_item)| StepBytes { fixed: Bytes::new(fixed), per_item: Bytes::new(per_item) });
        let advisor = Advisor::new()
            .with_free_memory(Bytes::new(free))
            .with_cores(cores)
            .with_batch_size(asked.map(|asked| asked.max(1)))
            .with_step(step);
        match card {
            Some(free) => advisor.with_device_memory(free.map(Bytes::new)),
            None => advisor,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_shares_never_exceed_the_free_memory(machine in machine(), data in data(), access in access()) {
        let Ok(advice) = machine.advise(&data, access) else { return Ok(()) };
        let free = u128::from(machine.free_memory.unwrap().get());
        let wide = |bytes: Bytes| u128::from(bytes.get());
        let record = match access {
            Access::Streamed { record } => wide(record),
            _ => 0,
        };
        let kept = match advice.loading.value {
            Loading::Preload => wide(data.loaded().unwrap()),
            _ => 0,
        };
        let total = kept
            + wide(advice.cache.value)
            + wide(advice.prefetch.value)
            + wide(data.largest_item().loaded) * u128::from(advice.batch_size.value)
            + record * u128::from(advice.shuffle_buffer.value);
        prop_assert!(total <= free, "{total} of {free}\n{advice}");
        prop_assert_eq!(total, wide(advice.host_memory.value));
        prop_assert!(advice.num_workers.value <= 4);
        prop_assert!(advice.batch_size.value >= 1);
    }

    #[test]
    fn more_memory_never_keeps_less(machine in machine(), data in data(), access in access(), more in size()) {
        let Ok(advice) = machine.advise(&data, access) else { return Ok(()) };
        let free = machine.free_memory.unwrap() + Bytes::new(more);
        let richer = machine.with_free_memory(free).advise(&data, access);
        prop_assert!(richer.is_ok(), "{richer:?}");
        let richer = richer.unwrap();
        let kept = |advice: &Advice| match advice.loading.value {
            Loading::Preload => data.loaded().unwrap(),
            _ => advice.cache.value,
        };
        prop_assert!(advice.loading.value <= richer.loading.value, "{advice}{richer}");
        prop_assert!(kept(&advice) <= kept(&richer), "{advice}{richer}");
        prop_assert!(advice.batch_size.value <= richer.batch_size.value, "{advice}{richer}");
    }

    #[test]
    fn unknown_memory_is_never_refused_for_its_data(data in data(), access in access()) {
        prop_assert!(Advisor::new().advise(&data, access).is_ok());
    }
}
