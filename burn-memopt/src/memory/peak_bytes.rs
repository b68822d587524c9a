use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::Device;
use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};

use super::{Bytes, PeakMeter, PeakMethod};

/// Peak memory as a quantity that [criterion](https://docs.rs/criterion) measures.
///
/// A benchmark gives the highest live bytes of one iteration above those live before it, with all that
/// criterion has: samples, groups, `--save-baseline` and `--baseline`. What the iteration returns counts
/// as live, so a training step that returns its gradients includes them. Criterion prints `time:` before
/// any measurement, and here a number of bytes behind it.
///
/// A peak does not add up over iterations, so each one must be measured alone. Use
/// `iter_batched` with `BatchSize::PerIteration`, as in the example. `iter` measures many iterations at
/// once and divides the peak of all of them by their number, which is too small.
///
/// # Exactness
/// That of [`PeakMeter`]: exact on the CPU in a program that installs the
/// [`CountingAllocator`](super::CountingAllocator), a lower bound on devices with memory pools (wgpu,
/// CUDA). What criterion gets is larger by a fraction of a byte, so that no two samples are equal. Measure
/// time with another `Criterion`, without this measurement: readings of a GPU's pools slow a step down.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::prelude::*;
/// use burn_memopt::memory::{CountingAllocator, PeakBytes};
/// use criterion::{BatchSize, Criterion};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
///
/// /// A model of your own, and a training step of it.
/// fn step(model: &[Linear], x: Tensor<2>) -> burn::tensor::Gradients {
///     let y = model.iter().fold(x, |x, layer| layer.forward(x).tanh());
///     y.square().mean().backward()
/// }
///
/// fn memory(criterion: &mut Criterion<PeakBytes>) {
///     let device = Device::flex().autodiff();
///     let model: Vec<_> = (0..4).map(|_| LinearConfig::new(16, 16).init(&device)).collect();
///     let x = Tensor::ones([64, 16], &device);
///     criterion.bench_function("four layers", |bencher| {
///         bencher.iter_batched(|| x.clone(), |x| step(&model, x), BatchSize::PerIteration);
///     });
/// }
///
/// # fn main() {
/// let measurement = PeakBytes::new(&Device::flex());
/// let mut criterion = Criterion::default().with_measurement(measurement);
/// # let mut criterion = criterion
/// #     .output_directory(&std::env::temp_dir().join("burn-memopt-peak-bytes"))
/// #     .without_plots()
/// #     .sample_size(10)
/// #     .warm_up_time(std::time::Duration::from_millis(1))
/// #     .measurement_time(std::time::Duration::from_millis(1));
/// memory(&mut criterion); // in a benchmark: after `configure_from_args()`
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PeakBytes {
    device: Device,
}

impl PeakBytes {
    /// Measures the memory of `device`.
    ///
    /// # Panics
    /// If that memory is unknown: on the CPU where the program does not install the
    /// [`CountingAllocator`](super::CountingAllocator).
    pub fn new(device: &Device) -> Self {
        let method = PeakMeter::start(device).finish().method;
        assert_ne!(
            method,
            PeakMethod::Unknown,
            "the memory of {device:?} must be known, got a device that does not report it; on the CPU, \
             install `CountingAllocator` as the `#[global_allocator]`"
        );
        Self {
            device: device.clone(),
        }
    }
}

impl Measurement for PeakBytes {
    type Intermediate = PeakMeter;
    type Value = u64;

    fn start(&self) -> PeakMeter {
        PeakMeter::start(&self.device)
    }

    fn end(&self, meter: PeakMeter) -> u64 {
        let peak = meter.finish().peak;
        peak.expect("invariant: `new` has tried the device").get()
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    /// The bytes, and a fraction of one that differs from call to call.
    ///
    /// Peaks on the CPU are the same every time. Criterion 0.8 divides by the spread of the samples, and
    /// panics in its plot of a comparison where there is none.
    fn to_f64(&self, value: &u64) -> f64 {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
        let call = CALLS.fetch_add(1, Ordering::Relaxed) as f64;
        *value as f64 + (call * GOLDEN_RATIO).fract()
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &BinaryUnits
    }
}

/// Shows bytes in the largest binary unit that leaves a number above one.
struct BinaryUnits;

impl BinaryUnits {
    /// Divides all values by the unit that suits `typical`.
    fn scale(typical: f64, values: &mut [f64], units: [&'static str; 4]) -> &'static str {
        let power = [Bytes::kib(1), Bytes::mib(1), Bytes::gib(1)]
            .iter()
            .filter(|unit| typical >= unit.get() as f64)
            .count();
        for value in values {
            *value /= 1024_f64.powi(power as i32);
        }
        units[power]
    }
}

impl ValueFormatter for BinaryUnits {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        Self::scale(typical, values, ["B", "KiB", "MiB", "GiB"])
    }

    /// Bytes for each element, byte or bit of the workload.
    fn scale_throughputs(
        &self,
        typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let (Throughput::Elements(count)
        | Throughput::ElementsAndBytes {
            elements: count, ..
        }
        | Throughput::Bytes(count)
        | Throughput::BytesDecimal(count)
        | Throughput::Bits(count)) = *throughput;
        let count = count.max(1) as f64;
        values.iter_mut().for_each(|value| *value /= count);
        Self::scale(
            typical / count,
            values,
            ["B/elem", "KiB/elem", "MiB/elem", "GiB/elem"],
        )
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "B"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_shown_in_a_unit_that_suits_them_and_for_each_element() {
        let units = BinaryUnits;
        assert!(units.format_value(1536.0).ends_with("KiB"));
        assert_eq!(
            units.format_value(1.5 * 1024.0 * 1024.0).trim(),
            "1.5000 MiB"
        );
        let per_image = units.format_throughput(&Throughput::Elements(4), 8.0 * 1024.0);
        assert_eq!(per_image.trim(), "2.0000 KiB/elem");
    }

    #[test]
    #[should_panic(expected = "install `CountingAllocator`")]
    fn memory_that_nobody_counts_is_refused() {
        PeakBytes::new(&Device::flex());
    }
}
