//! Training steps of the video networks: losses, gradients and parameters.

use burn::optim::GradientsParams;
use burn::tensor::Device;
use burn_memopt::train::{MicroBatchTrainerConfig, StepOutcome};
use burn_memopt_models::propainter::training::{
    FlowCompletionLoss, FlowCompletionTarget, HingeLoss, InpaintLoss, InpaintTarget, canny, crests,
    flow_edges, second_order_loss, smoothness_loss,
};
use burn_memopt_models::propainter::{
    AdversarialStep, Discriminator, FlowCompletion, InpaintGeneratorConfig, Rivals, View, combine,
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

    let predicted = network.predict_with_edges(target.flows.clone(), &target.masks);
    comparison.tensor("pred_flow_f", predicted.flows.forward.clone());
    comparison.tensor("pred_flow_b", predicted.flows.backward.clone());
    comparison.tensor("pred_edge_f", predicted.edges[0].clone());
    let combined = combine(predicted.flows.clone(), target.flows.clone(), &target.masks);
    let num_pairs = combined.forward.dims()[1];
    let mask = target.masks.clone().narrow(1, 0, num_pairs);
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

    let loss = FlowCompletionLoss::new()
        .with_flow(case.require("flow_weight"))
        .with_warp(case.require("warp_weight"))
        .with_edge(case.require("edge_weight"));
    let terms = loss.terms(&predicted, &target);
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
    let target = training_target(&case);
    let (truth, masks) = (&target.frames, &target.input.masks);
    let Rivals {
        generator,
        discriminator: judge,
    } = rivals(&case);
    comparison.tensor("completed_flow_f", target.input.flows.forward.clone());
    comparison.tensor("completed_flow_b", target.input.flows.backward.clone());
    comparison.tensor("updated_mask", target.input.updated_masks.clone());

    let loss = inpaint_loss(&case);
    let predicted = generator.forward_all(target.input.clone());
    comparison.tensor("prediction", predicted.clone());
    let completed = target.completed_by(predicted.clone());
    let verdict = judge.forward(completed.clone());
    let terms = loss.terms(&predicted, truth, masks, Some(verdict));
    comparison.values("hole_loss", &[terms.hole.clone().into_scalar()]);
    comparison.values("valid_loss", &[terms.valid.clone().into_scalar()]);
    let adversarial = terms.adversarial.clone().expect("a verdict was given");
    comparison.values("generator_adversarial_loss", &[adversarial.into_scalar()]);
    let grads = GradientsParams::from_grads(terms.total().backward(), &generator);
    network::compare_gradients_of("gradG", &mut comparison, &case, &generator, &grads);

    let (real, fake) = (
        judge.forward(truth.clone()),
        judge.forward(completed.detach()),
    );
    comparison.tensor("real_logits", real.clone());
    comparison.tensor("fake_logits", fake.clone());
    comparison.values(
        "discriminator_real_loss",
        &[HingeLoss.real(real.clone()).into_scalar()],
    );
    comparison.values(
        "discriminator_fake_loss",
        &[HingeLoss.fake(fake.clone()).into_scalar()],
    );
    let grads = HingeLoss.discriminator(real, fake).backward();
    let grads = GradientsParams::from_grads(grads, &judge);
    network::compare_gradients_of("gradD", &mut comparison, &case, &judge, &grads);

    let Rivals {
        generator,
        discriminator: judge,
    } = stepped(&case, &target);
    network::compare_values("after", &mut comparison, &case, &generator);
    network::compare_values("afterD", &mut comparison, &case, &judge);
    let predicted = generator.forward_all(target.input.clone());
    let terms = loss.terms(&predicted, truth, masks, None);
    comparison.values("hole_loss_second", &[terms.hole.into_scalar()]);
    comparison.values("valid_loss_second", &[terms.valid.into_scalar()]);
    comparison.finish();
}

/// The networks of the case after one step.
fn stepped(case: &Case, target: &InpaintTarget) -> Rivals {
    let step = || MicroBatchTrainerConfig::new().init(optimizer::optimizer("adam", case, "adam/"));
    let mut train = AdversarialStep::new(step(), step()).with_loss(inpaint_loss(case));
    let rivals = rivals(case);
    train.micro_batch(&rivals, target.clone());
    let (rivals, outcomes) = train.flush(rivals, case.require("adam/lr"));
    let stepped = |outcome: &StepOutcome| matches!(outcome, StepOutcome::Stepped { .. });
    assert!(outcomes.expect("finite gradients").iter().all(stepped));
    rivals
}

fn inpaint_loss(case: &Case) -> InpaintLoss {
    InpaintLoss::new()
        .with_hole(case.require("hole_weight"))
        .with_valid(case.require("valid_weight"))
        .with_adversarial(case.require("adversarial_weight"))
}

/// The fill of one of several networks of a case.
fn fill(case: &Case, network: &str) -> Fill {
    let table = case.word(&format!("gains/{network}"));
    Fill::new(&table.expect("the gain table of the network"), case.salt())
}

fn rivals(case: &Case) -> Rivals {
    let device = Device::flex().autodiff();
    let generator = InpaintGeneratorConfig::new().init(&device);
    let discriminator = Discriminator::new(View::Clip, &device);
    Rivals {
        generator: network::filled_by(generator, &fill(case, "generator"), ""),
        discriminator: network::filled_by(discriminator, &fill(case, "discriminator"), ""),
    }
}

/// The clip of the case: flows are completed and holes filled from other frames without gradients.
fn training_target(case: &Case) -> InpaintTarget {
    let device = Device::flex();
    let num_local = case.require("num_local_frames") as usize;
    let (frames, masks) = (
        case.clip("frames_u8", &device),
        case.tensor::<5>("mask", &device),
    );
    let completion = FlowCompletion::new(&device);
    let completion = network::filled_by(completion, &fill(case, "flowcomp"), "");
    let local_masks = masks.clone().narrow(1, 0, num_local);
    let flows = completion.complete(flows(case, &device), &local_masks);
    InpaintTarget::new(frames, flows, masks, num_local).autodiff()
}
