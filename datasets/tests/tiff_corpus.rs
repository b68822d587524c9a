//! The fuzzer's saved inputs, and a hundred thousand changes of them: no panic, no hang, and no
//! allocation beyond what the stored bytes can hold.

#![cfg(feature = "tiff")]

mod allocations;
#[path = "../fuzz/read_tiff.rs"]
mod read_tiff;

use std::path::Path;

use burn_memopt_datasets::tiff::TiffStack;
use rand::{RngExt, SeedableRng, rngs::StdRng};

const NUM_INPUTS: usize = 100_000;
/// Files of at most 4 KiB may claim 4096 times as much.
const MAX_LEN: usize = 4096;
const MAX_ALLOCATION: usize = 4096 * MAX_LEN + 4096;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/tiff_index");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Numbers at the borders of what fields hold.
const NUMBERS: [u64; 20] = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    16,
    32,
    43,
    255,
    256,
    273,
    324,
    32_946,
    65_535,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    u64::MAX,
];

/// Changes a file in one way.
fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut StdRng) {
    if bytes.is_empty() {
        bytes.extend(other);
    }
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..10) {
        0 => bytes[at] = rng.random(),
        1 => bytes[at] ^= 1 << rng.random_range(0..8),
        2..=6 => {
            let number = NUMBERS[rng.random_range(0..NUMBERS.len())];
            let len = [1, 2, 4, 8][rng.random_range(0..4)];
            let number = match rng.random() {
                true => number.to_le_bytes()[..len].to_vec(),
                false => number.to_be_bytes()[8 - len..].to_vec(),
            };
            let end = bytes.len().min(at + len);
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        7 => {
            // A number that may well be an offset in the file.
            let offset = rng.random_range(0..bytes.len() as u32 + 2).to_le_bytes();
            let end = bytes.len().min(at + 4);
            bytes[at..end].copy_from_slice(&offset[..end - at]);
        }
        8 => bytes.truncate(at),
        _ => {
            let from = rng.random_range(0..other.len());
            let len = rng.random_range(0..64.min(other.len() - from) + 1);
            let end = bytes.len().min(at + len);
            bytes.splice(at..end, other[from..from + len].iter().copied());
        }
    }
    bytes.truncate(MAX_LEN);
}

fn read(bytes: &[u8], name: &str) {
    allocations::take();
    read_tiff::read(bytes);
    let largest = allocations::take().largest;
    assert!(largest <= MAX_ALLOCATION, "{name}: {largest} bytes at once");
}

#[test]
fn saved_inputs_are_small_and_read_without_a_panic() {
    let corpus = corpus();
    assert!(corpus.len() >= 15, "{} files", corpus.len());
    let mut whole = 0;
    for (name, bytes) in &corpus {
        assert!(bytes.len() <= 2048, "{name}");
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
        let (name, bytes) = &corpus[rng.random_range(0..corpus.len())];
        let (_, other) = &corpus[rng.random_range(0..corpus.len())];
        let mut bytes = bytes.clone();
        for _ in 0..rng.random_range(1..5) {
            change(&mut bytes, other, &mut rng);
        }
        read(&bytes, &format!("input {input} from {name}"));
        opened += usize::from(TiffStack::from_bytes(bytes).is_ok());
    }
    // Some changes must be harmless, or nothing behind the header was reached.
    assert!((NUM_INPUTS / 20..NUM_INPUTS).contains(&opened), "{opened}");
}
