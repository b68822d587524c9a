//! Windows and batches that memory has room for.

use crate::{assert_close, counting, event, infer, read_stack, write_stack};

#[test]
fn a_budget_is_kept_by_smaller_windows() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 1, 800, 700);
    let peak = |args: &[&str]| {
        let run = infer(&place, "model", "in.tif", "out.tif", args).succeeded();
        let number = |key: &str| run.summary()[key].as_u64().expect("counted on the host");
        (number("peak_bytes"), number("windows"))
    };
    let (whole, num_windows) = peak(&[]);
    assert_eq!(num_windows, 1);
    assert!(whole > 30 << 20, "{whole} bytes");
    for (budget, bytes) in [("8MiB", 8 << 20), ("24MiB", 24 << 20)] {
        let (peak, num_windows) = peak(&["--budget", budget]);
        assert!(peak <= bytes, "{peak} bytes for {budget}");
        // What there is, is used.
        assert!(peak > bytes / 2, "{peak} bytes for {budget}");
        assert!(num_windows > 1);
    }
    let args = [
        "--budget",
        "8MiB",
        "--chunk-size",
        "64",
        "--auto-batch-size",
    ];
    let (peak, _) = peak(&args);
    assert!(peak <= 8 << 20, "{peak} bytes");

    let words = ["64×64", "needs a --budget of", "got 100.0 KiB"];
    infer(&place, "model", "in.tif", "no.tif", &["--budget", "100KiB"]).failed(1, &words);
    let args = ["--budget", "8MiB", "--chunk-size", "700"];
    infer(&place, "model", "in.tif", "no.tif", &args).failed(1, &["700×700", "got 8.0 MiB"]);
    assert!(!place.path("no.tif").exists());
}

#[test]
fn batches_grow_within_their_bounds_and_change_nothing() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 150, 16, 16);
    infer(&place, "model", "in.tif", "single.tif", &[]).succeeded();
    let args = [
        "--auto-batch-size",
        "--min-batch-size",
        "2",
        "--max-batch-size",
        "16",
    ];
    let run = infer(&place, "model", "in.tif", "out.tif", &args).succeeded();
    let batch = &run.summary()["batch"];
    assert_eq!(batch["num_items"], 150);
    assert_eq!(batch["largest_batch"], 16, "{batch}");
    let [single, batches] = ["single.tif", "out.tif"].map(|name| read_stack(&place.path(name)));
    assert_close(&batches, &single, 1e-5);
    assert_eq!(event(&run, "done")["windows_run"], 150);
}

#[test]
fn memory_that_suffices_for_no_batch_is_told_with_what_to_do() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 30, 16, 16);
    let args = [
        "--auto-batch-size",
        "--memory-threshold",
        "1e-9",
        "--chunk-size",
        "16",
    ];
    let words = ["memory does not suffice", "batches of", "--chunk-size"];
    let run = infer(&place, "model", "in.tif", "out.tif", &args).failed(1, &words);
    assert!(run.events.iter().all(|event| event["event"] != "done"));
}
