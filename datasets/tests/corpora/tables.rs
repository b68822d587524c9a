//! Tables of emitters, in every form in which they are read.

use std::fs;

use burn_memopt_datasets::localizations::{LocalizationError, read_table};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{Saved, changes::change_text, saved, within};

const NUM_INPUTS: usize = 25_000;
/// Bytes that an input is cut to.
const MAX_LEN: usize = 4096;
/// A row takes at least six bytes of text and 120 as a value, and lists double.
const MAX_ALLOCATION: usize = 64 * MAX_LEN;
/// What matters to tables.
const PIECES: [&[u8]; 20] = [
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b";",
    b"\t",
    b"\"",
    b"#",
    b"# {\"xyz_unit\": \"nm\", \"px_size\": [0, 1]}\n",
    b"sep=;\n",
    b"sep=\"\n",
    b"frame,x,y\n",
    b"\"x [nm]\"",
    b"nan",
    b"-1e39",
    b"1e309",
    b"18446744073709551616",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\0",
];

fn corpus() -> Vec<Saved> {
    let mut files = saved(&["tests/cases/tables"], &[".csv"]);
    let wide = |unit: fn(u16) -> [u8; 2], saved: &Saved| {
        let text = String::from_utf8(saved.bytes.clone()).expect("text");
        let text = format!("\u{feff}{text}");
        Saved {
            name: format!("{} in UTF-16", saved.name),
            bytes: text.encode_utf16().flat_map(unit).collect(),
        }
    };
    let others = files.iter().take(2);
    let others =
        others.flat_map(|file| [wide(u16::to_le_bytes, file), wide(u16::to_be_bytes, file)]);
    let others: Vec<_> = others.collect();
    files.extend(others);
    files
}

#[test]
fn changed_inputs_are_read_or_refused_by_name() {
    let corpus = corpus();
    assert!(corpus.len() >= 16, "{} files", corpus.len());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hostile.csv");
    let mut rng = StdRng::seed_from_u64(3);
    let mut num_read = 0;
    for number in 0..NUM_INPUTS {
        let mut input = corpus[number % corpus.len()].bytes.clone();
        let other = &corpus[rng.random_range(0..corpus.len())].bytes;
        change_text(&mut input, other, &PIECES, &mut rng);
        input.truncate(MAX_LEN);
        fs::write(&path, &input).expect("the table is written");
        let pixel_size = rng.random::<bool>().then_some(100.0);
        let name = format!("input {number}");
        match within(MAX_ALLOCATION, &name, || read_table(&path, pixel_size)) {
            Ok(table) => {
                let is_finite = |row: &burn_memopt_datasets::localizations::Localization| {
                    row.x.is_finite() && row.y.is_finite()
                };
                assert!(table.rows.iter().all(is_finite), "{name}");
                assert!(table.lines.is_sorted(), "{name}");
                num_read += usize::from(!table.rows.is_empty());
            }
            Err(error) => {
                assert!(error.to_string().contains("hostile.csv"), "{name}: {error}");
                let is_open = matches!(error, LocalizationError::Open { .. });
                assert!(
                    !is_open || input.contains(&0xff) || input.contains(&0),
                    "{name}"
                );
            }
        }
    }
    // Some changes must be harmless, or only headers were tried.
    assert!(
        (NUM_INPUTS / 40..NUM_INPUTS).contains(&num_read),
        "{num_read}"
    );
}
