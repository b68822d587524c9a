//! A U-Net on several devices learns what it learns on one, bit for bit.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::AdamWConfig;
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::train::{
    DataParallel, MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss, StepOutcome,
    draw_parameters,
};
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig};
use rstest::rstest;

const NUM_STEPS: usize = 20;

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

fn trained(mut unet: UNet, num_devices: usize) -> Vec<TensorData> {
    let device = Device::flex().autodiff();
    let config = MicroBatchTrainerConfig::new();
    let init = || config.init(AdamWConfig::new().init());
    let mut train = init();
    let parallel = DataParallel::new(&vec![device.clone(); num_devices], init);
    let mut parallel = parallel.expect("devices").without_randomness();
    for step in 0..NUM_STEPS {
        let batches = [2, 1, 3, 1].into_iter().enumerate();
        let batches = batches.map(|(number, len)| images(4 * step + number, len, &device));
        let run = |train: &mut MicroBatchTrainer, unet: &UNet, images: Tensor<4>| {
            let num_items = images.dims()[0] as f64;
            train.micro_batch(unet, images.clone(), UNet::forward, |output| {
                MicroLoss::mean((output - images).square().mean(), num_items)
            });
        };
        let ran = parallel.micro_batches(&mut train, &unet, batches, run);
        ran.expect("no replica fails");
        let (next, outcome) = train.flush(unet, 1e-3);
        unet = next;
        assert!(
            matches!(outcome, Ok(StepOutcome::Stepped { .. })),
            "{outcome:?}"
        );
    }
    values(&unet)
}

#[rstest]
#[case::plain(Policy::None)]
#[case::recomputed(Policy::EveryBlock)]
fn the_number_of_devices_changes_no_bit(#[case] policy: Policy) {
    let device = Device::flex().autodiff();
    let norm = NormKind::Group { groups: 2 };
    let unet = UNetConfig::new(1, 1)
        .with_base_channels(4)
        .with_depth(2)
        .with_norm(norm);
    let unet = unet.init(&device).with_grad_checkpoint(policy);
    draw_parameters(&unet);
    let one = trained(unet.clone(), 1);
    assert_ne!(one, values(&unet));
    for num_devices in [2, 3] {
        assert_eq!(trained(unet.clone(), num_devices), one);
    }
}
