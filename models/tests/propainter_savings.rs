//! What the bound on working memory saves in ProPainter's generator, counted exactly.

#[path = "../../burn-memopt/tests/counting/mod.rs"]
mod counting;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::memory::PeakMeter;
use burn_memopt_models::propainter::training::{FlowCompletionLoss, FlowCompletionTarget};
use burn_memopt_models::propainter::{
    FlowCompletion, Flows, GeneratorInput, Holes, InpaintGenerator, InpaintGeneratorConfig,
    SparseTransformer,
};
use counting::turn;

/// The gradients of a network by the names of its parameters.
struct Gradients<'a> {
    grads: &'a GradientsParams,
    path: Vec<String>,
    found: BTreeMap<String, Option<TensorData>>,
}

impl ModuleVisitor for Gradients<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad = self.grads.get::<D>(param.id).map(Tensor::into_data);
        self.found.insert(self.path.join("."), grad);
    }
}

/// The peak of a training step in bytes, and the gradients that it gives.
fn measured<M: Module>(
    network: &M,
    step: impl FnOnce(&M) -> GradientsParams,
) -> (f64, BTreeMap<String, Option<TensorData>>) {
    let meter = PeakMeter::start(&Device::flex());
    let grads = step(network);
    let peak = meter.finish().peak.unwrap().get() as f64;
    let mut gradients = Gradients {
        grads: &grads,
        path: Vec::new(),
        found: BTreeMap::new(),
    };
    network.visit(&mut gradients);
    (peak, gradients.found)
}

/// Asserts that a step of the network gives the same gradients when it is recomputed, in less than
/// `most` of the memory.
fn check_recomputed<M: Module>(
    plain: &M,
    recomputed: &M,
    step: impl Fn(&M) -> GradientsParams,
    most: f64,
) {
    let (whole, expected) = measured(plain, &step);
    let (less, got) = measured(recomputed, &step);
    let share = less / whole;
    println!("peak {whole} bytes plain, {less} recomputed: {share:.2}");
    let differing = expected
        .iter()
        .filter(|(name, grad)| grad.is_none() || got[*name] != **grad);
    let differing: Vec<_> = differing.map(|(name, _)| name).collect();
    assert!(differing.is_empty(), "other gradients of {differing:?}");
    assert!(
        share < most,
        "recomputed needs {share:.2} of the plain peak"
    );
}

#[test]
fn windows_and_frames_in_small_portions_need_a_fraction_of_the_memory() {
    let _turn = turn();
    let device = Device::flex();
    let transformer = SparseTransformer::new(1, 64, 4, 1960, &device);
    let normal = Distribution::Normal(0.0, 1.0);
    let tokens = Tensor::<5>::random([1, 8, 20, 36, 64], normal, &device);
    let holes = Holes::find(Tensor::ones([1, 8, 20, 36], &device));
    let peak = |bytes: usize| {
        let run = || transformer.forward(tokens.clone(), &holes, [60, 108], bytes);
        // Threads keep buffers of their own after their first product.
        run();
        let meter = PeakMeter::start(&device);
        drop(run());
        meter.finish().peak.unwrap().get() as f64
    };
    let (whole, portioned) = (peak(usize::MAX), peak(1));
    let share = portioned / whole;
    println!("peak {whole} bytes at once, {portioned} in portions: {share:.2}");
    assert!(share < 0.5, "portions need {share:.2} of the whole peak");
}

#[test]
fn a_recomputed_training_step_needs_a_fraction_of_the_memory_and_gives_the_plain_gradients() {
    let _turn = turn();
    let device = Device::flex().autodiff();
    let config = InpaintGeneratorConfig::new()
        .with_depth(1)
        .with_working_bytes(1 << 20);
    let plain = config.init(&device);
    let normal = Distribution::Normal(0.0, 1.0);
    let random = |frames: usize, channels: usize| {
        Tensor::<5>::random([1, frames, channels, 64, 64], normal, &device)
    };
    let hole = Tensor::<5>::ones([1, 4, 1, 32, 32], &device);
    let masks = hole.pad([(16, 16), (16, 16)], 0.0);
    let input = GeneratorInput {
        frames: random(4, 3).tanh(),
        flows: Flows {
            forward: random(2, 2),
            backward: random(2, 2),
        },
        updated_masks: masks.clone(),
        masks,
        num_local: 3,
    };
    let step = |generator: &InpaintGenerator| {
        let completed = generator.forward_all(input.clone());
        GradientsParams::from_grads(completed.square().sum().backward(), generator)
    };
    // A good part of the rest is the gradients of the parameters, which both keep.
    let recomputed = plain.clone().with_grad_checkpoint(Policy::EveryBlock);
    check_recomputed(&plain, &recomputed, step, 0.55);
}

#[test]
fn recomputed_flow_completion_needs_a_fraction_of_the_memory_and_gives_the_plain_gradients() {
    let _turn = turn();
    let device = Device::flex().autodiff();
    let mut plain = FlowCompletion::new(&device);
    let normal = Distribution::Normal(0.0, 1.0);
    // They begin with zeros, which pass no gradient on.
    for pass in [
        &mut plain.feat_prop_module.backward,
        &mut plain.feat_prop_module.forward,
    ] {
        let last = pass.deform_align.conv_offset.last_mut().unwrap();
        last.weight = last.weight.clone().map(|weight| {
            let small = Distribution::Normal(0.0, 0.1);
            Tensor::random(weight.dims(), small, &device).require_grad()
        });
    }
    let random = |frames: usize, channels: usize| {
        Tensor::<5>::random([1, frames, channels, 64, 64], normal, &device)
    };
    let hole = Tensor::<5>::ones([1, 5, 1, 32, 32], &device);
    let target = FlowCompletionTarget {
        frames: random(5, 3).tanh(),
        flows: Flows {
            forward: random(4, 2),
            backward: random(4, 2),
        },
        masks: hole.pad([(16, 16), (16, 16)], 0.0),
    };
    let step = |network: &FlowCompletion| {
        let predicted = network.predict_with_edges(target.flows.clone(), &target.masks);
        let terms = FlowCompletionLoss::new().terms(&predicted, &target);
        GradientsParams::from_grads(terms.total().backward(), network)
    };
    let recomputed = plain.clone().with_grad_checkpoint(Policy::EveryBlock);
    check_recomputed(&plain, &recomputed, step, 0.65);
}
