use burn::tensor::Device;
use burn_memopt::memory::{Bytes, PeakMeter};
use criterion::{
    Throughput,
    measurement::{Measurement, ValueFormatter},
};

/// Peak memory as a quantity that criterion measures.
///
/// A peak neither adds up over iterations nor divides by their number: measure
/// with `iter_custom` and return the *sum* of the peaks of single iterations,
/// which criterion then divides again.
#[derive(Debug, Clone)]
pub struct PeakBytes {
    device: Device,
}

impl PeakBytes {
    /// Measures the memory of a device.
    pub fn new(device: Device) -> Self {
        Self { device }
    }

    /// The peak of one iteration; zero, which criterion shows as such, where the
    /// device does not report its memory.
    pub fn of<T>(&self, iteration: impl FnOnce() -> T) -> u64 {
        let meter = PeakMeter::start(&self.device);
        let result = iteration();
        let reading = meter.finish();
        drop(result);
        reading.peak.map_or(0, Bytes::get)
    }
}

impl Measurement for PeakBytes {
    type Intermediate = PeakMeter;
    type Value = u64;

    fn start(&self) -> PeakMeter {
        PeakMeter::start(&self.device)
    }

    fn end(&self, meter: PeakMeter) -> u64 {
        meter.finish().peak.map_or(0, Bytes::get)
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &MebiBytes
    }
}

struct MebiBytes;

impl ValueFormatter for MebiBytes {
    fn scale_values(&self, _typical: f64, values: &mut [f64]) -> &'static str {
        for value in values {
            *value /= 1024.0 * 1024.0;
        }
        "MiB"
    }

    fn scale_throughputs(&self, _: f64, _: &Throughput, values: &mut [f64]) -> &'static str {
        self.scale_values(0.0, values)
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "B"
    }
}
