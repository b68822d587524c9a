//! Tables of emitters in the forms that programs write: each says the same as the plain one.

use std::{fs, path::Path};

use burn::data::dataset::Dataset;
use burn_memopt_datasets::{
    advise::{Companions, DataSource},
    counting::CountDataset,
    localizations::{Localization, read_table},
    tiff::{TiffStackWriter, open_frames},
};
use rstest::rstest;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/tables");
const NUM_FRAMES: usize = 12;

fn path_of(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

fn open(table: impl AsRef<Path>, pixel_size: Option<f64>) -> Result<CountDataset, String> {
    CountDataset::open_scaled(path_of("frames.tif"), table, pixel_size)
        .map_err(|error| error.to_string())
}

/// What is learned from: frame, position and photons.
fn emitters(frames: &CountDataset) -> Vec<Localization> {
    let all = (0..NUM_FRAMES).flat_map(|frame| frames.emitters(frame));
    all.copied().collect()
}

#[track_caller]
fn check_equal(table: impl AsRef<Path>, pixel_size: Option<f64>) {
    let plain = emitters(&open(path_of("plain.csv"), None).unwrap());
    assert_eq!(plain.len(), 24);
    let found = open(table, pixel_size).unwrap();
    assert_eq!(found.notes(), &[] as &[String]);
    let found = emitters(&found);
    assert_eq!(found.len(), plain.len());
    for (found, plain) in found.iter().zip(&plain) {
        assert_eq!((found.frame, found.photons), (plain.frame, plain.photons));
        let distance = (found.x - plain.x).hypot(found.y - plain.y);
        assert!(distance < 1e-4, "{found:?} is not {plain:?}");
    }
}

/// Writes the plain table in another form.
fn changed(change: impl Fn(&str) -> Vec<u8>) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let plain = fs::read_to_string(path_of("plain.csv")).unwrap();
    fs::write(file.path(), change(&plain)).unwrap();
    file
}

#[test]
fn a_folder_of_pages_is_read_as_the_stack() {
    let stack = open_frames(path_of("frames.tif")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for index in 0..NUM_FRAMES {
        let path = folder.path().join(format!("t{index}.tif"));
        let mut writer = TiffStackWriter::create(path, stack.height(), stack.width()).unwrap();
        writer
            .write_frame(&stack.frame(index).unwrap().pixels)
            .unwrap();
        writer.finish().unwrap();
    }
    let table = path_of("plain.csv");
    let pages = CountDataset::open(folder.path(), &table).unwrap();
    let frames = CountDataset::open(path_of("frames.tif"), &table).unwrap();
    let items = |frames: &CountDataset| frames.iter().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(items(&pages), items(&frames));

    let companions = Companions {
        targets: Some(table.as_ref()),
        ..Companions::default()
    };
    let source = DataSource::open(folder.path(), companions).unwrap();
    assert!(
        source.about.starts_with("12 files, 12 frames"),
        "{}",
        source.about
    );
    assert!(source.about.ends_with("density map"), "{}", source.about);
}

#[test]
fn every_case_is_read_as_the_plain_table() {
    let mut num_cases = 0;
    for entry in fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        match path.file_stem().unwrap().to_str().unwrap() {
            "frames" | "header_only" | "frames_from_one" | "one_emitter_outside" => continue,
            "thunderstorm_nm" => check_equal(&path, Some(100.0)),
            _ => check_equal(&path, None),
        }
        num_cases += 1;
    }
    assert_eq!(num_cases, 9);
}

