//! Damaged and malicious JSON Lines: no panic, no hang, no allocation beyond a
//! stated limit, and every record that is whole is still found.

#![cfg(feature = "jsonl")]

mod allocations;
#[path = "../fuzz/read_jsonl.rs"]
mod read_jsonl;

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use burn::data::dataset::Dataset;
use burn_memopt_datasets::{
    jsonl::{JsonlConfig, JsonlDataset, JsonlStream},
    stream::StreamingDataset,
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// The largest single allocation of this thread while `run` runs.
fn largest_allocation(run: impl FnOnce()) -> usize {
    allocations::take();
    run();
    allocations::take().largest
}

/// Mutated inputs that are tried.
const NUM_INPUTS: usize = 50_000;
/// Bytes that an input is cut to.
const MAX_INPUT_LEN: usize = 4096;
/// What indexing and reading may allocate at once: the index of an input of `MAX_INPUT_LEN`
/// records, or parsed JSON, whose values take up to 32 bytes for two of text and whose
/// lists double.
const MAX_ALLOCATION: usize = 8 * MAX_INPUT_LEN;

/// The saved inputs, which `cargo fuzz` starts from too.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/jsonl_index");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let inputs: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(inputs.len() >= 10, "the corpus is missing");
    inputs
}

/// Changes `input` at random: bytes, pieces, and what matters to JSON Lines.
fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut StdRng) {
    const PIECES: [&[u8]; 14] = [
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
        b"[[[[[[[[",
        b"\"",
        b"\\u",
        b"1e999",
    ];
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=input.len());
        match rng.random_range(0..6) {
            0 => input.truncate(at),
            1 if at < input.len() => input[at] = rng.next_u32() as u8,
            2 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            3 => {
                let piece = PIECES.choose(rng).expect("there are pieces");
                input.splice(at..at, piece.iter().copied());
            }
            4 => {
                let end = rng.random_range(at..=input.len());
                let piece = input[at..end].repeat(rng.random_range(0..4));
                input.splice(at..end, piece);
            }
            _ => {
                let other = others.choose(rng).expect("there is a corpus");
                input.splice(at.., other.iter().copied());
            }
        }
    }
    input.truncate(MAX_INPUT_LEN);
}

#[test]
fn the_saved_corpus_is_read_as_the_simple_way_reads_it() {
    for input in corpus() {
        for max_offsets in [1, 2, 3, 1 << 20] {
            read_jsonl::read(&input, max_offsets);
        }
    }
}

#[test]
fn mutated_inputs_neither_panic_nor_allocate_beyond_the_limit() {
    let corpus = corpus();
    let mut rng = StdRng::seed_from_u64(5);
    let mut num_parsed = 0;
    for number in 0..NUM_INPUTS {
        let mut input = corpus[number % corpus.len()].clone();
        mutate(&mut input, &corpus, &mut rng);
        let max_offsets = *[1, 2, 7, 1 << 20].choose(&mut rng).expect("there are some");
        let largest = largest_allocation(|| {
            num_parsed += read_jsonl::read(&input, max_offsets);
        });
        assert!(
            largest <= MAX_ALLOCATION,
            "input {number} made an allocation of {largest} bytes"
        );
    }
    // Most inputs keep a whole record, or only refusals were tried.
    assert!(num_parsed > NUM_INPUTS, "{num_parsed} records");
}

#[test]
fn a_large_file_is_never_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.jsonl");
    let mut file = BufWriter::new(fs::File::create(&path).unwrap());
    for number in 0..100_000 {
        writeln!(file, "[{number}, \"{}\"]", "x".repeat(100)).unwrap();
    }
    // One line of 16 MiB at the end, above the limit, and another after it.
    let filler = [b'x'; 1 << 16];
    for _ in 0..256 {
        file.write_all(&filler).unwrap();
    }
    write!(file, "\n[0, \"last\"]").unwrap();
    drop(file);

    let config = JsonlConfig::new().with_max_line_len(1000);
    let largest = largest_allocation(|| {
        let dataset = JsonlDataset::<(u32, String)>::open_with(&path, &config).unwrap();
        assert_eq!(dataset.len(), 100_002);
        assert_eq!(dataset.item(77_777).unwrap().0, 77_777);
        assert!(dataset.item(100_000).is_err());
        assert_eq!(dataset.item(100_001).unwrap().1, "last");

        let stream = JsonlStream::<(u32, String)>::open_with(&path, &config).unwrap();
        let mut records = stream.records(99_999).unwrap();
        assert!(records.next().unwrap().is_ok());
        assert!(records.next().unwrap().is_err());
        let last = stream.load(records.next().unwrap().unwrap()).unwrap();
        assert_eq!(last.1, "last");
        assert!(records.next().is_none());
    });
    // The index while it grows: a power of two of offsets.
    assert!(largest <= 8 << 17, "{largest} bytes at once");
}
