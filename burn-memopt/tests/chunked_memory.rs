//! What chunked inference holds in memory, counted.

use std::ops::{ControlFlow, Range};

use burn::tensor::{Device, Tensor};
use burn_memopt::chunked::{
    Accumulator, BoxError, ExactTiles, ImageSource, RowSink, SlidingWindow, measure_window,
};
use burn_memopt::memory::{Bytes, CountingAllocator, PeakMeter};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// An image that is made when it is asked for, `[height, width]`.
struct Made([usize; 2]);

impl ImageSource for Made {
    fn dims(&self) -> [usize; 4] {
        [1, 1, self.0[0], self.0[1]]
    }

    fn read(
        &self,
        _image: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor<4>, BoxError> {
        Ok(Tensor::ones(
            [1, 1, rows.len(), columns.len()],
            &Device::flex(),
        ))
    }
}

/// Counts pixels and forgets them.
struct Counted(usize);

impl RowSink for Counted {
    fn begin(&mut self, _dims: [usize; 4]) -> Result<usize, BoxError> {
        Ok(0)
    }

    fn write(&mut self, _rows: Range<usize>, pixels: &[f32]) -> Result<(), BoxError> {
        self.0 += pixels.len();
        Ok(())
    }
}

fn peak_of(run: impl FnOnce()) -> u64 {
    let meter = PeakMeter::start(&Device::flex());
    run();
    let peak = meter.finish().peak;
    peak.expect("the allocator is installed").get()
}

/// Bytes of windows of 256×256 over an image.
fn windows(accumulator: Accumulator, size: [usize; 2]) -> u64 {
    let windows = SlidingWindow::new([256; 2]).with_accumulator(accumulator);
    let mut sink = Counted(0);
    let peak = peak_of(|| {
        let go_on = |_| ControlFlow::Continue(());
        windows
            .stream(&Made(size), [&mut sink], go_on, |windows| {
                Ok([windows.pixels * 2.0])
            })
            .unwrap();
    });
    assert_eq!(sink.0, size[0] * size[1]);
    peak
}

fn tiles(accumulator: Accumulator, size: [usize; 2]) -> u64 {
    let tiles = ExactTiles::with_halo([224; 2], 16, 16).with_accumulator(accumulator);
    let mut sink = Counted(0);
    let peak = peak_of(|| {
        let go_on = |_| ControlFlow::Continue(());
        tiles
            .stream(&Made(size), [&mut sink], go_on, |tiles| {
                Ok([tiles.pixels * 2.0])
            })
            .unwrap();
    });
    assert_eq!(sink.0, size[0] * size[1]);
    peak
}

// One test, as the counts are the process's.
#[test]
fn memory_does_not_grow_with_an_image_whose_sums_are_in_a_file() {
    let file = || Accumulator::File(std::env::temp_dir());
    let [small, tall, wide] = [[512, 512], [6000, 512], [512, 6000]];
    windows(file(), small);
    for run in [windows, tiles] {
        let least = run(file(), small);
        assert!(least > 256 * 256 * 4, "{least}");
        for size in [tall, wide] {
            let peak = run(file(), size);
            assert!(peak as f64 <= 1.05 * least as f64, "{peak} after {least}");
        }
        // In memory they are of the height of a window and the width of the image.
        let in_memory = run(Accumulator::Host, wide);
        assert!(in_memory > least + 6000 * 200 * 4, "{in_memory}");
        let tall_in_memory = run(Accumulator::Host, tall) as f64;
        assert!(tall_in_memory <= 1.05 * run(Accumulator::Host, small) as f64);
    }

    // What was calibrated on small windows holds for a larger one.
    let device = Device::flex();
    let model = |window: Tensor<4>| (window * 2.0 + 1.0).exp();
    let cost = measure_window([2, 3], [64, 128], &device, model);
    let cost = cost.expect("the allocator is installed");
    let budget = Bytes::mib(40);
    let window = cost.largest(budget, 0.8, [2000, 3000], 16).unwrap();
    let [height, width] = window;
    let peak = peak_of(|| {
        model(Tensor::zeros([2, 3, height, width], &device)).into_data();
    });
    let predicted = cost.bytes(window).get() as f64;
    assert!(
        (0.9..1.1).contains(&(peak as f64 / predicted)),
        "{peak} of {predicted}"
    );
    assert!(peak <= budget.get() && peak * 2 > budget.get(), "{peak}");
}
