//! Bytes that claim to be JSON Lines: indexed, and every record read and parsed.

#![no_main]

#[path = "../read_jsonl.rs"]
mod read_jsonl;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for max_offsets in [1, 3, 1 << 20] {
        read_jsonl::read(bytes, max_offsets);
    }
});
