//! Random texts: names, signs and numbers that mean nothing.

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

const VOWELS: &[u8] = b"aeiou";
const CONSONANTS: &[u8] = b"bcdfghjklmnprstvwxz";
const SIGNS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ0123456789";

/// A made-up word, a sign as on products, a number, or any of them behind "©".
pub fn random(rng: &mut StdRng) -> String {
    let text = match rng.random_range(0..4) {
        0 => made_up(rng),
        1 => made_up(rng).to_uppercase(),
        2 => (0..rng.random_range(3..8))
            .map(|_| pick(SIGNS, rng))
            .collect(),
        _ => rng.random_range(100..100_000u32).to_string(),
    };
    match rng.random_bool(0.1) {
        true => format!("© {text}"),
        false => text,
    }
}

/// Two to four syllables, the first letter large.
fn made_up(rng: &mut StdRng) -> String {
    let mut word = String::from(pick(CONSONANTS, rng).to_ascii_uppercase());
    word.push(pick(VOWELS, rng));
    for _ in 0..rng.random_range(1..4) {
        word.extend([pick(CONSONANTS, rng), pick(VOWELS, rng)]);
    }
    word
}

fn pick(letters: &[u8], rng: &mut StdRng) -> char {
    letters.choose(rng).copied().map_or(' ', char::from)
}
