//! ProPainter's networks beyond the golden numbers: bounds, precision, recomputation, bad input.

use burn::module::Module;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::grad_checkpoint::{Policy, Segment};
use burn_memopt::precision::{Autocast, Precision};
use burn_memopt::train::{MicroBatchTrainerConfig, StepOutcome};
use burn_memopt_models::propainter::training::{
    FlowCompletionLoss, FlowCompletionTarget, InpaintTarget,
};
use burn_memopt_models::propainter::{
    AdversarialStep, Discriminator, FlowCompletion, Flows, GeneratorInput, Holes, InpaintGenerator,
    InpaintGeneratorConfig, Rivals, SparseTransformer, TransformerBlock, View,
};
use rstest::rstest;

fn normal<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// A clip with a hole in the middle of every frame.
fn clip(frames: usize, num_local: usize, [height, width]: [usize; 2]) -> GeneratorInput {
    let device = Device::flex();
    let hole = Tensor::<5>::ones([1, frames, 1, height / 2, width / 2], &device);
    let masks = hole.pad([(height / 4, height / 4), (width / 4, width / 4)], 0.0);
    let known = masks.ones_like() - masks.clone();
    let flow = || normal([1, num_local - 1, 2, height, width], &device);
    GeneratorInput {
        frames: normal([1, frames, 3, height, width], &device).tanh() * known,
        flows: Flows {
            forward: flow(),
            backward: flow(),
        },
        updated_masks: masks.clone(),
        masks,
        num_local,
    }
}

fn small() -> InpaintGenerator {
    let config = InpaintGeneratorConfig::new().with_depth(1);
    config.init(&Device::flex())
}

/// The largest difference, relative to the largest value.
fn off<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    let scale = b.clone().abs().max().into_scalar::<f32>();
    (a - b).abs().max().into_scalar::<f32>() / scale
}

#[test]
fn a_single_frame_is_completed_from_itself() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let mut input = clip(1, 1, [16, 24]);
    input.frames = input.frames.zeros_like();
    // The second block takes keys from every other frame, beginning with the second.
    let generator = InpaintGeneratorConfig::new().with_depth(2);
    let completed = generator.init(&Device::flex()).forward(input);
    assert_eq!(completed.dims(), [1, 1, 3, 16, 24]);
    let values: Vec<f32> = completed.into_data().iter().collect();
    assert!(values.iter().all(|value| value.is_finite()));
}

#[test]
fn the_bound_on_working_memory_does_not_change_the_result() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let generator = small();
    let input = clip(3, 2, [32, 48]);
    let bounded = |bytes: usize| {
        let config = InpaintGeneratorConfig::new()
            .with_depth(1)
            .with_working_bytes(bytes);
        let record = generator.clone();
        let network = config.init(&Device::flex());
        network_with(network, record).forward(input.clone())
    };
    let whole = bounded(usize::MAX);
    for bytes in [1, 1 << 20] {
        assert!(off(bounded(bytes), whole.clone()) < 1e-4);
    }
}

/// `network` with the parameters of `other`.
fn network_with(network: InpaintGenerator, other: InpaintGenerator) -> InpaintGenerator {
    use burn_memopt_models::weights::StateDict;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("same.safetensors");
    other.save_safetensors(&path).unwrap();
    network.load_safetensors(&path).unwrap()
}

#[test]
fn frames_do_not_see_holes_that_the_masks_do_not_name() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let generator = small();
    let input = clip(3, 2, [40, 48]);
    let whole = GeneratorInput {
        masks: input.masks.zeros_like(),
        updated_masks: input.masks.zeros_like(),
        ..input.clone()
    };
    // Without a hole every window attends to itself alone: a reference frame says nothing.
    let mut others = whole.clone();
    let reference = others.frames.clone().narrow(1, 2, 1);
    let local = others.frames.clone().narrow(1, 0, 2);
    others.frames = Tensor::cat(vec![local, reference.neg()], 1);
    assert!(off(generator.forward(others), generator.forward(whole)) < 1e-6);
    let mut other_reference = input.clone();
    let reference = input.frames.clone().narrow(1, 2, 1);
    let local = input.frames.clone().narrow(1, 0, 2);
    other_reference.frames = Tensor::cat(vec![local, reference.neg()], 1);
    assert!(off(generator.forward(other_reference), generator.forward(input)) > 1e-4);
}

