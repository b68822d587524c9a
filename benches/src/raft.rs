use std::hint::black_box;

use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt_models::propainter::raft::{Correlation, CorrelationField};

use crate::{Row, measure::compare_epochs};

/// Channels of the features that are compared.
const CHANNELS: usize = 256;

/// Times that values are looked up; 20 is usual.
const LOOKUPS: usize = 4;

/// The features of two square frames, and where values are looked up.
struct Workload {
    first: Tensor<4>,
    second: Tensor<4>,
    coords: Tensor<4>,
}

impl Workload {
    fn new(side: usize) -> Self {
        let device = Device::flex();
        device.seed(0);
        let random = |channels, distribution| {
            Tensor::random([1, channels, side, side], distribution, &device)
        };
        Self {
            first: random(CHANNELS, Distribution::Default),
            second: random(CHANNELS, Distribution::Default),
            coords: random(2, Distribution::Uniform(0.0, side as f64)),
        }
    }

    fn look_up(&self, correlation: Correlation) -> Tensor<4> {
        let (first, second) = (self.first.clone(), self.second.clone());
        let field = CorrelationField::new(first, second, correlation);
        for _ in 1..LOOKUPS {
            field.lookup(self.coords.clone());
        }
        field.lookup(self.coords.clone())
    }
}

/// Values looked up on demand against all pairs at once, for frames of `frame_side` pixels.
pub(crate) fn on_demand(frame_side: usize) -> Result<Vec<Row>, String> {
    let side = frame_side / 8;
    let work = Workload::new(side);
    let variants = [Correlation::AllPairs, Correlation::ON_DEMAND];
    let [plain, mine] = variants.map(|correlation| work.look_up(correlation));
    let scale = plain.clone().abs().max().into_scalar::<f32>();
    let deviation = (plain - mine).abs().max().into_scalar::<f32>() / scale;
    let rows = compare_epochs(["plain", "on_demand"], side * side, |variant| {
        black_box(work.look_up(variants[variant]));
        Ok(())
    });
    let with_exact = |row| Row {
        exact: Some(deviation <= 1e-5),
        ..row
    };
    Ok(rows?.into_iter().map(with_exact).collect())
}
