//! Tables as programs write them, and tables that are wrong.

use std::path::PathBuf;

use burn_memopt_datasets::localizations::{
    Localization, LocalizationError, read_csv, read_csv_for_stack, write_csv,
};
use rstest::rstest;
use tempfile::TempDir;

fn table(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.csv");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn dna_paint() -> &'static str {
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/dna-paint/localizations.csv"
    )
}

#[test]
fn the_dna_paint_table_has_30_localizations() {
    let table = read_csv(dna_paint()).unwrap();
    assert_eq!(table.len(), 30);
    assert_eq!((table[0].frame, table[0].x), (11, 5.618_027));
    assert_eq!(table[0].photons, Some(5788.1953));
    assert_eq!(table[29].frame, 99);
}

#[test]
fn columns_are_found_by_name_in_any_order_and_case() {
    let (_folder, path) = table("id, Y ,X,FRAME,photons\n7, 2.5,1.5,3.0,\n");
    let expected = Localization::new(3, 1.5, 2.5);
    assert_eq!(read_csv(path).unwrap(), [expected]);
}

#[rstest]
#[case::some(vec![Localization { photons: Some(3.0), ..Localization::new(2, 0.1, -0.2) }, Localization::new(0, 1.0, 2.0)])]
#[case::uncertain(vec![
    Localization { lpx: Some(0.125), prob: Some(0.9), ..Localization::new(2, 0.1, 1e-9) },
    Localization { z: Some(-7.5), ..Localization::new(0, 1.0, 2.0) },
])]
#[case::none(vec![])]
fn a_written_table_reads_back(#[case] localizations: Vec<Localization>) {
    let (_folder, path) = table("");
    write_csv(&path, &localizations).unwrap();
    assert_eq!(read_csv(&path).unwrap(), localizations);
}

#[test]
fn a_table_has_the_columns_that_its_rows_know() {
    let (_folder, path) = table("");
    let known = Localization {
        prob: Some(0.5),
        ..Localization::new(4, 1.0, 2.5)
    };
    write_csv(&path, &[known, Localization::new(5, 0.0, 0.0)]).unwrap();
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        "frame,x,y,photons,sx,sy,bg,prob\n4,1,2.5,,,,,0.5\n5,0,0,,,,,\n"
    );
}

#[rstest]
#[case::missing(
    "frame,x [km]\n",
    "line 1 lacks the columns x, y; it names frame, x [km]"
)]
#[case::empty("", "line 1 lacks the columns frame, x, y")]
#[case::text(
    "frame,x,y\n1,2,3\n1,a,3\n",
    "line 3: x must be a finite number, got \"a\""
)]
#[case::not_finite("frame,x,y\n1,2,inf\n", "line 2: y must be a finite number")]
#[case::half_frame("frame,x,y\n1.5,2,3\n", "line 2: frame must be a whole number")]
#[case::negative_frame("frame,x,y\n-1,2,3\n", "line 2: frame must be a whole number")]
#[case::crlf("frame,x,y\r\n1,2,3\r\n1,a,3\r\n", "line 3: x must be a finite number")]
#[case::short_row_crlf("frame,x,y\r\n1,2,3\r\n1,2\r\n", "line 3 is not a row")]
#[case::short_row("frame,x,y\n1,2,3\n1,2\n", "line 3 is not a row")]
fn a_wrong_table_is_refused_by_line(#[case] text: &str, #[case] reason: &str) {
    let (_folder, path) = table(text);
    let error = read_csv(&path).unwrap_err().to_string();
    assert!(
        error.contains("table.csv") && error.contains(reason),
        "{error}"
    );
}

#[test]
fn a_frame_that_the_stack_lacks_is_reported() {
    assert_eq!(read_csv_for_stack(dna_paint(), 100).unwrap().len(), 30);
    let error = read_csv_for_stack(dna_paint(), 99).unwrap_err();
    assert!(matches!(
        error,
        LocalizationError::FrameOutOfRange {
            line: 31,
            frame: 99,
            num_frames: 99,
            ..
        }
    ));
    assert!(
        error.to_string().contains("has 99 frames (0 to 98)"),
        "{error}"
    );
}
