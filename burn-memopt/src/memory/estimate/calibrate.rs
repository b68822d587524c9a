use burn::tensor::Device;

use super::{PeakFit, Workload};
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
