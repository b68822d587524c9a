use burn::tensor::{Device, Tensor};

use super::WindowCost;
use crate::memory::{Bytes, PeakMeter};

/// Finds out what a window costs in memory by running a model on two small ones, each twice: what stays
/// for ever, like buffers of threads, is there after the first time.
///
/// `None` if the device does not tell its memory: host devices do in a program that installs the
/// [`CountingAllocator`](crate::memory::CountingAllocator).
///
/// # Shapes
/// - shape: `[windows, channels]`, as many windows as will run at once
/// - sides: of the two windows, multiples of the model's stride, the larger behind
///
/// # Exactness
/// As the [`PeakMeter`]: on a device with memory pools a lower bound, to be met with a smaller share in
/// [`WindowCost::largest`]. What grows faster than the pixels, as attention does, is underestimated.
///
/// # Panics
/// If the second side is not the larger.
///
/// # Example
/// ```
/// use burn::tensor::Device;
/// use burn_memopt::chunked::measure_window;
/// use burn_memopt::memory::{Bytes, CountingAllocator};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
///
/// # fn main() {
/// let cost = measure_window([1, 3], [64, 128], &Device::flex(), |window| window * 2.0);
/// let cost = cost.expect("the allocator is installed");
/// assert!(cost.bytes([256, 256]) >= Bytes::new(3 * 256 * 256 * 4));
/// let window = cost.largest(Bytes::mib(8), 0.8, [4000, 4000], 16);
/// assert!(window.is_some_and(|[height, width]| height == width && height > 200));
/// # }
/// ```
pub fn measure_window(
    shape: [usize; 2],
    sides: [usize; 2],
    device: &Device,
    mut model: impl FnMut(Tensor<4>) -> Tensor<4>,
) -> Option<WindowCost> {
    let mut peak = |side: usize| {
        let [windows, channels] = shape;
        let mut run = || {
            let pixels = Tensor::zeros([windows, channels, side, side], device);
            model(pixels).into_data()
        };
        run();
        let meter = PeakMeter::start(device);
        run();
        meter.finish().peak
    };
    let [small, large]: [Option<Bytes>; 2] = sides.map(&mut peak);
    let [pixels, more_pixels] = sides.map(|side| side * side);
    Some(WindowCost::through((pixels, small?), (more_pixels, large?)))
}
