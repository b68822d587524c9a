use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::{AdamWConfig, GradientsParams, ModuleOptimizer},
    tensor::{Distribution, Tensor},
};
use burn_memopt::{
    chunked::BoxError,
    optim::{AdamW8bitConfig, HostState},
    train::draw_parameters,
};

use crate::{
    bench::{Bench, Runs},
    gpt::Gpt,
};

const WIDTH: usize = 256;
const NUM_UPDATES: usize = 3;

/// Updates of a GPT by given gradients, from an optimizer without a state. Parameters and gradients are there before, so
/// the peak is that of the state and of one update.
pub(crate) fn gpt(bench: &mut Bench) -> Result<(), BoxError> {
    let device = bench.device.clone().autodiff();
    device.seed(0);
    let gpt = Gpt::new(WIDTH, 0.0, &device);
    draw_parameters(&gpt);
    let grads = made_up(&gpt);
    let mut held = Some(gpt);
    let runs = Runs::on(&bench.device, &["plain", "adamw8bit", "host"], NUM_UPDATES);
    bench.runs(&runs, |variant| {
        let mut optimizer: ModuleOptimizer = match variant {
            0 => AdamWConfig::new().init(),
            1 => AdamW8bitConfig::new().init(),
            _ => HostState::new(AdamWConfig::new().build()).into(),
        };
        // A model moves through the optimizer, or its parameters are there twice.
        let mut gpt = held.take().ok_or("a run failed before")?;
        for _ in 0..NUM_UPDATES {
            let grads = shared(&gpt, &grads);
            gpt = optimizer.step(1e-4, gpt, grads);
        }
        held = Some(gpt);
        Ok(runs.device.sync()?)
    })
}

/// Gradients of random values.
fn made_up(gpt: &Gpt) -> GradientsParams {
    struct MakeUp(GradientsParams);
    impl ModuleVisitor for MakeUp {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let like = param.val().inner();
            let grad = like.random_like(Distribution::Normal(0.0, 0.01));
            self.0.register(param.id, grad);
        }
    }
    let mut made_up = MakeUp(GradientsParams::new());
    gpt.visit(&mut made_up);
    made_up.0
}

/// The same gradients once more, in the same memory.
fn shared(gpt: &Gpt, grads: &GradientsParams) -> GradientsParams {
    struct Share<'a> {
        from: &'a GradientsParams,
        to: GradientsParams,
    }
    impl ModuleVisitor for Share<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let grad = self.from.get::<D>(param.id);
            self.to
                .register(param.id, grad.expect("every parameter has one"));
        }
    }
    let mut share = Share {
        from: grads,
        to: GradientsParams::new(),
    };
    gpt.visit(&mut share);
    share.to
}
