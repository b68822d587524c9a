//! Frames a second of the TIFF reader on the stacks in a folder, as JSON: the half of
//! `benches/tifffile_access.py` that is ours.
//!
//! `tiff_access FOLDER write` writes the stacks, `tiff_access FOLDER` reads them.

use std::{hint::black_box, path::Path, time::Instant};

use burn_memopt::chunked::BoxError;
use burn_memopt_benches::{Order, TiffFiles, sum_of, visit_frames};
use burn_memopt_datasets::tiff::{FrameSource, TiffStack};

/// Passes over all frames; the fastest counts, on both sides.
const ROUNDS: usize = 7;

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [folder, "write"] => drop(TiffFiles::write(Path::new(folder), TiffFiles::NUM_FRAMES)?),
        [folder] => {
            let files = TiffFiles::in_folder(Path::new(folder));
            read("mapped", &files.contiguous)?;
            read("deflate", &files.deflate)?;
        }
        _ => return Err("usage: tiff_access FOLDER [write]".into()),
    }
    Ok(())
}

fn read(layout: &str, path: &Path) -> Result<(), BoxError> {
    for (order, name) in [(Order::Sequential, "sequential"), (Order::Random, "random")] {
        let stack = TiffStack::open(path)?;
        let mut sum = 0;
        visit_frames(&stack, order, |frame| sum += sum_of(frame))?;
        let mut place = vec![0; stack.height() * stack.width()];
        let mut fastest = f64::INFINITY;
        for _ in 0..ROUNDS {
            // Opened again, so that no pass finds what the last one left behind.
            let stack = TiffStack::open(path)?;
            let start = Instant::now();
            visit_frames(&stack, order, |frame| {
                black_box(&mut place).copy_from_slice(frame);
            })?;
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        let row = serde_json::json!({
            "case": format!("tiff_{layout}_{name}"),
            "frames_per_second": stack.num_frames() as f64 / fastest,
            "sum": sum,
        });
        println!("{row}");
    }
    Ok(())
}
