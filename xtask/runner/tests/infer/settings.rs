//! Settings from a file.

use std::fs;

use crate::{counting, event, infer, write_stack};

#[test]
fn several_devices_give_what_one_gives() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 3, 50, 40);
    for (name, flags) in [
        ("windows", &["--chunk-size", "20", "--batch-size", "2"][..]),
        ("pages", &["--chunk-size", "64"]),
    ] {
        let output = |devices: &str| {
            let file = format!("{name}-{devices}.tif");
            let args = [flags, &["--devices", devices]].concat();
            infer(&place, "model", "in.tif", &file, &args).succeeded();
            fs::read(place.path(&file)).expect("the result")
        };
        let one = output("flex");
        assert_eq!(output("flex,flex"), one, "{name}");
        assert_eq!(output("flex,flex,flex"), one, "{name}");
    }
}

#[test]
fn flags_win_over_a_file_and_its_keys_are_checked() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 1, 50, 50);
    let config = place.arg("infer.toml");
    let write = |text: &str| fs::write(place.path("infer.toml"), text).expect("settings");
    let run = |args: &[&str]| {
        let args = [&["--config", &config], args].concat();
        infer(&place, "model", "in.tif", "out.tif", &args)
    };
    write("chunk_size = 20\nauto_batch_size = true\nmax_batch_size = 4\n");
    let ran = run(&[]).succeeded();
    assert_eq!(event(&ran, "file")["window"], serde_json::json!([20, 20]));
    let ran = run(&["--chunk-size", "30", "--batch-size", "2"]).succeeded();
    assert_eq!(event(&ran, "file")["window"], serde_json::json!([30, 30]));
    write("chunk_size = \"auto\"\nexact = false\n");
    run(&[]).succeeded();

    write("chunksize = 20\n");
    run(&[]).failed(2, &["chunksize", "infer.toml", "chunk_size"]);
    write("overlap = 1.5\n");
    run(&[]).failed(2, &["overlap in", "infer.toml", "below 1"]);
    write("chunk_size = \"large\"\n");
    run(&[]).failed(2, &["infer.toml", "large"]);
}
