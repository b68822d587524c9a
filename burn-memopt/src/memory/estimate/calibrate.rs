use std::fmt;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::PeakFit;
use crate::chunked::BoxError;
use crate::grad_checkpoint::UnmeasuredError;
use crate::memory::{Bytes, PeakMeter, PeakMethod, PeakReading};

/// A step could not be measured.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum CalibrateError {
    /// The device's memory cannot be measured.
    #[error(transparent)]
    Unmeasured(#[from] UnmeasuredError),
    /// The step failed.
    #[error("the step to be measured failed")]
    Step(#[source] BoxError),
}

/// Runs a step twice and tells the peak of the second run, above what was live before it.
///
/// The first run warms up: it draws parameters, makes the optimizer's state and the buffers of the
/// threads. Where peaks are [sampled](PeakMethod::Sampled), which finds less at one time and more at
/// another, two more runs follow and the highest counts. `step` may [`sample`](PeakMeter::sample)
/// between its forward and its backward pass, which helps where peaks are sampled.
///
/// # Errors
/// If the step fails, or the device's memory cannot be measured.
pub fn peak_of_step(
    device: &Device,
    mut step: impl FnMut(&PeakMeter) -> Result<(), BoxError>,
) -> Result<Bytes, CalibrateError> {
    let mut run = || -> Result<PeakReading, CalibrateError> {
        wait_for(device)?;
        let meter = PeakMeter::start(device);
        step(&meter).map_err(CalibrateError::Step)?;
        wait_for(device)?;
        Ok(meter.finish())
    };
    run()?;
    let reading = run()?;
    let mut peak = reading.peak;
    if reading.method == PeakMethod::Sampled {
        for _ in 0..2 {
            peak = peak.max(run()?.peak);
        }
    }
    Ok(peak.ok_or_else(|| UnmeasuredError::new(device))?)
}

/// Measures the peak of a step on some workloads and fits it.
///
/// `prepare` makes the step of a workload with its inputs, which count only if the step itself
/// makes them. Two small workloads do for images, three for sequences of several lengths: see
/// [`Workload::calibration`].
///
/// # Errors
/// As [`peak_of_step`].
///
/// # Panics
/// If the workloads are too few, as [`PeakFit::new`]; nothing has run then.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn::nn::conv::Conv2dConfig;
/// use burn_memopt::memory::estimate::{Workload, calibrate};
/// use burn_memopt::memory::{Bytes, CountingAllocator};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
///
/// # fn main() -> Result<(), burn_memopt::memory::estimate::CalibrateError> {
/// let device = Device::flex().autodiff();
/// let conv = Conv2dConfig::new([1, 8], [3, 3]).init(&device);
/// let workloads = Workload::new(2, [256, 256]).calibration(16, 16);
/// let fit = calibrate(&device, &workloads, |Workload { batch_size, size: [h, w] }| {
///     let x = Tensor::<4>::random([batch_size, 1, h, w], Distribution::Default, &device);
///     let conv = &conv;
///     move |meter: &_| {
///         let loss = conv.forward(x.clone()).square().mean();
///         meter.sample();
///         loss.backward();
///         Ok(())
///     }
/// })?;
/// // At least the output, eight channels of f32.
/// assert!(fit.at(Workload::new(2, [256, 256])) > Bytes::mib(4));
/// # Ok(())
/// # }
/// ```
pub fn calibrate<S>(
    device: &Device,
    workloads: &[Workload],
    mut prepare: impl FnMut(Workload) -> S,
) -> Result<PeakFit, CalibrateError>
where
    S: FnMut(&PeakMeter) -> Result<(), BoxError>,
{
    // Too few are refused here, before they cost anything.
    PeakFit::new(workloads.iter().map(|&workload| (workload, Bytes::ZERO)));
    let run = |&workload: &Workload| Ok((workload, peak_of_step(device, prepare(workload))?));
    let runs: Result<Vec<_>, CalibrateError> = workloads.iter().map(run).collect();
    Ok(PeakFit::new(runs?))
}

/// Waits until the device has done what it was given.
fn wait_for(device: &Device) -> Result<(), CalibrateError> {
    device
        .sync()
        .map_err(|error| CalibrateError::Step(Box::new(error)))
}

/// What a step runs on: how many images and their size in pixels, or how many
/// [sequences](Self::sequences) and their length.
///
/// For other inputs take what grows with them: the frames of a video as the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Images in one pass.
    pub batch_size: usize,
    /// Height and width of an image; `[1, len]` for sequences.
    pub size: [usize; 2],
}

