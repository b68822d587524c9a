//! Compares tensors with those of a case.

use burn::tensor::{Slice, Tensor};

use super::{Case, number_in};

/// Collects the deviations of one case, so that a failure names every tensor that is off.
pub struct Comparison<'a> {
    case: &'a Case,
    times: f64,
    compared: usize,
    worst: (f64, String),
    failures: Vec<String>,
}

impl<'a> Comparison<'a> {
    /// Starts with no tensor compared.
    pub fn new(case: &'a Case) -> Self {
        Self::within(case, 1.0)
    }

    /// Starts with no tensor compared, and allows every tolerance `times` over.
    pub fn within(case: &'a Case, times: f64) -> Self {
        Self {
            case,
            times,
            compared: 0,
            worst: (0.0, String::new()),
            failures: Vec::new(),
        }
    }

    /// Compares `mine` with the stored tensor `name`, shape and values.
    pub fn tensor<const D: usize>(&mut self, name: &str, mine: Tensor<D>) {
        let shape = mine.dims();
        let mine: Vec<f32> = mine.into_data().iter::<f32>().collect();
        if shape[..] != *self.case.shape(name) {
            let stored = self.case.shape(name);
            self.failures
                .push(format!("{name}: shape {shape:?}, stored {stored:?}"));
            return;
        }
        self.values(name, &mine);
    }

    /// Compares the channels, axis `axis` of `mine`, that are stored as `<name>_ch<first>_<last>`.
    pub fn channels<const D: usize>(&mut self, name: &str, mine: &Tensor<D>, axis: usize) {
        let prefix = format!("{name}_ch");
        let stored = self.case.names(&prefix);
        assert!(!stored.is_empty(), "{}: no {prefix}", self.case.name);
        for stored in stored {
            let ends = stored[prefix.len()..].split('_');
            let ends: Vec<usize> = ends.map(|end| end.parse().expect("a channel")).collect();
            self.tensor(stored, mine.clone().slice_dim(axis, ends[0]..ends[1] + 1));
        }
    }

    /// Compares the pixels of `mine`, those of the last two axes, that are stored as
    /// `<name>_stride<step>`.
    pub fn strided(&mut self, name: &str, mine: &Tensor<4>) {
        let prefix = format!("{name}_stride");
        let stored = self.case.names(&prefix);
        assert!(!stored.is_empty(), "{}: no {prefix}", self.case.name);
        for stored in stored {
            let step = number_in(stored, "_stride").expect("a step");
            let every = Slice::with_step(0, None, step);
            let mine = mine.clone().slice_dim(2, every).slice_dim(3, every);
            self.tensor(stored, mine);
        }
    }

    /// Compares `mine` with the stored values of `name` in row-major order:
    /// `max |mine - stored| <= tolerance * max |stored|`. What is not finite must be in the same places.
    pub fn values(&mut self, name: &str, mine: &[f32]) {
        self.compared += 1;
        let stored = self.case.floats(name);
        if mine.len() != stored.len() {
            let text = format!("{name}: {} values, {} stored", mine.len(), stored.len());
            self.failures.push(text);
            return;
        }
        let finite = stored.iter().filter(|value| value.is_finite());
        let scale = finite.fold(0.0, |max: f64, &v| max.max(v.abs().into()));
        let tolerance = self.times * self.case.tolerance(name);
        let deviation = deviation(mine, stored);
        let share = match deviation == 0.0 {
            true => 0.0,
            false => deviation / (tolerance * scale),
        };
        if share > self.worst.0 {
            self.worst = (share, name.into());
        }
        if deviation.is_nan() || deviation > tolerance * scale {
            self.failures.push(format!(
                "{name}: off by {:.3e} of its scale, allowed {tolerance:.3e}",
                deviation / scale
            ));
        }
    }

    /// Fails if any tensor was off, or none was compared.
    pub fn finish(self) {
        assert!(self.compared > 0, "{}: nothing compared", self.case.name);
        assert!(
            self.failures.is_empty(),
            "{}: {} of {} tensors are off:\n{}",
            self.case.name,
            self.failures.len(),
            self.compared,
            self.failures.join("\n")
        );
        let (share, name) = self.worst;
        println!(
            "{}: {} tensors, the worst ({name}) at {:.1} % of its tolerance",
            self.case.name,
            self.compared,
            100.0 * share
        );
    }
}

/// The largest absolute difference; NaN if any difference is, or if only one of two values is finite.
fn deviation(mine: &[f32], stored: &[f32]) -> f64 {
    mine.iter().zip(stored).fold(0.0, |max: f64, (&a, &b)| {
        let difference = match a.is_finite() || b.is_finite() {
            true => (f64::from(a) - f64::from(b)).abs(),
            false => 0.0,
        };
        match difference.is_finite() && max.is_finite() {
            true => max.max(difference),
            false => f64::NAN,
        }
    })
}
