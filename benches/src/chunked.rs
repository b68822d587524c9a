//! Chunked inference: memory that does not grow with the image, and what windows cost in addition to the model.

use std::{fs, hint::black_box, ops::ControlFlow, path::Path};

use burn::{
    module::Module,
    tensor::{Device, Distribution, Tensor},
};
use burn_memopt::chunked::{
    Accumulator, Blend, BoxError, ChunkedError, ExactReport, ExactTiles, HostImage, NpySink,
    NpySource, Reach, RowSink, SlidingWindow, TensorSink,
};
use burn_memopt_models::unet::{UNet, UNetConfig};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::bench::{Bench, Runs};

/// Height and width of a window in pixels.
const WINDOW: usize = 256;
/// Height and width of the image that is copied window by window.
const COPIED: usize = 2048;
/// Rows that are made at once when an image is written.
const ROWS: usize = 64;

fn windows() -> SlidingWindow {
    SlidingWindow::new([WINDOW; 2])
}

fn unet(base_channels: usize, depth: usize, device: &Device) -> UNet {
    UNetConfig::new(1, 1)
        .with_base_channels(base_channels)
        .with_depth(depth)
        .init(device)
        .valid()
}

/// A small U-Net from file to file over a square image.
pub(crate) fn flat<const SIDE: usize>(bench: &mut Bench) -> Result<(), BoxError> {
    let (side, device) = (SIDE, &bench.device.clone());
    let folder = tempfile::tempdir()?;
    let [image, result] = ["image.npy", "result.npy"].map(|name| folder.path().join(name));
    write_image(&image, side)?;
    let unet = unet(4, 2, device);
    let windows = windows()
        .with_blend(Blend::GAUSSIAN)
        .with_accumulator(Accumulator::File(folder.path().to_owned()));
    let run = |source: &Path| -> Result<(), BoxError> {
        let source = NpySource::open(source, device)?;
        let mut sink = NpySink::new(&result);
        let go_on = |_| ControlFlow::Continue(());
        windows.stream(&source, [&mut sink], go_on, |windows| {
            Ok([unet.forward(windows.pixels)])
        })?;
        Ok(sink.finish()?)
    };
    // What stays for ever, like the buffers of threads, is there after one window.
    let small = folder.path().join("small.npy");
    write_image(&small, WINDOW)?;
    run(&small)?;
    let num_windows = windows.num_windows([side; 2]);
    let runs = Runs {
        rounds: 1,
        ..Runs::on(device, &["chunked"], num_windows)
    };
    bench.runs(&runs, |_| run(&image))?;
    let len = fs::metadata(&result)?.len();
    if len < (side * side * size_of::<f32>()) as u64 {
        return Err(format!("the result must have all pixels, got {len} bytes").into());
    }
    Ok(())
}

/// Writes noise, a few rows at a time.
fn write_image(path: &Path, side: usize) -> Result<(), BoxError> {
    let mut sink = NpySink::new(path);
    sink.begin([1, 1, side, side])?;
    let mut rng = StdRng::seed_from_u64(0);
    let mut pixels = vec![0.0; ROWS * side];
    for row in (0..side).step_by(ROWS) {
        pixels.fill_with(|| rng.random::<f32>());
        sink.write(row..row + ROWS, &pixels)?;
    }
    Ok(sink.finish()?)
}

/// Windows that no model changes, against a copy of the image.
pub(crate) fn identity(bench: &mut Bench) -> Result<(), BoxError> {
    let image = CopiedImage::new(3);
    let runs = Runs::on_host(&["plain", "chunked"], image.num_windows());
    bench.runs(&runs, |variant| {
        if variant == 0 {
            image.copy();
        } else {
            drop(image.window_by_window(&Blend::Constant)?);
        }
        Ok(())
    })
}

/// A square image in host memory, and ways to copy it.
#[derive(Debug)]
pub struct CopiedImage {
    image: HostImage,
    pixels: Vec<f32>,
}

