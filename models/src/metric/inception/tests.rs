use std::collections::BTreeMap;

use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::TensorData;
use rstest::rstest;

use super::super::features::made_up;
use super::*;
use crate::weights::WeightsError;

type State = BTreeMap<String, TensorData>;

/// Every tensor by its published name.
fn state(network: &InceptionV3) -> State {
    let tensors = network.collect(None, None, true);
    let named = tensors.iter().map(|tensor| {
        let data = bridge::to_data(tensor).expect("the data is at hand");
        (InceptionV3::state_dict_name(&tensor.name), data)
    });
    named.collect()
}

fn uniform(seed: u64, len: usize, scale: f64, shift: f64) -> impl Iterator<Item = f32> {
    let values = made_up(seed, [len, 1], scale, shift);
    (0..len).map(move |index| values.row(index)[0] as f32)
}

/// Weights made up from their names: convolutions keep the size of what passes.
fn filled(device: &Device) -> InceptionV3 {
    let network = InceptionV3::new(device);
    let tensors = state(&network).into_iter().map(|(name, data)| {
        let seed = name.bytes().fold(0_u64, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let shape = data.shape().to_vec();
        let fan = shape[1..].iter().product::<usize>() as f64;
        let (scale, shift) = match name.rsplit('.').next() {
            _ if shape.len() == 4 => (2.0 * (6.0 / fan).sqrt(), 0.0),
            Some("bias" | "running_mean") => (0.2, 0.0),
            _ => (0.5, 1.0),
        };
        let len = shape.iter().product();
        let values: Vec<f32> = uniform(seed, len, scale, shift).collect();
        (name, TensorData::new(values, shape))
    });
    let tensors: Vec<_> = tensors.collect();
    network.load_state_dict(tensors).unwrap()
}

fn images(height: usize, width: usize, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = uniform(7, 2 * 3 * height * width, 2.0, 0.0).collect();
    Tensor::from_data(TensorData::new(values, [2, 3, height, width]), device)
}

/// Eight features and the sum of all, computed in f64 with PyTorch 2.5.1 from the Inception blocks of
/// torchvision 0.20.1 with the pooling of this network. The eight change by more than 0.01 with
/// aligned corners, with averages over the padding, with average pooling in the last block, and with
/// another epsilon.
#[rstest]
#[case::enlarged(75, 61, [
    [0.0, 1.436_908, 1.508_513, 1.985_501, 0.043_74, 1.371_301, 0.013_96, 0.018_106, 1_156.22],
    [0.0, 1.452_697, 1.524_824, 2.042_122, 0.048_952, 1.391_846, 0.026_591, 0.014_272, 1_178.626],
])]
#[case::reduced(310, 333, [
    [0.0, 1.439_623, 1.498_872, 2.046_73, 0.046_928, 1.423_051, 0.005_036, 0.010_913, 1_159.605],
    [0.0, 1.470_929, 1.523_378, 2.035_128, 0.051_343, 1.442_662, 0.013_249, 0.006_131, 1_170.133],
])]
fn the_features_are_those_of_pytorch(
    #[case] height: usize,
    #[case] width: usize,
    #[case] wanted: [[f32; 9]; 2],
) {
    let device = Device::flex();
    let features = filled(&device).forward(images(height, width, &device));
    assert_eq!(features.dims(), [2, InceptionV3::FEATURES]);
    let features: Vec<f32> = features.into_data().iter().collect();
    for (features, wanted) in features.chunks(InceptionV3::FEATURES).zip(wanted) {
        let chosen = [0, 300, 500, 1000, 1200, 1600, 1900, 2047].map(|index| features[index]);
        for (got, wanted) in chosen.iter().zip(wanted) {
            assert!((got - wanted).abs() < 1e-4, "{chosen:?} is not {wanted:?}");
        }
        let sum: f32 = features.iter().sum();
        assert!((sum - wanted[8]).abs() < 0.02, "{sum} is not {}", wanted[8]);
    }
}

