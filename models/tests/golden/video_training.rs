//! Training steps of the video networks: losses, gradients and parameters.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn_memopt_models::propainter::loss::{
    FlowCompletionLoss, FlowCompletionTarget, HingeLoss, InpaintLoss, canny, crests, flow_edges,
    second_order_loss, smoothness_loss,
};
use burn_memopt_models::propainter::{
    Discriminator, FlowCompletion, GeneratorInput, ImagePropagation, InpaintGenerator,
    InpaintGeneratorConfig, Sampling, View, combine,
};

use crate::fill::Fill;
use crate::flow_completion::flows;
use crate::harness::{Case, Comparison};
use crate::{network, optimizer};

#[test]
fn golden_canny_edges() {
    let case = Case::open("prim_canny");
    let mut comparison = Comparison::new(&case);
    let x = case.tensor::<4>("x", &Device::flex());
    comparison.tensor("magnitude_after_nms", crests(x.clone()));
    comparison.tensor("edges", canny(x));
    comparison.finish();
}

#[test]
fn golden_training_step_of_flow_completion() {
    let case = Case::open("train_flow_completion");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let network = network::filled(FlowCompletion::new(&device), &case);
    let target = FlowCompletionTarget {
        frames: case.clip("frames_u8", &device),
        flows: flows(&case, &device),
        masks: case.tensor("mask", &device),
    };
    comparison.tensor("gt_edges_f", flow_edges(&target.flows.forward));
    comparison.tensor("gt_edges_b", flow_edges(&target.flows.backward));

    let predicted = network.predict(target.flows.clone(), &target.masks);
    comparison.tensor("pred_flow_f", predicted.forward.clone());
    comparison.tensor("pred_flow_b", predicted.backward.clone());
    comparison.tensor("pred_edge_f", network.edges(predicted.forward.clone()));
    let combined = combine(predicted.clone(), target.flows.clone(), &target.masks);
    let mask = target.masks.clone().narrow(1, 0, 3);
    for (name, loss) in [
        (
            "smooth_loss_forward",
            smoothness_loss(&combined.forward, &mask),
        ),
        (
            "second_order_loss_forward",
            second_order_loss(&combined.forward, &mask),
        ),
    ] {
        comparison.values(name, &[loss.into_scalar()]);
    }

    let terms = FlowCompletionLoss::new().terms(&network, &predicted, &target);
    for (name, term) in [
        ("flow_loss", &terms.flow),
        ("warp_loss", &terms.warp),
        ("edge_loss", &terms.edge),
    ] {
        comparison.values(name, &[term.clone().into_scalar()]);
    }
    let grads = GradientsParams::from_grads(terms.total().backward(), &network);
    network::compare_gradients(&mut comparison, &case, &network, &grads);
    let mut optimizer = optimizer::optimizer("adam", &case, "adam/");
    let network = optimizer.step(case.require("adam/lr"), network, grads);
    network::compare_values("after", &mut comparison, &case, &network);
    comparison.finish();
}

#[test]
fn golden_training_step_of_generator_and_discriminator() {
    let case = Case::open("train_propainter_gan");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let filled = |table: &str| Fill::new(table, case.salt());
    let generator = InpaintGeneratorConfig::new().init(&device);
    let generator = network::filled_by(generator, &filled("propainter"), "");
    let judge = Discriminator::new(View::Clip, &device);
    let judge = network::filled_by(judge, &filled("discriminator"), "");
    let truth = case.clip("frames_u8", &device);
    let masks = case.tensor::<5>("mask", &device);
    let input = training_input(&case, &filled("flowcomp"), &truth, &masks);
    comparison.tensor("completed_flow_f", input.flows.forward.clone());
    comparison.tensor("completed_flow_b", input.flows.backward.clone());
    comparison.tensor("updated_mask", input.updated_masks.clone());

    let complete = |generator: &InpaintGenerator| {
        let predicted = generator.forward_all(input.clone());
        let outside = masks.ones_like() - masks.clone();
        let completed = predicted.clone() * masks.clone() + truth.clone() * outside;
        (predicted, completed)
    };
    let loss = InpaintLoss::new();
    let (predicted, completed) = complete(&generator);
    comparison.tensor("prediction", predicted.clone());
    let verdict = judge.forward(completed.clone());
    let terms = loss.terms(&predicted, &truth, &masks, Some(verdict));
    comparison.values("hole_loss", &[terms.hole.clone().into_scalar()]);
    comparison.values("valid_loss", &[terms.valid.clone().into_scalar()]);
    let adversarial = terms.adversarial.clone().expect("a verdict was given");
    comparison.values("generator_adversarial_loss", &[adversarial.into_scalar()]);
    let grads = GradientsParams::from_grads(terms.total().backward(), &generator);
    network::compare_gradients_of("gradG", &mut comparison, &case, &generator, &grads);
    let rate = case.require("adam/lr");
    let generator = optimizer::optimizer("adam", &case, "adam/").step(rate, generator, grads);
    network::compare_values("after", &mut comparison, &case, &generator);

    let (real, fake) = (
        judge.forward(truth.clone()),
        judge.forward(completed.detach()),
    );
    comparison.tensor("real_logits", real.clone());
    comparison.tensor("fake_logits", fake.clone());
    let (real, fake) = (HingeLoss.real(real), HingeLoss.made_up(fake));
    comparison.values("discriminator_real_loss", &[real.clone().into_scalar()]);
    comparison.values("discriminator_fake_loss", &[fake.clone().into_scalar()]);
    let grads = (real + fake).div_scalar(2.0).backward();
    let grads = GradientsParams::from_grads(grads, &judge);
    network::compare_gradients_of("gradD", &mut comparison, &case, &judge, &grads);
    let judge = optimizer::optimizer("adam", &case, "adam/").step(rate, judge, grads);
    network::compare_values("afterD", &mut comparison, &case, &judge);

    let (predicted, _) = complete(&generator);
    let terms = loss.terms(&predicted, &truth, &masks, None);
    comparison.values("hole_loss_second", &[terms.hole.into_scalar()]);
    comparison.values("valid_loss_second", &[terms.valid.into_scalar()]);
    comparison.finish();
}

/// Completes the flows and fills what other frames show, without gradients.
fn training_input(
    case: &Case,
    fill: &Fill,
    truth: &Tensor<5>,
    masks: &Tensor<5>,
) -> GeneratorInput {
    let device = Device::flex();
    let num_local = case.require("num_local_frames") as usize;
    let completion = network::filled_by(FlowCompletion::new(&device), fill, "");
    let local_masks = masks.clone().inner().narrow(1, 0, num_local);
    let mut flows = completion.complete(flows(case, &device), &local_masks);
    for flow in [&mut flows.forward, &mut flows.backward] {
        *flow = flow.clone().autodiff();
    }
    let propagation = ImagePropagation {
        sampling: Sampling::Nearest,
    };
    GeneratorInput::propagated(truth.clone(), flows, masks.clone(), num_local, propagation)
}
