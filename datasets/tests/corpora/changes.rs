//! Random changes of files.

use rand::{Rng, RngExt, rngs::StdRng, seq::IndexedRandom};

/// Numbers at the borders of what fields hold, and numbers that have a meaning in TIFF.
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

/// Changes a file of binary numbers in one way.
pub fn change_numbers(bytes: &mut Vec<u8>, other: &[u8], rng: &mut StdRng) {
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
}

/// Changes a text in some ways: bytes, parts, and `pieces` that matter to its reader.
pub fn change_text(input: &mut Vec<u8>, other: &[u8], pieces: &[&[u8]], rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=input.len());
        match rng.random_range(0..6) {
            0 => input.truncate(at),
            1 if at < input.len() => input[at] = rng.next_u32() as u8,
            2 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            3 => {
                let piece = pieces.choose(rng).expect("there are pieces");
                input.splice(at..at, piece.iter().copied());
            }
            4 => {
                let end = rng.random_range(at..=input.len());
                let piece = input[at..end].repeat(rng.random_range(0..4));
                input.splice(at..end, piece);
            }
            _ => {
                input.splice(at.., other.iter().copied());
            }
        }
    }
}
