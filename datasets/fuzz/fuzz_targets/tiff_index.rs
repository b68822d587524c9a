//! Bytes that claim to be a TIFF stack: opened, and its first pages read.

#![no_main]

#[path = "../read_tiff.rs"]
mod read_tiff;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| read_tiff::read(bytes));
