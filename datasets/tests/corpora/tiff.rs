//! TIFF stacks: the fuzzer's saved inputs, and stacks as people have them.

#[path = "../../fuzz/read_tiff.rs"]
mod read_tiff;

use burn_memopt_datasets::tiff::TiffStack;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{Saved, changes::change_numbers, saved, within};

const NUM_INPUTS: usize = 100_000;
/// Bytes that an input is cut to.
const MAX_LEN: usize = 20 << 10;
/// How much more than its length, or 4 KiB, a file may claim.
const MAX_EXPANSION: usize = 4096;
/// Zeros of tiles that are not stored.
const MAX_SPARSE: usize = 256 << 20;

fn corpus() -> Vec<Saved> {
    let mut files = saved(&["fuzz/corpus/tiff_index", "tests/cases/tiff"], &[".tif"]);

    files.retain(|file| file.bytes.len() <= MAX_LEN);
    files
}

fn read(bytes: &[u8], name: &str) {
    let limit = MAX_EXPANSION * bytes.len().max(4096) + MAX_SPARSE;
    within(limit, name, || read_tiff::read(bytes));
}

#[test]
fn saved_inputs_are_read_without_a_panic() {
    let corpus = corpus();
    assert!(corpus.len() >= 40, "{} files", corpus.len());
    let mut whole = 0;
    for Saved { name, bytes } in &corpus {
        read(bytes, name);
        whole += usize::from(TiffStack::from_bytes(bytes.as_slice()).is_ok());
    }
    // Most are valid, or changing them would show nothing.
    assert!(whole * 2 > corpus.len(), "{whole} of {}", corpus.len());
}

#[test]
fn changed_inputs_are_read_or_refused() {
    let corpus = corpus();
    let mut rng = StdRng::seed_from_u64(1);
    let mut opened = 0;
    for input in 0..NUM_INPUTS {
        let Saved { name, bytes } = &corpus[rng.random_range(0..corpus.len())];
        let other = &corpus[rng.random_range(0..corpus.len())].bytes;
        let mut bytes = bytes.clone();
        for _ in 0..rng.random_range(1..5) {
            change_numbers(&mut bytes, other, &mut rng);
        }
        read(&bytes, &format!("input {input} from {name}"));
        opened += usize::from(TiffStack::from_bytes(bytes).is_ok());
    }
    // Some changes must be harmless, or nothing behind the header was reached.
    assert!((NUM_INPUTS / 20..NUM_INPUTS).contains(&opened), "{opened}");
}