#[test]
fn a_table_in_nanometres_needs_a_pixel_size() {
    let error = open(path_of("thunderstorm_nm.csv"), None).unwrap_err();
    for part in ["thunderstorm_nm.csv", "line 1", "x [nm]", "--pixel-size"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_table_without_rows_is_an_error() {
    let error = open(path_of("header_only.csv"), None).unwrap_err();
    assert!(error.contains("the table has no rows"), "{error}");
}

#[test]
fn frames_that_begin_at_one_are_noted() {
    let frames = open(path_of("frames_from_one.csv"), None).unwrap();
    assert_eq!(emitters(&frames).len(), 22);
    let notes = frames.notes().join("\n");
    for part in [
        "frame 0 is never named",
        "frame 12 is behind the last frame, 11",
    ] {
        assert!(notes.contains(part), "{notes}");
    }
}

#[test]
fn a_row_outside_the_frame_is_named_and_left_out() {
    let frames = open(path_of("one_emitter_outside.csv"), None).unwrap();
    assert_eq!(emitters(&frames).len(), 24);
    let [note] = frames.notes() else {
        panic!("{:?}", frames.notes());
    };
    assert!(note.contains("left out 1 of 25 rows"), "{note}");
    assert!(
        note.contains("line 26 (frame 3, x = -3.2, y = 5)"),
        "{note}"
    );
}

#[test]
fn a_table_of_another_size_is_refused() {
    let nanometres = changed(|_| b"frame,x,y\n0,2424.2,704.5\n1,2766.3,362.1\n".to_vec());
    let error = open(nanometres.path(), None).unwrap_err();
    assert!(
        error.contains("24×32 pixels") && error.contains("x [nm]"),
        "{error}"
    );
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

/// The rows of `plain`, with another header and each row changed.
fn rows(plain: &str, header: &str, row: impl Fn(&[&str]) -> String) -> Vec<u8> {
    let rows = plain.lines().skip(1);
    let rows = rows.map(|line| row(&line.split(',').collect::<Vec<_>>()));
    let lines: Vec<_> = std::iter::once(header.to_owned()).chain(rows).collect();
    lines.join("\r\n").into_bytes()
}

#[rstest]
#[case::utf16_little(|plain: &str| utf16(&format!("\u{feff}{plain}"), u16::to_le_bytes))]
#[case::utf16_big(|plain: &str| utf16(&format!("\u{feff}{plain}"), u16::to_be_bytes))]
#[case::utf16_without_mark(|plain: &str| utf16(plain, u16::to_le_bytes))]
#[case::utf16_big_without_mark(|plain: &str| utf16(plain, u16::to_be_bytes))]
#[case::utf8_mark(|plain: &str| format!("\u{feff}{plain}").into())]
#[case::crlf(|plain: &str| plain.replace('\n', "\r\n").into())]
#[case::carriage_returns(|plain: &str| plain.replace('\n', "\r").into())]
#[case::excel_line(|plain: &str| format!("sep=;\r\n{}", plain.replace(',', ";")).into())]
#[case::empty_rows(|plain: &str| format!("\n{}\n,,,\n  ,,\n\n", plain.replace('\n', "\n\n")).into())]
#[case::tabs_and_decimal_commas(|plain: &str| plain.replace(',', "\t").replace('.', ",").into())]
#[case::quoted_decimal_commas(|plain: &str| rows(plain, "frame,x,y,photons", |row| {
    format!("\"{}\"", row.join("\",\"").replace('.', "\u{1}").replace('\u{1}', ","))
}))]
#[case::every_row_ends_in_a_comma(|plain: &str| plain.replace('\n', ",\n").into())]
#[case::latin_1_in_another_column(|plain: &str| {
    let mut bytes = rows(plain, "frame,x,y,photons,m", |row| format!("{},1", row.join(",")));
    bytes[18] = 0xb5;
    bytes
})]
#[case::decode_with_index_and_sigma(|plain: &str| {
    rows(plain, "# {\"xyz_unit\": \"px\", \"px_size\": [100.0, 100.0]}\n,frame_ix,x,y,phot,x_sig,z_cr", |row| {
        format!("7,{},0.1,nan", row.join(","))
    })
})]
#[case::picasso(|plain: &str| {
    rows(plain, "frame,x,y,photons,sx,sy,bg,lpx,lpy,ellipticity,net_gradient", |row| {
        format!("{},1.1,1.2,40.5,0.01,inf,0.1,5000", row.join(","))
    })
})]
#[case::thunderstorm_header_with_frames_from_zero(|plain: &str| {
    rows(plain, "\"frame\",\"x [px]\",\"y [px]\",\"intensity [photon]\"", |row| row.join(","))
})]
fn another_form_says_the_same(#[case] change: fn(&str) -> Vec<u8>) {
    check_equal(changed(change).path(), None);
}

#[test]
fn decode_in_nanometres_brings_its_pixel_size() {
    let table = changed(|plain| {
        let header = "# {\"xyz_unit\": \"nm\", \"px_size\": [100.0, 200.0]}\nframe_ix,x,y,phot";
        rows(plain, header, |row| {
            let length = |index: usize, size: f64| row[index].parse::<f64>().unwrap() * size;
            format!(
                "{},{},{},{}",
                row[0],
                length(1, 100.0),
                length(2, 200.0),
                row[3]
            )
        })
    });
    check_equal(table.path(), None);
}

#[test]
fn lengths_of_thunderstorm_become_pixels() {
    let table = read_table(path_of("thunderstorm_nm.csv"), Some(100.0)).unwrap();
    let row = table.rows[0];
    assert_eq!((row.sx, row.sy), (Some(1.3), Some(1.3)));
    assert_eq!(
        (row.lpx, row.lpy, row.bg),
        (Some(0.081), Some(0.081), Some(10.0))
    );
    assert_eq!(table.lines[..2], [2, 3]);
}

#[rstest]
#[case::thousands(
    "frame\tx\ty\tphotons\n0\t1.5\t2.5\t1,000\n",
    "line 2 has a number with a comma"
)]
#[case::unquoted_decimal_commas(
    "frame,x,y\n0,1,5,2,5\n",
    "line 2 is not a row of the table: it has 5 fields"
)]
#[case::unknown_unit("frame,x [um],y [um]\n0,1,2\n", "lacks the columns x, y")]
#[case::not_finite("frame,x,y\n0,1,2\n\n0,nan,2\n", "line 4: x must be a finite number")]
#[case::behind_comments("# made by hand\n\nframe,x\n", "line 3 lacks the columns y")]
#[case::behind_a_delimiter("sep=;\r\nframe;x;y\r\n0;1;a\r\n", "line 3: y must be a finite number")]
fn a_table_that_is_wrong_is_refused_by_line(#[case] text: &str, #[case] reason: &str) {
    let file = changed(|_| text.into());
    let error = read_table(file.path(), None).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}