impl CopiedImage {
    /// Noise of 2048×2048 pixels.
    pub fn new(channels: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(0);
        let pixels: Vec<f32> = (0..channels * COPIED * COPIED)
            .map(|_| rng.random())
            .collect();
        let dims = [1, channels, COPIED, COPIED];
        Self {
            image: HostImage::new(pixels.clone(), dims, &Device::flex()),
            pixels,
        }
    }

    /// Windows of it.
    pub fn num_windows(&self) -> usize {
        windows().num_windows([COPIED; 2])
    }

    /// Copies it in one piece.
    pub fn copy(&self) {
        black_box(black_box(&self.pixels).clone());
    }

    /// Cuts it into windows of 256×256 that overlap by a quarter, and blends them.
    ///
    /// # Errors
    /// None but those of streams in general.
    pub fn window_by_window(&self, blend: &Blend) -> Result<Tensor<4>, ChunkedError> {
        let windows = windows().with_blend(blend.clone());
        let mut sink = TensorSink::new();
        let go_on = |_| ControlFlow::Continue(());
        windows.stream(&self.image, [&mut sink], go_on, |windows| {
            Ok([windows.pixels])
        })?;
        Ok(black_box(sink.into_tensor(&Device::flex())))
    }

    /// The largest difference that windows make.
    ///
    /// # Errors
    /// As [`window_by_window`](Self::window_by_window).
    pub fn deviation(&self, blend: &Blend) -> Result<f32, ChunkedError> {
        let copy = self.window_by_window(blend)?.into_data();
        let pairs = copy.iter::<f32>().zip(&self.pixels);
        Ok(pairs.fold(0.0, |most, (copy, pixel)| (copy - pixel).abs().max(most)))
    }
}

/// A U-Net on windows that were cut beforehand, on windows of an image, and windows without it.
pub(crate) fn overhead(bench: &mut Bench) -> Result<(), BoxError> {
    let (channels, depth, side, window) = bench.pick((16, 3, 640, WINDOW), (4, 2, 160, 64));
    let device = bench.device.clone();
    let unet = unet(channels, depth, &device);
    let image = Tensor::<4>::random([1, 1, side, side], Distribution::Default, &device);
    let windows = SlidingWindow::new([window; 2]);
    let mut cut = Vec::new();
    windows.infer(image.clone(), |window| {
        cut.push(window.clone());
        window
    });
    let runs = Runs::on_host(&["plain", "chunked", "identity"], cut.len());
    bench.runs(&runs, |variant| {
        let in_windows = |run: &dyn Fn(Tensor<4>) -> Tensor<4>| {
            black_box(windows.infer(image.clone(), run).into_data());
        };
        match variant {
            0 => cut.iter().for_each(|window| {
                black_box(unet.forward(window.clone()).into_data());
            }),
            1 => in_windows(&|window| unet.forward(window)),
            _ => in_windows(&|window| window),
        }
        Ok(())
    })
}

/// A U-Net on the whole image, on windows of it, and on exact tiles.
pub(crate) fn exact_tiles(bench: &mut Bench) -> Result<(), BoxError> {
    let (side, tile) = bench.pick((1024, 256), (256, 64));
    let device = bench.device.clone();
    let unet = unet(4, 2, &device);
    let image = Tensor::<4>::random([1, 1, side, side], Distribution::Default, &device);
    let windows = SlidingWindow::new([tile; 2]);
    let reach = Reach::measure([1, 96, 96], 4, &device, |x| unet.forward(x));
    let tiles = ExactTiles::new([tile; 2], &reach);
    let report = ExactReport::measure(&tiles, &unet, image.clone(), |unet, tiles| {
        unet.forward_tiles(tiles)
    });
    let runs = Runs {
        exact: Some(report.is_exact()),
        ..Runs::on(&device, &["plain", "exact", "windows"], 1)
    };
    bench.runs(&runs, |variant| {
        let image = image.clone();
        let result = match variant {
            0 => unet.forward(image),
            1 => {
                let [result] = tiles.infer_many(image, |tiles| [unet.forward_tiles(tiles)]);
                result
            }
            _ => windows.infer(image, |window| unet.forward(window)),
        };
        black_box(result.into_data());
        Ok(())
    })
}
