use std::fs;

use super::*;
use crate::memory::PeakMethod;

fn tracker() -> MemoryTracker {
    MemoryTracker::new(MemoryMonitor::new([]))
}

#[test]
fn the_table_has_a_line_for_every_sample_and_names_its_phase() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.csv");
    let mut tracker = tracker();
    tracker.sample(0);
    tracker.mark("training, \"fast\"");
    tracker.sample(1);
    tracker.write_csv(&path).unwrap();

    let table = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], CSV_HEADER.join(","));
    assert_eq!(lines.len(), 3);
    let first: Vec<&str> = lines[1].split(',').collect();
    assert_eq!(first.len(), CSV_HEADER.len());
    assert_eq!((first[1], first[2]), ("0", ""));
    assert!(
        first[3].parse::<u64>().unwrap() > 1 << 20,
        "resident memory of {}",
        first[3]
    );
    assert!(
        lines[2].contains(",1,\"training, \"\"fast\"\"\","),
        "{}",
        lines[2]
    );
}

#[test]
fn an_unknown_amount_is_an_empty_field() {
    let row = MemorySample {
        seconds: 1.5,
        step: 7,
        live: Some(Bytes::new(42)),
        ..MemorySample::default()
    };
    assert_eq!(csv_fields(&row).join(","), "1.500,7,,,42,,,,");
}

#[test]
fn an_unwritable_path_is_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("memory.csv");
    let mut tracker = tracker();
    tracker.sample(0);
    for error in [
        tracker.write_csv(&path).unwrap_err(),
        tracker.plot(&path).unwrap_err(),
    ] {
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        let source = std::error::Error::source(&error).expect("the reason is the source");
        assert!(
            !error.to_string().contains(&source.to_string()),
            "told twice: {error}"
        );
    }
}

#[test]
fn the_maxima_hold_the_highest_resident_memory() {
    let mut tracker = tracker();
    let rss = tracker.sample(0).process_rss.unwrap();
    assert!(tracker.maxima().process_rss.unwrap() >= rss);
    assert_eq!(tracker.maxima().device_in_use, None);
}

#[test]
fn a_metered_peak_of_no_device_is_left_out() {
    let mut tracker = tracker();
    tracker.sample_with_peak(
        0,
        &PeakReading {
            peak: Some(Bytes::mib(1)),
            baseline: Some(Bytes::ZERO),
            method: PeakMethod::Exact,
        },
    );
    assert_eq!(tracker.history()[0].device_peak, None);
}

#[test]
fn many_marks_are_thinned_and_the_last_one_holds() {
    let mut tracker = tracker();
    for phase in 0..3 * MAX_MARKS {
        tracker.mark(format!("phase {phase}"));
    }
    tracker.sample(0);
    assert!(tracker.marks.len() <= MAX_MARKS);
    assert!(tracker.marks.is_sorted_by(|a, b| a.seconds <= b.seconds));
    let last = format!("phase {}", 3 * MAX_MARKS - 1);
    assert_eq!(tracker.history()[0].phase.as_deref(), Some(last.as_str()));
}

#[test]
fn a_picture_of_a_run_is_a_png_of_the_stated_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.png");
    let mut tracker = tracker();
    tracker.mark("training");
    (0..5).for_each(|step| drop(tracker.sample(step)));
    tracker.plot(&path).unwrap();
    let picture = image::open(&path).unwrap();
    assert_eq!((picture.width(), picture.height()), (1200, 640));
}

#[test]
fn a_tracker_without_samples_writes_an_empty_table_and_an_empty_picture() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = tracker();
    tracker.write_csv(folder.path().join("memory.csv")).unwrap();
    tracker.plot(folder.path().join("memory.png")).unwrap();
    let table = fs::read_to_string(folder.path().join("memory.csv")).unwrap();
    assert_eq!(table.trim_end(), CSV_HEADER.join(","));
}
