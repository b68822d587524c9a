//! Training steps of the full network: losses, gradients, parameters and running statistics.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use burn_memopt_models::loss::{BceDiceLoss, BceLoss, CrossEntropyDiceLoss, CrossEntropyLoss};
use rstest::rstest;

use crate::harness::{Case, Comparison};
use crate::{network, optimizer};

#[rstest]
#[case::adamw("unet_train_adamw")]
#[case::sgd("unet_train_sgd")]
#[case::rmsprop("unet_train_rmsprop")]
fn golden_unet_training(#[case] name: &str) {
    let case = Case::open(name);
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let mut unet = network::filled_unet(&case, &device);
    let kind = case.word("optimizer").expect("an optimizer");
    let mut optimizer = optimizer::optimizer(&kind, &case, "hyper/");
    let x = case.tensor::<4>("x", &device);
    let mask = case.int_tensor::<3>("mask", &device);
    let mask = mask.unsqueeze_dim::<4>(1).float();

    let steps = case.require("steps") as usize;
    let mut traces: [Vec<f32>; 4] = Default::default();
    for step in 0..steps {
        let logits = unet.forward(x.clone());
        if step == 0 {
            comparison.tensor("logits_step0", logits.clone());
        }
        let losses = binary_losses(logits, &mask);
        let grads = losses[0].clone().backward();
        let grads = GradientsParams::from_grads(grads, &unet);
        if step == 0 {
            network::compare_gradients(&mut comparison, &case, &unet, &grads);
        }
        let total = network::total_norm(&unet, &grads);
        for (trace, loss) in traces.iter_mut().zip(losses) {
            trace.push(loss.into_scalar());
        }
        traces[3].push(total as f32);
        // All gradients together, as PyTorch clips; burn's own clipping takes each tensor alone.
        let factor = (case.require("clip_grad_norm") / (total + 1e-6)).min(1.0);
        let grads = network::scaled(&unet, grads, factor);
        unet = optimizer.step(case.require("hyper/lr"), unet, grads);
    }

    comparison.values("loss_per_step", &traces[0]);
    comparison.values("bce_per_step", &traces[1]);
    comparison.values("dice_loss_per_step", &traces[2]);
    comparison.values("total_grad_norm_before_clip_per_step", &traces[3]);
    let values = network::values(&unet);
    for stored in case.names("after:") {
        comparison.values(stored, &values[stored.trim_start_matches("after:")]);
    }
    // burn keeps no such counter; the case must have counted the same training passes.
    assert_eq!(case.ints("num_batches_tracked"), [steps as i64]);
    let x = case.tensor("x", &Device::flex());
    comparison.tensor("logits_eval_after", unet.valid().forward(x));
    comparison.finish();
}

/// The loss and its two parts.
fn binary_losses(logits: Tensor<4>, mask: &Tensor<4>) -> [Tensor<1>; 3] {
    let loss = BceDiceLoss::default();
    [
        loss.forward(logits.clone(), mask.clone(), None),
        BceLoss.forward(logits.clone(), mask.clone(), None),
        loss.dice.forward(sigmoid(logits), mask.clone(), None),
    ]
}

#[test]
fn golden_unet_multiclass_loss() {
    let case = Case::open("unet_multiclass_loss");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let unet = network::filled_unet(&case, &device);
    let labels = case.int_tensor::<3>("labels", &device);
    let logits = unet.forward(case.tensor("x", &device));
    comparison.tensor("logits", logits.clone());

    let loss = CrossEntropyDiceLoss::default();
    let cross_entropy = CrossEntropyLoss.forward(logits.clone(), labels.clone(), None);
    let dice = loss.dice(logits.clone(), labels.clone(), None);
    comparison.values("cross_entropy", &[cross_entropy.into_scalar()]);
    comparison.values("dice_loss", &[dice.into_scalar()]);

    let grads = loss.forward(logits, labels, None).backward();
    let grads = GradientsParams::from_grads(grads, &unet);
    network::compare_gradients(&mut comparison, &case, &unet, &grads);
    comparison.finish();
}
