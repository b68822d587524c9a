//! Seconds to cut an image into windows and to blend them, without a model, as JSON lines: our side of
//! `benches/monai_sliding_window.py`.

use std::time::Instant;

use burn_memopt::chunked::{Blend, ChunkedError};
use burn_memopt_benches::CopiedImage;

const ROUNDS: usize = 7;

fn main() -> Result<(), ChunkedError> {
    let image = CopiedImage::new(3);
    for (case, blend) in [("constant", Blend::Constant), ("gaussian", Blend::GAUSSIAN)] {
        let mut fastest = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            drop(image.window_by_window(&blend)?);
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        let deviation = image.deviation(&blend)?;
        println!("{{\"case\": \"{case}\", \"seconds\": {fastest}, \"deviation\": {deviation:e}}}");
    }
    Ok(())
}
