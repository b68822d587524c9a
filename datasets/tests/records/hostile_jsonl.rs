//! JSON Lines larger than memory, with a line above the limit: no allocation beyond a stated limit, and
//! every record that is whole is still found.

use crate::allocations;
use std::{
    fs,
    io::{BufWriter, Write},
};

use burn::data::dataset::Dataset;
use burn_memopt_datasets::{
    jsonl::{JsonlConfig, JsonlDataset, JsonlStream},
    stream::StreamingDataset,
};

/// The largest single allocation of this thread while `run` runs.
fn largest_allocation(run: impl FnOnce()) -> usize {
    allocations::take();
    run();
    allocations::take().largest
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
