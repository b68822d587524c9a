//! `infer` as a user meets it: a network trained for a few steps, then one process a run.

mod exact;
mod files;
mod interrupting;
mod killing;
#[cfg(unix)]
#[path = "../kills/mod.rs"]
mod kills;
mod memory;
mod plain;
mod quantize;
mod refusals;
#[path = "../train/runner.rs"]
#[allow(dead_code, reason = "shared with the tests of train")]
mod runner;
mod settings;

use std::path::Path;
use std::process::Command;

use burn_memopt_datasets::tiff::{FrameSource, TiffStack, TiffStackWriter};
use runner::{Run, Workplace};

/// A command line of `infer unet` for a machine.
fn command(args: &[&str]) -> Command {
    plain_command(&[&["--json"], args].concat())
}

/// A command line of `infer unet` for people.
fn plain_command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command
        .args(["infer", "unet"])
        .args(args)
        .env("BURN_DEVICE", "flex")
        .env("XDG_RUNTIME_DIR", std::env::temp_dir())
        .env_remove("BURN_MEMOPT_DEVICE");
    command
}

/// Runs the model `model` of the workplace on `input`.
fn infer(place: &Workplace, model: &str, input: &str, output: &str, args: &[&str]) -> Run {
    let [model, input, output] = [model, input, output].map(|name| place.arg(name));
    let files = ["--model", &model, "--input", &input, "--output", &output];
    Run::new(&mut command(&[&files, args].concat()))
}

/// A network that counts in frames, trained for two steps, in the folder `model`.
fn counting(args: &[&str]) -> Workplace {
    let place = Workplace::new();
    place
        .train("model", &[&["--steps", "2"], args].concat())
        .succeeded();
    place
}

/// A network that finds watermarks in images, with images in `model/data/images`.
fn masking() -> Workplace {
    let place = Workplace::of("watermark");
    let args = ["--num-images", "4", "--image-size", "40", "--steps", "2"];
    place.train("model", &args).succeeded();
    place
}

/// Writes a stack of noise.
fn write_stack(path: &Path, num_pages: usize, height: usize, width: usize) {
    let mut writer = TiffStackWriter::create(path, height, width).expect("a file");
    for page in 0..num_pages {
        let noise = |at: usize| ((at * 7919 + page * 104_729) % 251) as u16 + 100;
        let pixels: Vec<u16> = (0..height * width).map(noise).collect();
        writer.write_frame(&pixels).expect("room on the disk");
    }
    writer.finish().expect("room on the disk");
}

/// All pages of a stack, one behind the other.
fn read_stack(path: &Path) -> Vec<f32> {
    let stack = TiffStack::open_checked(path).expect("a stack");
    let page = |index| stack.frame(index).expect("a page").pixels;
    (0..stack.num_frames()).flat_map(page).collect()
}

/// The only event of a kind.
#[track_caller]
fn event<'a>(run: &'a Run, kind: &str) -> &'a serde_json::Value {
    let mut events = run.events.iter().filter(|event| event["event"] == kind);
    let event = events.next().expect("an event of this kind");
    assert!(events.next().is_none(), "more than one {kind}");
    event
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    let farthest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(farthest <= tolerance, "{farthest} apart");
}