/// Parameters without the classifier: 94 convolutions with batch norm.
#[test]
fn names_and_sizes_are_those_of_the_published_weights() {
    let state = state(&InceptionV3::new(&Device::flex()));
    assert_eq!(state.len(), 5 * 94);
    let learned = state.iter().filter(|(name, _)| !name.contains(".running_"));
    let learned: usize = learned.map(|(_, data)| data.num_elements()).sum();
    assert_eq!(learned, 21_785_568);
    for (name, shape) in [
        ("Conv2d_1a_3x3.conv.weight", vec![32, 3, 3, 3]),
        ("Conv2d_3b_1x1.bn.running_mean", vec![80]),
        ("Mixed_5b.branch5x5_2.conv.weight", vec![64, 48, 5, 5]),
        ("Mixed_5c.branch_pool.conv.weight", vec![64, 256, 1, 1]),
        ("Mixed_6a.branch3x3.conv.weight", vec![384, 288, 3, 3]),
        ("Mixed_6b.branch7x7dbl_5.conv.weight", vec![192, 128, 1, 7]),
        ("Mixed_6e.branch7x7_3.bn.weight", vec![192]),
        ("Mixed_7a.branch7x7x3_4.conv.weight", vec![192, 192, 3, 3]),
        ("Mixed_7b.branch3x3_2a.conv.weight", vec![384, 384, 1, 3]),
        ("Mixed_7c.branch3x3dbl_3b.conv.weight", vec![384, 384, 3, 1]),
        ("Mixed_7c.branch_pool.conv.weight", vec![192, 2048, 1, 1]),
    ] {
        let data = state.get(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(data.shape().to_vec(), shape, "{name}");
    }
}

/// A batch on an autodiff device, after loading: no image changes the features of another, nothing
/// is recorded, and the statistics stay.
#[test]
fn statistics_of_the_batch_are_not_used() {
    let device = Device::flex().autodiff();
    let network = filled(&device);
    let before = state(&network);
    let images = images(75, 61, &device).require_grad();
    let both = network.forward(images.clone());
    let second = network.forward(images.narrow(0, 1, 1));
    assert!(!both.is_require_grad());
    let gap = (both.narrow(0, 1, 1) - second).abs().max();
    assert!(gap.into_scalar::<f32>() < 1e-5);
    assert_eq!(state(&network), before);
}

#[test]
fn saved_weights_give_the_same_features() {
    let device = Device::flex();
    let network = filled(&device);
    let file = tempfile::Builder::new()
        .suffix(".safetensors")
        .tempfile()
        .unwrap();
    network.save_safetensors(file.path()).unwrap();
    let loaded = InceptionV3::new(&device)
        .load_safetensors(file.path())
        .unwrap();
    let features = |network: &InceptionV3| network.forward(images(32, 32, &device)).into_data();
    assert_eq!(features(&loaded), features(&network));
}

/// The published file has the classifier too.
#[test]
fn the_classifier_is_ignored_and_a_missing_tensor_is_refused() {
    let device = Device::flex();
    let mut tensors = state(&InceptionV3::new(&device));
    let ones = |shape: &[usize]| TensorData::ones::<f32, _>(shape.to_vec());
    tensors.insert("fc.weight".into(), ones(&[1008, 2048]));
    tensors.insert("fc.bias".into(), ones(&[1008]));
    tensors.insert(
        "Mixed_5b.branch1x1.bn.num_batches_tracked".into(),
        ones(&[1]),
    );
    let load = |tensors: State| InceptionV3::new(&device).load_state_dict(tensors);
    assert!(load(tensors.clone()).is_ok());

    // The network of another release has a second classifier.
    tensors.insert("AuxLogits.fc.bias".into(), ones(&[1000]));
    tensors.remove("Mixed_7c.branch3x3_2b.bn.running_var");
    let Err(WeightsError::Mismatch { mismatch, .. }) = load(tensors) else {
        panic!("the state dict does not fit");
    };
    assert_eq!(mismatch.missing, ["Mixed_7c.branch3x3_2b.bn.running_var"]);
    assert_eq!(mismatch.unexpected, ["AuxLogits.fc.bias"]);
}

#[test]
#[should_panic(expected = "images must have 3 channels (RGB), got 1")]
fn grey_images_are_refused() {
    let device = Device::flex();
    InceptionV3::new(&device).forward(Tensor::zeros([1, 1, 8, 8], &device));
}