/// The shares of a side that are calibrated on, in eighths.
const EIGHTHS_OF_IMAGES: [usize; 2] = [2, 4];
/// The same of a sequence, whose quadratic growth needs three.
const EIGHTHS_OF_SEQUENCES: [usize; 3] = [1, 2, 4];
/// Images of the largest batch that is calibrated on.
const CALIBRATION_BATCH: usize = 8;

impl Workload {
    /// `batch_size` images of `size`, height and width.
    pub const fn new(batch_size: usize, size: [usize; 2]) -> Self {
        Self { batch_size, size }
    }

    /// `batch_size` sequences of `len` tokens, such as texts. What a step takes may grow with the
    /// square of their length, as attention does.
    pub const fn sequences(batch_size: usize, len: usize) -> Self {
        Self::new(batch_size, [1, len])
    }

    /// Whether this is sequences: an image one pixel high counts as one.
    pub const fn is_sequences(&self) -> bool {
        self.size[0] == 1
    }

    /// Pixels of all images together, or tokens of all sequences.
    pub fn pixels(&self) -> u64 {
        let [height, width] = self.size.map(|side| side as u64);
        self.batch_size as u64 * height * width
    }

    /// Smaller workloads to calibrate on, at most eight items each: images with a fourth and half
    /// of the sides, sequences of an eighth, a fourth and half of the length. One and two whole items
    /// where those would be shorter than `least`.
    ///
    /// Sides and lengths are multiples of `multiple`. The batch stays while it is small: how many
    /// buffers the threads of a CPU have depends on it.
    ///
    /// # Panics
    /// If `multiple` is zero.
    pub fn calibration(&self, least: usize, multiple: usize) -> Vec<Self> {
        assert!(multiple > 0, "multiple must be at least 1, got 0");
        let batch_size = self.batch_size.clamp(1, CALIBRATION_BATCH);
        let part = |&eighths: &usize| {
            let side = |side: usize| (side * eighths / 8).next_multiple_of(multiple);
            let [height, width] = self.size;
            if self.is_sequences() {
                return Self::sequences(batch_size, side(width));
            }
            Self::new(batch_size, [side(height), side(width)])
        };
        let eighths: &[usize] = if self.is_sequences() {
            &EIGHTHS_OF_SEQUENCES
        } else {
            &EIGHTHS_OF_IMAGES
        };
        let parts: Vec<_> = eighths.iter().map(part).collect();
        let [height, width] = parts[0].size;
        let long_enough = width >= least && (self.is_sequences() || height >= least);
        if long_enough && parts.is_sorted_by(|less, more| less.pixels() < more.pixels()) {
            return parts;
        }
        [1, 2]
            .map(|batch_size| Self::new(batch_size, self.size))
            .into()
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [height, width] = self.size;
        if self.is_sequences() {
            return write!(f, "{}×{width}", self.batch_size);
        }
        write!(f, "{}×{height}×{width}", self.batch_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_is_smaller_where_images_are_large_enough() {
        let large = Workload::new(8, [256, 192]);
        assert_eq!(
            large.calibration(32, 16),
            [Workload::new(8, [64, 48]), Workload::new(8, [128, 96])]
        );
        let small = Workload::new(1, [32, 32]);
        assert_eq!(
            small.calibration(16, 8),
            [Workload::new(1, [32, 32]), Workload::new(2, [32, 32])]
        );
    }

    #[test]
    fn sequences_are_calibrated_on_three_lengths_or_on_their_own() {
        let long = Workload::sequences(4, 512);
        let lens = [64, 128, 256].map(|len| Workload::sequences(4, len));
        assert_eq!(long.calibration(32, 1), lens);
        let short = Workload::sequences(4, 64);
        let whole = [1, 2].map(|batch_size| Workload::sequences(batch_size, 64));
        assert_eq!(short.calibration(32, 1), whole);
        // An eighth and a fourth are one length.
        assert_eq!(short.calibration(1, 16), whole);
    }
}
