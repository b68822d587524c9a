//! JSON Lines: the fuzzer's saved inputs, and records as people have them.

#[path = "../../fuzz/read_jsonl.rs"]
mod read_jsonl;

use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{Saved, changes::change_text, saved, within};

const NUM_INPUTS: usize = 50_000;
/// Bytes that an input is cut to.
const MAX_LEN: usize = 4096;
/// What indexing and reading may allocate at once: the index of an input of `MAX_LEN` records, or
/// parsed JSON, whose values take up to 32 bytes for two of text and whose lists double.
const MAX_ALLOCATION: usize = 8 * MAX_LEN;
/// What matters to JSON Lines.
const PIECES: [&[u8]; 16] = [
    b"\n",
    b"\r\n",
    b"\n\n\n",
    b" ",
    b"\t",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc3",
    b"\0",
    b"{",
    b"[{",
    b"[[[[[[[[",
    b"\"",
    b"\\u",
    b"1e999",
    b"\"answer\":",
];

fn corpus() -> Vec<Saved> {
    let mut files = saved(&["fuzz/corpus/jsonl_index"], &[]);
    files.extend(saved(&["tests/cases/jsonl"], &[".jsonl"]));
    files
}

#[test]
fn saved_inputs_are_read_as_the_simple_way_reads_them() {
    let corpus = corpus();
    assert!(corpus.len() >= 20, "{} files", corpus.len());
    for Saved { bytes, .. } in corpus {
        for max_offsets in [1, 2, 3, 1 << 20] {
            read_jsonl::read(&bytes, max_offsets);
        }
    }
}

#[test]
fn changed_inputs_are_read_or_refused() {
    let corpus = corpus();
    let mut rng = StdRng::seed_from_u64(5);
    let mut num_parsed = 0;
    for number in 0..NUM_INPUTS {
        let mut input = corpus[number % corpus.len()].bytes.clone();
        let other = corpus.choose(&mut rng).expect("a corpus");
        change_text(&mut input, &other.bytes, &PIECES, &mut rng);
        input.truncate(MAX_LEN);
        let max_offsets = *[1, 2, 7, 1 << 20].choose(&mut rng).expect("there are some");
        let name = format!("input {number}");
        let read = || read_jsonl::read(&input, max_offsets);
        num_parsed += within(MAX_ALLOCATION, &name, read);
    }
    // Most inputs keep a whole record, or only refusals were tried.
    assert!(num_parsed > NUM_INPUTS, "{num_parsed} records");
}
