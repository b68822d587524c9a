use std::time::Instant;

use burn::{module::Module, optim::GradientsParams, tensor::Device};
use burn_memopt::memory::{Bytes, PeakMeter, PeakMethod};

use crate::{Row, gradients};

/// Epochs of each variant that are timed.
const EPOCHS: usize = 5;

/// One way to take a training step.
pub struct Variant<'a> {
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

    /// Says what peak was predicted.
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

/// Measures variants in turn, so that a machine whose speed drifts slows all of
/// them: one round to warm up (which counts if it is the only one), then
/// `rounds` more. The first variant is the plain one.
pub(crate) fn compare<M: Module>(
    module: &M,
    device: &Device,
    rounds: usize,
    variants: &[Variant],
) -> Vec<Row> {
    gradients::initialise(module);
    let mut peaks = vec![None; variants.len()];
    let mut seconds = vec![Vec::new(); variants.len()];
    let mut plain = None;
    let mut exact = vec![None; variants.len()];
    for round in 0..=rounds {
        for (i, variant) in variants.iter().enumerate() {
            let step = take_step(variant, device);
            // The first round also counts what stays for ever, like the buffers
            // of the threads.
            if round > 0 || rounds == 0 {
                peaks[i] = peaks[i].max(step.peak);
                seconds[i].push(step.seconds);
            }
            if round == 0 && variant.comparable {
                let grads = gradients::on_host(module, &step.grads);
                let tolerance = if step.on_host { 0.0 } else { 1e-5 };
                let plain = plain.get_or_insert_with(|| grads.clone());
                exact[i] = Some(gradients::agree(&grads, plain, tolerance));
            }
        }
    }
    let row = |(i, variant): (usize, &Variant)| Row {
        case: String::new(),
        variant: variant.name.to_owned(),
        backend: backend_name(device),
        peak_bytes: peaks[i].map(Bytes::get),
        predicted_bytes: variant.predicted.map(Bytes::get),
        seconds: median(&mut seconds[i].clone()),
        network_seconds: None,
        items_per_second: None,
        exact: exact[i],
    };
    variants.iter().enumerate().map(row).collect()
}

/// Measures epochs on the host, plain and techniques in turn. `epoch` is told which of
/// them to run, and has warmed up; whether the items are the same is for the caller to add.
pub(crate) fn compare_epochs<const N: usize>(
    variants: [&str; N],
    num_items: usize,
    mut epoch: impl FnMut(usize) -> Result<(), String>,
) -> Result<[Row; N], String> {
    let host = Device::flex();
    let mut seconds = [const { Vec::new() }; N];
    let mut peaks = [None; N];
    for _ in 0..EPOCHS {
        for variant in 0..N {
            let meter = PeakMeter::start(&host);
            let start = Instant::now();
            epoch(variant)?;
            seconds[variant].push(start.elapsed().as_secs_f64());
            peaks[variant] = peaks[variant].max(meter.finish().peak);
        }
    }
    Ok(std::array::from_fn(|variant| {
        let seconds = median(&mut seconds[variant]);
        Row {
            case: String::new(),
            variant: variants[variant].to_owned(),
            backend: backend_name(&host),
            peak_bytes: peaks[variant].map(Bytes::get),
            predicted_bytes: None,
            seconds,
            network_seconds: None,
            items_per_second: Some(num_items as f64 / seconds),
            exact: None,
        }
    }))
}

struct Step {
    grads: GradientsParams,
    peak: Option<Bytes>,
    seconds: f64,
    on_host: bool,
}

/// Takes a step; where the peak is sampled, another one for the time, which the
/// sampling would disturb.
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

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn backend_name(device: &Device) -> String {
    let name = format!("{device:?}").to_lowercase();
    let known = ["flex", "cuda", "vulkan", "wgpu"];
    let known = known.into_iter().find(|known| name.contains(known));
    known.map_or(name.clone(), str::to_owned)
}
