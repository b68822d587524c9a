use std::time::Instant;

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use burn_memopt::{
    chunked::BoxError,
    memory::{Bytes, PeakMeter, PeakMethod},
};

use crate::Row;

/// Times that variants of a [`Runs`] are measured.
const ROUNDS: usize = 5;

/// What a case measures itself with: on which device, how large, and who takes its variants.
pub struct Bench<'a> {
    /// The device, without autodiff.
    pub(crate) device: Device,
    /// How large the workload is.
    pub(crate) size: Size,
    output: Output<'a>,
}

/// How large a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// As in the table: an optimizer step takes seconds.
    Full,
    /// For criterion's many samples: a step takes milliseconds.
    Small,
}

/// Takes a variant: its name, and one iteration of it.
pub type Visit<'a> = dyn FnMut(&str, &mut dyn FnMut()) + 'a;

enum Output<'a> {
    Rows(Vec<Row>),
    Visit(&'a mut Visit<'a>),
}

/// One way to take a training step.
pub(crate) struct Variant<'a> {
    name: &'static str,
    predicted: Option<Bytes>,
    comparable: bool,
    step: Box<dyn Fn() -> GradientsParams + 'a>,
}

impl<'a> Variant<'a> {
    /// A variant whose gradients should equal those of the plain one.
    pub fn new(name: &'static str, step: impl Fn() -> GradientsParams + 'a) -> Self {
        Self {
            name,
            predicted: None,
            comparable: true,
            step: Box::new(step),
        }
    }

    /// Adds the peak that was predicted.
    pub fn with_prediction(mut self, peak: Bytes) -> Self {
        self.predicted = Some(peak);
        self
    }

    /// Says that the gradients are not those of the plain variant.
    pub fn with_other_gradients(mut self) -> Self {
        self.comparable = false;
        self
    }
}

/// Variants that are not training steps: epochs of loading, images, videos.
pub(crate) struct Runs<'a> {
    /// Names of the variants.
    pub names: &'a [&'static str],
    /// Items of a run.
    pub num_items: usize,
    /// Whose memory is measured.
    pub device: Device,
    /// Whether the techniques' results equal the plain one's.
    pub exact: Option<bool>,
    /// The bound on memory that was promised.
    pub predicted: Option<Bytes>,
    /// How often each variant runs.
    pub rounds: usize,
}

impl<'a> Runs<'a> {
    /// Runs on the CPU.
    pub fn on_host(names: &'a [&'static str], num_items: usize) -> Self {
        Self::on(&Device::flex(), names, num_items)
    }

    /// Runs on a device.
    pub fn on(device: &Device, names: &'a [&'static str], num_items: usize) -> Self {
        Self {
            names,
            num_items,
            device: device.clone(),
            exact: None,
            predicted: None,
            rounds: ROUNDS,
        }
    }
}

impl<'a> Bench<'a> {
    /// Measures the full workload on a device, for rows of a table.
    pub(crate) fn full(device: &Device) -> Self {
        Self {
            device: device.clone(),
            size: Size::Full,
            output: Output::Rows(Vec::new()),
        }
    }

    /// Measures the small workload for rows of a table.
    #[cfg(test)]
    pub(crate) fn small(device: &Device) -> Self {
        Self {
            size: Size::Small,
            ..Self::full(device)
        }
    }

    /// Shows variants of the small workload to `visit`.
    pub(crate) fn visiting(device: &Device, visit: &'a mut Visit<'a>) -> Self {
        Self {
            device: device.clone(),
            size: Size::Small,
            output: Output::Visit(visit),
        }
    }

    /// Returns `full` or `small`, by the size of the workload.
    pub(crate) fn pick<T>(&self, full: T, small: T) -> T {
        match self.size {
            Size::Full => full,
            Size::Small => small,
        }
    }

    /// The measured rows, none where variants were visited.
    pub(crate) fn into_rows(self) -> Vec<Row> {
        match self.output {
            Output::Rows(rows) => rows,
            Output::Visit(_) => Vec::new(),
        }
    }

    /// Adds a row that the case measured itself.
    pub(crate) fn push(&mut self, row: Row) {
        if let Output::Rows(rows) = &mut self.output {
            rows.push(row);
        }
    }

    /// Measures training steps in turn, so that a machine whose speed drifts slows all of them: one
    /// round to warm up (which counts if it is the only one), then `rounds` more. The first variant
    /// is the plain one.
    pub(crate) fn steps<M: Module>(&mut self, module: &M, rounds: usize, variants: &[Variant]) {
        burn_memopt::train::draw_parameters(module);
        match &mut self.output {
            Output::Rows(rows) => rows.extend(compare(module, &self.device, rounds, variants)),
            Output::Visit(visit) => {
                for variant in variants {
                    visit(variant.name, &mut || drop((variant.step)()));
                }
            }
        }
    }

