//! A U-Net on several devices learns what it learns on one, bit for bit.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::train::{
    DataParallel, MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss, StepOutcome,
    draw_parameters,
};
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::loss::CountLossConfig;
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig};
use rstest::rstest;

const NUM_STEPS: usize = 20;

/// Other tests draw weights, and the networks here promise that nothing is drawn. All draw the same weights.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Device::flex().seed(1);
    alone
}

fn values(model: &UNet) -> Vec<TensorData> {
    struct Collect(Vec<TensorData>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data());
        }
    }
    let mut collect = Collect(Vec::new());
    model.valid().visit(&mut collect);
    collect.0
}

fn images(number: usize, len: usize, device: &Device) -> Tensor<4> {
    let value = |at: usize| ((at * 31 + number * 97) % 211) as f32 / 211.0;
    let values: Vec<f32> = (0..len * 16 * 16).map(value).collect();
    Tensor::from_data(TensorData::new(values, [len, 1, 16, 16]), device)
}

/// The losses and the parameters of 20 steps that count the emitters of the images.
fn trained(
    mut unet: UNet,
    devices: &[Device],
    init: impl Fn() -> MicroBatchTrainer,
) -> (Vec<f64>, Vec<TensorData>) {
    let mut train = init();
    let parallel = DataParallel::new(devices, init);
    let mut parallel = parallel.expect("devices").without_randomness();
    let mut losses = Vec::new();
    for step in 0..NUM_STEPS {
        let batches = [2, 1, 3, 1].into_iter().enumerate();
        let batches = batches.map(|(number, len)| images(4 * step + number, len, &devices[0]));
        let run = |train: &mut MicroBatchTrainer, unet: &UNet, images: Tensor<4>| {
            let images = images.to_device(&unet.devices()[0]);
            train.micro_batch(unet, images.clone(), UNet::forward, |output| {
                // Nothing else uses the output, so that a fused kernel may write where it is.
                let densities = output.div_scalar(100.0);
                let loss = CountLossConfig::new().init();
                let loss = loss.forward_sum(densities, images.mul_scalar(0.01), None);
                MicroLoss::sum(loss.sum, loss.weight)
            });
        };
        let ran = parallel.micro_batches(&mut train, &unet, batches, run);
        ran.expect("no replica fails");
        let (next, outcome) = train.flush(unet, 1e-3);
        unet = next;
        match outcome {
            Ok(StepOutcome::Stepped { loss, .. }) => losses.push(loss),
            other => panic!("{other:?}"),
        }
    }
    (losses, values(&unet))
}

fn with_adamw() -> MicroBatchTrainer {
    MicroBatchTrainerConfig::new().init(AdamWConfig::new().init())
}

#[rstest]
#[case::plain(Policy::None)]
#[case::recomputed(Policy::EveryBlock)]
fn the_number_of_devices_changes_no_bit(#[case] policy: Policy) {
    let _alone = alone();
    let device = Device::flex().autodiff();
    let norm = NormKind::Group { groups: 2 };
    let unet = UNetConfig::new(1, 1)
        .with_base_channels(4)
        .with_depth(2)
        .with_norm(norm);
    let unet = unet.init(&device).with_grad_checkpoint(policy);
    draw_parameters(&unet);
    let one = trained(unet.clone(), std::slice::from_ref(&device), with_adamw);
    assert_ne!(one.1, values(&unet));
    for num_devices in [2, 3] {
        let devices = vec![device.clone(); num_devices];
        assert_eq!(trained(unet.clone(), &devices, with_adamw), one);
    }
}

/// With a GPU, software included: to rounding. Adam makes full steps of gradients that are zero but for
/// rounding, so the steps are those of SGD.
#[cfg(feature = "wgpu")]
#[test]
fn a_cpu_and_a_gpu_learn_what_the_cpu_learns() {
    let _alone = alone();
    let open = || {
        let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
        Tensor::<1>::ones([1], &device).into_data();
        device.autodiff()
    };
    let Ok(gpu) = std::panic::catch_unwind(open) else {
        eprintln!("skipped: no GPU adapter (nor software Vulkan) on this machine");
        return;
    };
    let cpu = Device::flex().autodiff();
    let unet = UNetConfig::new(1, 1)
        .with_base_channels(8)
        .with_depth(2)
        .with_norm(NormKind::Group { groups: 2 })
        .init(&cpu);
    draw_parameters(&unet);
    let with_sgd = || MicroBatchTrainerConfig::new().init(SgdConfig::new().init());
    let one = trained(unet.clone(), std::slice::from_ref(&cpu), with_sgd);
    let both = trained(unet.clone(), &[cpu, gpu.clone()], with_sgd);
    let moved = unet.valid().fork(&gpu.clone().inner()).train();
    let alone = trained(moved, &[gpu], with_sgd);
    for (losses, parameters) in [both, alone] {
        for (got, expected) in losses.iter().zip(&one.0) {
            assert!(
                (got - expected).abs() <= 1e-4 * expected,
                "{got} {expected}"
            );
        }
        // What a tensor is off by, and its norm. The gradient of a bias before a norm is a sum that nearly cancels, of
        // which rounding is a larger share: less is asked of one tensor than of all together.
        let mut all = [0.0; 2];
        for (got, expected) in parameters.iter().zip(&one.1) {
            let squares = |values: &mut dyn Iterator<Item = f32>| {
                values.map(|value| f64::from(value).powi(2)).sum::<f64>()
            };
            let off = got.iter::<f32>().zip(expected.iter::<f32>());
            let off = squares(&mut off.map(|(got, expected)| got - expected));
            let whole = squares(&mut expected.iter::<f32>());
            let share = (off / whole).sqrt();
            assert!(share <= 1e-3, "a tensor is off by a share of {share:e}");
            all = [all[0] + off, all[1] + whole];
        }
        let share = (all[0] / all[1]).sqrt();
        assert!(share <= 1e-4, "off by a share of {share:e}");
    }
}