#[rstest]
#[case::f16(Precision::F16, 0.02)]
#[case::bf16(Precision::Bf16, 0.1)]
fn networks_run_in_half_precision_with_flows_in_f32(
    #[case] precision: Precision,
    #[case] allowed: f32,
) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let autocast = Autocast::new(precision);
    let generator = small();
    let input = clip(3, 2, [32, 48]);
    let full = generator.forward(input.clone());
    let narrow = |x: Tensor<5>| autocast.cast(x);
    let half = GeneratorInput {
        frames: narrow(input.frames),
        masks: narrow(input.masks),
        updated_masks: narrow(input.updated_masks),
        ..input
    };
    let half = autocast.view(&generator).forward(half);
    let wide = half.clone().cast(burn::tensor::FloatDType::F32);
    assert_ne!(half.dtype(), full.dtype());
    assert!(off(wide, full) < allowed);

    let device = Device::flex();
    let completion = FlowCompletion::new(&device);
    let flows = normal([1, 3, 2, 32, 40], &device);
    let masks = Tensor::zeros([1, 3, 1, 32, 40], &device);
    let full = completion.forward(flows.clone(), masks.clone());
    let half = autocast.run(&completion, (flows, masks), |network, (flows, masks)| {
        network.forward(flows, masks)
    });
    assert!(off(half, full) < allowed);
}

#[test]
fn a_recomputed_block_has_the_gradients_of_a_plain_one() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex().autodiff();
    let block = TransformerBlock::new(16, 2, 98, &device);
    let tokens = normal([1, 2, 6, 10, 16], &device).require_grad();
    let mask = Tensor::<4>::zeros([1, 2, 5, 9], &device).pad([(0, 1), (0, 1)], 1.0);
    let size = [17, 29];
    let run = |recomputed: bool| {
        let holes = Holes::find(mask.clone());
        assert_eq!(holes.num_broken(), 3);
        let forward = move |block: &TransformerBlock, x: Tensor<5>| {
            block.forward(x, &holes, 1, size, 1 << 16)
        };
        let y = match recomputed {
            false => forward(&block, tokens.clone()),
            true => {
                // Other tests draw numbers meanwhile.
                let segment = Segment::new().without_randomness();
                segment.run(&block, tokens.clone(), forward)
            }
        };
        let grads = y.square().sum().backward();
        let input = tokens.grad(&grads).unwrap().into_data();
        let grads = GradientsParams::from_grads(grads, &block);
        let key = grads.get::<2>(block.attention.key.weight.id).unwrap();
        (input, key.into_data())
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn recomputed_flow_completion_has_the_gradients_of_a_plain_one() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex().autodiff();
    let plain = FlowCompletion::new(&device);
    let flow = || normal([1, 4, 2, 24, 32], &device);
    let hole = Tensor::<5>::ones([1, 5, 1, 12, 16], &device);
    let target = FlowCompletionTarget {
        frames: normal([1, 5, 3, 24, 32], &device).tanh(),
        flows: Flows {
            forward: flow(),
            backward: flow(),
        },
        masks: hole.pad([(6, 6), (8, 8)], 0.0),
    };
    let run = |network: &FlowCompletion| {
        let predicted = network.predict_with_edges(target.flows.clone(), &target.masks);
        let loss = FlowCompletionLoss::new().terms(&predicted, &target).total();
        let grads = GradientsParams::from_grads(loss.backward(), network);
        let convs = [
            &network.decoder2.conv,
            &network.upsample.up.conv,
            &network.edge_detector.projection,
            &network.feat_prop_module.backward.backbone[0],
            &network.feat_prop_module.forward.deform_align.conv_offset[0],
        ];
        let convs = convs.map(|conv| grads.get::<4>(conv.weight.id).unwrap().into_data());
        let first = grads.get::<5>(network.downsample.weight.id).unwrap();
        (convs, first.into_data())
    };
    let recomputed = plain.clone().with_grad_checkpoint(Policy::EveryBlock);
    assert_eq!(run(&recomputed), run(&plain));
}