    /// Measures variants of `runs` in turn. `run` gets the number of the variant, and has warmed up.
    ///
    /// # Errors
    /// The first of `run`.
    pub(crate) fn runs(
        &mut self,
        runs: &Runs,
        mut run: impl FnMut(usize) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let rows = match &mut self.output {
            Output::Rows(rows) => rows,
            Output::Visit(visit) => {
                let mut result = Ok(());
                for (variant, name) in runs.names.iter().enumerate() {
                    visit(name, &mut || {
                        if result.is_ok() {
                            result = run(variant);
                        }
                    });
                }
                return result;
            }
        };
        let mut measured = vec![(None, Vec::new()); runs.names.len()];
        for _ in 0..runs.rounds {
            for (variant, (peak, seconds)) in measured.iter_mut().enumerate() {
                let meter = PeakMeter::start(&runs.device);
                let start = Instant::now();
                run(variant)?;
                seconds.push(start.elapsed().as_secs_f64());
                *peak = (*peak).max(meter.finish().peak);
            }
        }
        for (name, (peak, seconds)) in runs.names.iter().zip(measured) {
            let seconds = median(seconds);
            rows.push(Row {
                peak_bytes: peak.map(Bytes::get),
                predicted_bytes: runs.predicted.map(Bytes::get),
                items_per_second: Some(runs.num_items as f64 / seconds),
                exact: runs.exact,
                ..Row::new(name, &runs.device, seconds)
            });
        }
        Ok(())
    }
}

fn compare<M: Module>(
    module: &M,
    device: &Device,
    rounds: usize,
    variants: &[Variant],
) -> Vec<Row> {
    let mut peaks = vec![None; variants.len()];
    let mut seconds = vec![Vec::new(); variants.len()];
    let mut plain = None;
    let mut exact = vec![None; variants.len()];
    for round in 0..=rounds {
        for (i, variant) in variants.iter().enumerate() {
            let step = take_step(variant, device);
            // The first round also counts what stays for ever, like the buffers of the threads.
            if round > 0 || rounds == 0 {
                peaks[i] = peaks[i].max(step.peak);
                seconds[i].push(step.seconds);
            }
            if round == 0 && variant.comparable {
                let grads = gradients_on_host(module, &step.grads);
                let tolerance = if step.on_host { 0.0 } else { 1e-5 };
                let plain = plain.get_or_insert_with(|| grads.clone());
                exact[i] = Some(agree(&grads, plain, tolerance));
            }
        }
    }
    let row = |(i, variant): (usize, &Variant)| Row {
        peak_bytes: peaks[i].map(Bytes::get),
        predicted_bytes: variant.predicted.map(Bytes::get),
        exact: exact[i],
        ..Row::new(variant.name, device, median(seconds[i].clone()))
    };
    variants.iter().enumerate().map(row).collect()
}

struct Step {
    grads: GradientsParams,
    peak: Option<Bytes>,
    seconds: f64,
    on_host: bool,
}

/// Takes a step. Where the peak is sampled, which takes time, another one gives the seconds.
fn take_step(variant: &Variant, device: &Device) -> Step {
    let wait = || {
        device
            .sync()
            .unwrap_or_else(|error| panic!("{}: {error:?}", variant.name))
    };
    wait();
    let meter = PeakMeter::start(device);
    let start = Instant::now();
    let grads = (variant.step)();
    wait();
    let mut seconds = start.elapsed().as_secs_f64();
    let reading = meter.finish();
    if reading.method == PeakMethod::Sampled {
        let start = Instant::now();
        drop((variant.step)());
        wait();
        seconds = start.elapsed().as_secs_f64();
    }
    Step {
        grads,
        peak: reading.peak,
        seconds,
        on_host: reading.method != PeakMethod::Sampled,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The gradients of a module's parameters, on the host.
fn gradients_on_host<M: Module>(module: &M, grads: &GradientsParams) -> Vec<TensorData> {
    struct Collect<'a> {
        grads: &'a GradientsParams,
        data: Vec<TensorData>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let grad = self.grads.get::<D>(param.id);
            self.data.extend(grad.map(Tensor::into_data));
        }
    }
    let mut collect = Collect {
        grads,
        data: Vec::new(),
    };
    module.visit(&mut collect);
    collect.data
}

/// Whether two lists of gradients agree within a tolerance relative to the largest magnitude of each.
fn agree(got: &[TensorData], expected: &[TensorData], tolerance: f32) -> bool {
    let pair_agrees = |(got, expected): (&TensorData, &TensorData)| {
        let largest = expected.iter::<f32>().map(f32::abs).fold(0.0, f32::max);
        let pairs = got.iter::<f32>().zip(expected.iter::<f32>());
        got.shape() == expected.shape()
            && pairs
                .into_iter()
                .all(|(got, expected)| (got - expected).abs() <= tolerance * largest)
    };
    got.len() == expected.len() && got.iter().zip(expected).all(pair_agrees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_agree_only_within_the_tolerance_and_in_full() {
        let expected = [TensorData::from([1.0f32, -2.0])];
        let near = [TensorData::from([1.0f32, -2.00001])];
        assert!(agree(&expected, &expected, 0.0));
        assert!(agree(&near, &expected, 1e-5));
        assert!(!agree(&near, &expected, 0.0));
        assert!(!agree(&[], &expected, 1.0));
    }
}
