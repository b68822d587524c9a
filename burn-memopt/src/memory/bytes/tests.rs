use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[rstest]
#[case::plain("1000", 1000)]
#[case::zero("0", 0)]
#[case::bytes("7 B", 7)]
#[case::kibibytes("2KiB", 2048)]
#[case::mebibytes("512MiB", 512 << 20)]
#[case::gibibytes("6GiB", 6 << 30)]
#[case::tebibytes("1TiB", 1 << 40)]
#[case::kilobytes("3KB", 3000)]
#[case::megabytes("3MB", 3_000_000)]
#[case::gigabytes_with_fraction("1.5GB", 1_500_000_000)]
#[case::gibibytes_with_fraction("0.25 GiB", 1 << 28)]
#[case::lower_case("6gib", 6 << 30)]
#[case::blanks_around("  6 GiB ", 6 << 30)]
#[case::part_of_a_byte("1.9", 1)]
#[case::largest("18446744073709551615", u64::MAX)]
#[case::more_decimals_than_count("1.00000000000000000000000000000000000000000000001TiB", 1 << 40)]
fn accepted_forms_are_read_exactly(#[case] text: &str, #[case] bytes: u64) {
    assert_eq!(text.parse(), Ok(Bytes::new(bytes)));
}

#[rstest]
#[case::empty("")]
#[case::unit_alone("GiB")]
#[case::negative("-1GiB")]
#[case::unknown_unit("6 gigs")]
#[case::ambiguous_unit("6G")]
#[case::two_points("1.2.3GiB")]
#[case::no_digit_before_the_point(".5GiB")]
#[case::no_digit_after_the_point("5.GiB")]
#[case::exponent("1e9")]
#[case::other_digits("٣GiB")]
#[case::not_a_number("NaN")]
fn a_malformed_text_is_named_with_the_accepted_forms(#[case] text: &str) {
    let message = text.parse::<Bytes>().unwrap_err().to_string();
    assert!(message.contains(&format!("`{text}`")), "{message}");
    assert!(
        message.contains("6GiB") && message.contains("TiB"),
        "{message}"
    );
}

#[rstest]
#[case::one_too_many("18446744073709551616")]
#[case::by_its_unit("16777216TiB")]
#[case::beyond_128_bits("999999999999999999999999999999999999999999999999999GiB")]
fn an_amount_beyond_64_bits_is_too_large(#[case] text: &str) {
    assert_eq!(
        text.parse::<Bytes>(),
        Err(ParseBytesError::TooLarge { input: text.into() })
    );
}

#[rstest]
#[case(0, "0 B")]
#[case(1023, "1023 B")]
#[case(1024, "1.0 KiB")]
#[case(6 << 30, "6.0 GiB")]
#[case((1 << 20) - 1, "1.0 MiB")]
#[case(u64::MAX, "16.0 EiB")]
fn display_uses_the_largest_binary_unit_that_fits(#[case] bytes: u64, #[case] shown: &str) {
    assert_eq!(Bytes::new(bytes).to_string(), shown);
}

#[test]
fn display_honours_the_width() {
    assert_eq!(format!("{:>9}", Bytes::mib(1)), "  1.0 MiB");
}

#[test]
fn arithmetic_saturates() {
    assert_eq!(Bytes::new(1) - Bytes::new(2), Bytes::ZERO);
    assert_eq!(Bytes::MAX + Bytes::new(1), Bytes::MAX);
    assert_eq!(Bytes::MAX * 2, Bytes::MAX);
    assert_eq!(Bytes::gib(u64::MAX), Bytes::MAX);
    assert_eq!(
        [Bytes::mib(1), Bytes::mib(2)].into_iter().sum::<Bytes>(),
        Bytes::mib(3)
    );
    assert_eq!(Bytes::kib(1536).as_mib(), 1.5);
}

#[test]
fn files_hold_the_exact_number_and_may_hold_text() {
    assert_eq!(
        serde_json::to_string(&Bytes::new(1_234_567_891)).unwrap(),
        "1234567891"
    );
    assert_eq!(
        serde_json::from_str::<Bytes>("\"6GiB\"").unwrap(),
        Bytes::gib(6)
    );
    assert_eq!(
        serde_json::from_str::<Bytes>("1000").unwrap(),
        Bytes::new(1000)
    );
}

#[rstest]
#[case::negative("-5")]
#[case::fraction("1.5")]
#[case::text_without_meaning("\"lots\"")]
#[case::truth("true")]
fn a_file_with_something_else_is_refused(#[case] json: &str) {
    assert!(serde_json::from_str::<Bytes>(json).is_err());
}

proptest! {
    #[test]
    fn a_number_survives_text_and_files(bytes: u64) {
        let amount = Bytes::new(bytes);
        prop_assert_eq!(bytes.to_string().parse::<Bytes>(), Ok(amount));
        let json = serde_json::to_string(&amount).unwrap();
        prop_assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap(), amount);
    }

    #[test]
    fn what_is_shown_reads_back_within_its_decimal(bytes in 0u64..1 << 50) {
        // One decimal of at least 1.0 is off by 0.05 at most. From a pebibyte on the shown unit
        // is not one that is read.
        prop_assume!(bytes < (1023 << 40));
        let shown = Bytes::new(bytes).to_string();
        let read = shown.parse::<Bytes>().unwrap().get();
        prop_assert!(read.abs_diff(bytes) as f64 <= 0.0501 * bytes as f64, "{} reads {}", shown, read);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,24}") {
        let _ = text.parse::<Bytes>();
    }
}