#[rstest]
#[case::f32(Precision::F32)]
#[case::f16(Precision::F16)]
fn both_rivals_are_stepped_and_each_by_its_own_loss(#[case] precision: Precision) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex().autodiff();
    let rivals = Rivals {
        generator: InpaintGeneratorConfig::new().with_depth(1).init(&device),
        discriminator: Discriminator::new(View::Clip, &device),
    };
    let before = values(&rivals);
    let frames = normal([1, 3, 3, 32, 32], &device).tanh();
    let hole = Tensor::<5>::ones([1, 3, 1, 16, 16], &device);
    let masks = hole.pad([(8, 8), (8, 8)], 0.0);
    let flow = Tensor::zeros([1, 1, 2, 32, 32], &device);
    let flows = Flows {
        forward: flow.clone(),
        backward: flow,
    };
    let target = InpaintTarget::new(frames, flows, masks, 2);
    let config = MicroBatchTrainerConfig::new().with_precision(precision);
    let step = || config.init(SgdConfig::new().init());
    let mut train = AdversarialStep::new(step(), step());
    train.micro_batch(&rivals, target.clone());
    // Nothing is stepped by what is not finite.
    let (rivals, outcomes) = match train.flush(rivals, 0.1) {
        (rivals, Ok([StepOutcome::Skipped { .. }, _])) => {
            assert_eq!(values(&rivals)[0], before[0]);
            return;
        }
        stepped => stepped,
    };
    for outcome in outcomes.unwrap() {
        assert!(
            matches!(outcome, StepOutcome::Stepped { .. }),
            "{outcome:?}"
        );
    }
    let after = values(&rivals);
    assert!(
        after
            .iter()
            .zip(&before)
            .all(|(after, before)| after != before)
    );
    // What was accumulated is used up.
    let (_, outcomes) = train.flush(rivals, 0.1);
    assert_eq!(outcomes.unwrap(), [StepOutcome::Empty; 2]);
}

/// A parameter of either network.
fn values(rivals: &Rivals) -> [burn::tensor::TensorData; 2] {
    let generator = rivals.generator.decoder.conv2.weight.val();
    let discriminator = rivals.discriminator.conv[0].weight_orig.val();
    [generator.into_data(), discriminator.into_data()]
}

#[test]
fn a_transformer_counts_its_parameters_without_its_constants() {
    let transformer = SparseTransformer::new(1, 8, 2, 49, &Device::flex());
    // Four projections, the pooling, two norms and two linear layers.
    let wanted = 4 * (64 + 8) + (8 * 16 + 8) + 2 * 16 + (49 * 8 + 49) + (8 * 49 + 8);
    assert_eq!(transformer.num_params(), wanted);
}

#[test]
#[should_panic(expected = "frame sides must be multiples of 4 pixels, got 18×24")]
fn odd_frames_are_refused() {
    let mut input = clip(1, 1, [20, 24]);
    input.frames = input.frames.narrow(3, 0, 18);
    small().forward(input);
}

#[test]
#[should_panic(expected = "flow sides must be multiples of 8 pixels, got 20×24")]
fn odd_flows_are_refused() {
    let device = Device::flex();
    let completion = FlowCompletion::new(&device);
    completion.forward(
        Tensor::zeros([1, 1, 2, 20, 24], &device),
        Tensor::zeros([1, 1, 1, 20, 24], &device),
    );
}

#[test]
#[should_panic(expected = "local frames must be 1 to all 2, got 3")]
fn more_local_frames_than_frames_are_refused() {
    let mut input = clip(2, 2, [16, 16]);
    input.num_local = 3;
    small().forward(input);
}
