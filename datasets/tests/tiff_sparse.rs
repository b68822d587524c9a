//! A stack of 4 GiB, read at random, in a process that stays small.

#![cfg(feature = "tiff")]
#![cfg(target_os = "linux")]

mod stacks;

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use burn_memopt_datasets::tiff::{FrameSource, TiffStack};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use stacks::{Format, Gray, directories, imagej_head};

/// 128 KiB each: 4 GiB.
const NUM_PAGES: u64 = 32_768;
const MAX_GROWTH_KIB: u64 = 32 << 10;

/// A number of KiB from the process' status.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap().trim_start_matches(':').trim();
    number.trim_end_matches(" kB").parse().unwrap()
}

/// A thousand pages at random places, always the same.
fn pages_to_read() -> Vec<u64> {
    let mut rng = StdRng::seed_from_u64(7);
    (0..1000).map(|_| rng.random_range(0..NUM_PAGES)).collect()
}

/// Writes head and directories, and the first pixel of the pages to be read; the rest is holes.
fn write(path: &Path, head: &[u8], data: u64, gray: Gray, tail: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(head).unwrap();
    for page in pages_to_read() {
        file.seek(SeekFrom::Start(data + page * gray.page_bytes()))
            .unwrap();
        file.write_all(&(page as u16).to_le_bytes()).unwrap();
    }
    let end = data + NUM_PAGES * gray.page_bytes();
    file.set_len(end).unwrap();
    file.seek(SeekFrom::Start(end)).unwrap();
    file.write_all(tail).unwrap();
}

fn read_at_random(path: &Path) {
    assert!(path.metadata().unwrap().len() > 4 << 30);
    let before = status("VmRSS");
    let stack = TiffStack::open(path).unwrap();
    assert_eq!(stack.num_frames() as u64, NUM_PAGES);
    for index in pages_to_read() {
        let page = stack.page(index as usize).unwrap();
        assert!(page.is_mapped());
        let samples = page.as_slice::<u16>().unwrap();
        let sum: u64 = samples.iter().map(|&sample| u64::from(sample)).sum();
        assert_eq!(sum, index);
    }
    // The peak is that of the whole life of the process, and so never too low.
    let growth = status("VmHWM").saturating_sub(before);
    assert!(growth <= MAX_GROWTH_KIB, "the process grew by {growth} KiB");
}

#[test]
fn a_thousand_random_frames_of_4_gib_cost_less_than_32_mib() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.tif");
    let gray = Gray::u16(256, 256);

    let (head, data) = imagej_head(
        Format {
            big_endian: false,
            big_tiff: false,
        },
        gray,
        NUM_PAGES,
    );
    write(&path, &head, data, gray, &[]);
    read_at_random(&path);

    let format = Format {
        big_endian: false,
        big_tiff: true,
    };
    let end = 16 + NUM_PAGES * gray.page_bytes();
    let tail = directories(format, gray, NUM_PAGES, 16, end);
    write(&path, &format.header(end), 16, gray, &tail);
    read_at_random(&path);
}
