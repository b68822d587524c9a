//! Packed and streamed weights against the models that they were made of: results, files, and memory of a device with pools.

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{
    Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, ConvTranspose1d,
    ConvTranspose1dConfig, ConvTranspose2d, ConvTranspose2dConfig, ConvTranspose3d,
    ConvTranspose3dConfig,
};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, Lstm, LstmConfig};
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::precision::{Autocast, Precision};
use burn_memopt::quantize::{
    self, FloatReason, PackedWeight, QuantizeConfig, QuantizeError, Scheme, StreamedWeights,
};
use rstest::rstest;

mod blocks;
use blocks::{Block, Mlp, initialised, values};

fn flex() -> Device {
    Device::flex()
}

fn normal<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let _stream = hold_random_stream().seeded(&flex(), 7);
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &flex())
}

/// Packs every weight.
fn all(scheme: Scheme) -> QuantizeConfig {
    QuantizeConfig::new(scheme).with_kept([])
}

/// The root of the mean squared difference, as a share of that of the values.
fn deviation(got: &TensorData, wanted: &TensorData) -> f64 {
    assert_eq!(got.shape(), wanted.shape());
    let squares = got.iter::<f64>().zip(wanted.iter::<f64>());
    let sums = squares.fold([0.0, 0.0], |[difference, size], (got, wanted)| {
        [difference + (got - wanted).powi(2), size + wanted * wanted]
    });
    (sums[0] / sums[1]).sqrt()
}

/// Everything that is stored, packed words included.
fn stored<M: Module>(model: &M) -> Vec<TensorData> {
    struct Collect(Vec<TensorData>);
    impl ModuleVisitor for Collect {
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            self.0.push(param.val().into_data());
        }
    }
    let mut words = Collect(Vec::new());
    model.visit(&mut words);
    assert!(!words.0.is_empty(), "nothing is packed");
    [values(model), words.0].concat()
}

/// Packs a layer in both schemes and compares its results with those of the layer.
fn check_layer<M: Module, const D: usize>(layer: M, forward: impl Fn(&M) -> Tensor<D>) {
    let layer = initialised(layer);
    let wanted = forward(&layer).into_data();
    for (scheme, least, most) in [(Scheme::Q8, 1e-4, 0.012), (Scheme::Q4, 0.02, 0.15)] {
        let (packed, report) = all(scheme).quantize(&layer).unwrap();
        assert!(
            report.parameters.iter().any(|it| it.block.is_ok()),
            "{report}"
        );
        let deviation = deviation(&forward(&packed).into_data(), &wanted);
        assert!((least..most).contains(&deviation), "{scheme}: {deviation}");
    }
}

#[test]
fn linear_layers_attention_and_recurrent_layers_run_packed() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let layer: Linear = LinearConfig::new(64, 48).init(&flex());
    check_layer(layer, |it: &Linear| it.forward(normal([3, 64])));
    let config = MultiHeadAttentionConfig::new(32, 2).with_dropout(0.0);
    let layer: MultiHeadAttention = config.init(&flex());
    check_layer(layer, |it: &MultiHeadAttention| {
        it.forward(MhaInput::self_attn(normal([2, 5, 32]))).context
    });
    let layer: Lstm = LstmConfig::new(32, 32, true).init(&flex());
    check_layer(layer, |it: &Lstm| it.forward(normal([2, 4, 32]), None).0);
}

#[test]
fn convolutions_of_all_dimensions_run_packed() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = flex();
    let layer: Conv1d = Conv1dConfig::new(32, 16, 3).init(&device);
    check_layer(layer, |it: &Conv1d| it.forward(normal([2, 32, 9])));
    let layer: Conv2d = Conv2dConfig::new([32, 16], [3, 3]).init(&device);
    check_layer(layer, |it: &Conv2d| it.forward(normal([2, 32, 5, 6])));
    let layer: Conv2d = Conv2dConfig::new([32, 32], [3, 3])
        .with_groups(4)
        .init(&device);
    check_layer(layer, |it: &Conv2d| it.forward(normal([2, 32, 5, 6])));
    let layer: Conv3d = Conv3dConfig::new([32, 8], [3, 3, 3]).init(&device);
    check_layer(layer, |it: &Conv3d| it.forward(normal([1, 32, 4, 5, 3])));
    let layer: ConvTranspose1d = ConvTranspose1dConfig::new([32, 16], 2).init(&device);
    check_layer(layer, |it: &ConvTranspose1d| it.forward(normal([2, 32, 5])));
    let layer: ConvTranspose2d = ConvTranspose2dConfig::new([32, 16], [2, 2]).init(&device);
    check_layer(layer, |it: &ConvTranspose2d| {
        it.forward(normal([2, 32, 3, 4]))
    });
    let layer: ConvTranspose3d = ConvTranspose3dConfig::new([32, 8], [2, 2, 2]).init(&device);
    check_layer(layer, |it: &ConvTranspose3d| {
        it.forward(normal([1, 32, 3, 2, 2]))
    });
}

/// A network with a part for every reason to stay in float.
#[derive(Module, Debug)]
struct Mixed {
    words: Embedding,
    block: Block,
    odd: Linear,
    query: Param<Tensor<2>>,
    body: Linear,
    head: Linear,
}

fn mixed() -> Mixed {
    let device = flex();
    initialised(Mixed {
        words: EmbeddingConfig::new(16, 64).init(&device),
        block: Block::new(16, true, 0.0, &device),
        odd: LinearConfig::new(7, 9).init(&device),
        query: Param::from_tensor(normal([8, 64])),
        body: LinearConfig::new(64, 64).init(&device),
        head: LinearConfig::new(64, 4).init(&device),
    })
}

#[test]
fn what_stays_in_float_is_said_with_its_reason() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let (packed, report) = QuantizeConfig::new(Scheme::Q8).quantize(&mixed()).unwrap();
    let stored = |path: &str| {
        let mut found = report.parameters.iter().filter(|it| it.path == path);
        found
            .next()
            .unwrap_or_else(|| panic!("{path}: {report}"))
            .block
    };
    assert_eq!(stored("words.weight"), Err(FloatReason::Embedding));
    assert_eq!(stored("block.first.weight"), Ok(64));
    assert_eq!(stored("block.first.bias"), Err(FloatReason::OneDimension));
    assert_eq!(
        stored("block.norm.Batch.gamma"),
        Err(FloatReason::OneDimension)
    );
    let statistic = stored("block.norm.Batch.running_mean");
    assert_eq!(statistic, Err(FloatReason::Statistic));
    assert_eq!(stored("odd.weight"), Err(FloatReason::NoBlock));
    assert_eq!(stored("query"), Err(FloatReason::NotAWeight));
    assert_eq!(stored("body.weight"), Ok(64));
    assert_eq!(stored("head.weight"), Err(FloatReason::Head));
    assert_eq!(report.largest_in_use().unwrap().path, "body.weight");

    let count = |of: &dyn Fn(&FloatReason) -> bool| {
        let found = report
            .in_float()
            .into_iter()
            .filter(|(reason, ..)| of(reason));
        found.map(|(_, count, _)| count).sum::<usize>()
    };
    assert_eq!(count(&|reason| *reason == FloatReason::Statistic), 2);
    let num_packed = report
        .parameters
        .iter()
        .filter(|it| it.block.is_ok())
        .count();
    assert_eq!(count(&|_| true) + num_packed, report.parameters.len());

    // What is stored is what the report says.
    let bytes = packed.body.weight.reparameterization::<PackedWeight>();
    assert_eq!(bytes.unwrap().bytes().get(), 64 * 64 + 64 * 64 / 64 * 2 + 4);
    assert!(report.to_string().contains("float: head"), "{report}");
}

#[test]
fn weights_are_kept_by_name() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let config = QuantizeConfig::new(Scheme::Q4).with_kept(["bo*", "block.second"]);
    let (packed, report) = config.quantize(&mixed()).unwrap();
    let is_packed = |weight: Option<&PackedWeight>| weight.is_some();
    assert!(
        !is_packed(packed.body.weight.reparameterization()),
        "{report}"
    );
    assert!(!is_packed(packed.block.second.weight.reparameterization()));
    assert!(is_packed(packed.block.first.weight.reparameterization()));
    assert!(is_packed(packed.head.weight.reparameterization()));
}

#[test]
fn the_original_stays_as_it_is_with_its_statistics() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let block = Block::new(16, true, 0.0, &flex().autodiff());
    let train = |block: &Block| {
        let images = Tensor::from_inner(normal([2, 16, 8, 8]) + 3.0);
        block.forward(images.clone());
        block.forward(images);
    };
    train(&block);
    let before = values(&block);
    let (packed, _) = all(Scheme::Q4).quantize(&block).unwrap();
    assert_eq!(values(&block), before);

    // The copy has statistics of its own, which are not packed.
    let statistics = |block: &Block| {
        let norm = block.valid();
        norm.batch_norm().unwrap().running_mean.value().into_data()
    };
    assert_eq!(statistics(&packed), statistics(&block));
    let mean = statistics(&packed);
    let packed = packed.train();
    train(&packed);
    assert_ne!(statistics(&packed), mean);
    assert_eq!(values(&block), before);
}

#[rstest]
#[case(Scheme::Q8)]
#[case(Scheme::Q4)]
fn a_packed_model_is_saved_and_loaded_as_it_is(#[case] scheme: Scheme) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bpk");
    let config = QuantizeConfig::new(scheme);
    let (packed, report) = config.quantize(&mixed()).unwrap();
    quantize::save(&packed, &path).unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    // The names of the tensors come on top.
    assert!(size < report.after().get() + 8192, "{size}: {report}");

    let again = config.load(mixed(), &path).unwrap();
    assert_eq!(stored(&again), stored(&packed));
    let x = normal([3, 64]);
    let output = |model: &Mixed| model.body.forward(x.clone()).into_data();
    assert_eq!(output(&again), output(&packed));

    // Random values of weights that are loaded are not computed.
    struct CountInitialised(usize);
    impl ModuleVisitor for CountInitialised {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 += usize::from(param.is_initialized());
        }
    }
    let new = Mlp::new(64, &flex());
    let (packed, _) = all(scheme).quantize(&new).unwrap();
    quantize::save(&packed, &path).unwrap();
    let new = Mlp::new(64, &flex());
    let again = all(scheme).load(new.clone(), &path).unwrap();
    assert_eq!(stored(&again), stored(&packed));
    let mut count = CountInitialised(0);
    new.visit(&mut count);
    assert_eq!(count.0, 0, "weights of the model that was given");
}

#[test]
fn a_file_of_another_model_is_refused() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bpk");
    let (packed, _) = QuantizeConfig::new(Scheme::Q8).quantize(&mixed()).unwrap();
    quantize::save(&packed, &path).unwrap();
    let other_scheme = QuantizeConfig::new(Scheme::Q4).load(mixed(), &path);
    assert!(
        matches!(other_scheme, Err(QuantizeError::Record(_))),
        "{other_scheme:?}"
    );
    let other_weights = all(Scheme::Q8).load(mixed(), &path);
    let error = other_weights.unwrap_err();
    assert!(
        matches!(error, QuantizeError::Incomplete { .. }),
        "{error:?}"
    );
    let other_model = all(Scheme::Q8).load(Mlp::new(64, &flex()), &path);
    assert!(matches!(other_model, Err(QuantizeError::Incomplete { .. })));
    let missing = all(Scheme::Q8).load(mixed(), folder.path().join("no.bpk"));
    assert!(matches!(missing, Err(QuantizeError::Record(_))));
}

#[test]
fn wrong_use_is_named() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let (packed, _) = all(Scheme::Q8).quantize(&mixed()).unwrap();
    let error = all(Scheme::Q8).quantize(&packed).unwrap_err().to_string();
    assert!(
        error.contains("block.first.weight is reparameterized"),
        "{error}"
    );

    let error = StreamedWeights::new(&flex()).stream(packed).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("block.first.weight is reparameterized"),
        "{error}"
    );

    let config = QuantizeConfig::new(Scheme::Q8).with_kept(["head", "tail"]);
    let error = config.quantize(&mixed()).unwrap_err().to_string();
    assert!(
        error.contains("\"tail\"") && error.contains("body.weight"),
        "{error}"
    );

    let mut broken = mixed();
    broken.body.weight = broken.body.weight.map(|weight| weight / 0.0);
    let error = all(Scheme::Q8).quantize(&broken).unwrap_err().to_string();
    assert!(error.contains("body.weight has values"), "{error}");
}

#[test]
#[should_panic(expected = "quantize::save")]
fn a_record_of_burns_that_would_hold_no_values_is_not_written() {
    let (packed, _) = all(Scheme::Q8).quantize(&Mlp::new(64, &flex())).unwrap();
    packed.into_record();
}

#[test]
fn a_packed_model_becomes_a_model_in_float_again() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bpk");
    let (packed, _) = all(Scheme::Q8).quantize(&mixed()).unwrap();
    let float = packed.clone().materialize();
    float.clone().save_file(&path).unwrap();
    let again = mixed().try_load_file(&path).unwrap();
    assert_eq!(
        again.body.weight.base().into_data(),
        packed.body.weight.val().into_data()
    );
    assert_eq!(values(&again), values(&float));
    assert!(quantize::is_packed(&packed) && !quantize::is_packed(&float));
}

#[test]
fn a_view_in_half_precision_is_packed_and_computes_in_it() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let mlp = initialised(Mlp::new(64, &flex()));
    let autocast = Autocast::new(Precision::F16);
    let (packed, report) = all(Scheme::Q8).quantize(&autocast.view(&mlp)).unwrap();
    assert_eq!(packed.first.weight.val().dtype(), DType::F16);
    // Of 2 bytes a value.
    assert!((0.51..0.54).contains(&report.share()), "{report}");
    let x = normal([3, 64]);
    let output = packed.forward(autocast.cast(x.clone())).cast(DType::F32);
    assert!(deviation(&output.into_data(), &mlp.forward(x).into_data()) < 0.02);
}

#[test]
fn streamed_weights_compute_the_same_bits() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let model = initialised(Block::new(32, true, 0.0, &flex()));
    let images = normal([2, 32, 8, 8]);
    let wanted = model.forward(images.clone()).into_data();
    let before = values(&model);
    let streamed = StreamedWeights::new(&flex()).stream(model.clone());
    let (streamed, report) = streamed.unwrap();
    assert_eq!(streamed.forward(images).into_data(), wanted);
    assert_eq!(report.on_host.get(), 2 * 32 * 32 * 9 * 4);
    assert_eq!(report.largest.get(), 32 * 32 * 9 * 4);
    for (streamed, own) in [
        (&streamed.first, &model.first),
        (&streamed.second, &model.second),
    ] {
        let [streamed, own] = [streamed, own].map(|layer| layer.weight.val().into_data());
        assert_eq!(streamed, own);
    }
    assert_eq!(values(&model), before);
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use burn_memopt::memory::{Bytes, PeakMeter};

    use super::blocks::{linear_stack, run_linear_stack};
    use super::*;

    /// The pools are shared by the process.
    fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gpu() -> Option<Device> {
        blocks::gpu_device().map(Device::without_autodiff)
    }

    #[test]
    fn packed_weights_are_those_of_the_cpu() {
        let _turn = turn();
        let Some(device) = gpu() else { return };
        let mixed = mixed();
        let images = normal([2, 16, 8, 8]);
        for scheme in Scheme::ALL {
            let (packed, _) = all(scheme).quantize(&mixed).unwrap();
            // Statistics are moved in place: those of a copy.
            let moved = mixed.valid().to_device(&device);
            let (on_gpu, _) = all(scheme).quantize(&moved).unwrap();
            assert_eq!(stored(&on_gpu), stored(&packed), "{scheme}");
            let weight = |model: &Mixed| model.block.second.weight.val().into_data();
            assert_eq!(weight(&on_gpu), weight(&packed), "{scheme}");
            let output = on_gpu.block.forward(images.clone().to_device(&device));
            let wanted = packed.block.forward(images.clone());
            assert!(deviation(&output.into_data(), &wanted.into_data()) < 1e-5);
        }
    }

    #[test]
    fn packed_weights_take_their_share_of_the_device() {
        let _turn = turn();
        let Some(device) = gpu() else { return };
        let in_use = || Bytes::new(device.memory_pool_usage().unwrap().bytes_in_use);
        let before = in_use();
        let model = linear_stack(8, 512, &device);
        let plain = in_use() - before;
        let (packed, report) = all(Scheme::Q4).quantize(&model).unwrap();
        drop(model);
        run_linear_stack(&packed, normal([4, 512]).to_device(&device)).into_data();
        let share = (in_use() - before).share_of(plain).unwrap();
        assert!(share < 0.15, "{share}: {report}");
    }

    /// Twelve weights of 4 MiB within 16 MiB.
    #[test]
    fn a_model_three_times_the_budget_runs_within_it() {
        let _turn = turn();
        let Some(device) = gpu() else { return };
        let budget = Bytes::mib(16);
        let x = normal([4, 1024]);
        let model = linear_stack(12, 1024, &flex());
        let wanted = run_linear_stack(&model, x.clone()).into_data();
        let (streamed, report) = StreamedWeights::new(&device).stream(model).unwrap();
        assert_eq!(report.on_host, budget * 3);
        device.memory_cleanup();
        let reserved = || Bytes::new(device.memory_pool_usage().unwrap().bytes_reserved);
        let meter = PeakMeter::start(&device);
        let output = run_linear_stack(&streamed, x.to_device(&device)).into_data();
        let (in_use, reserved) = (meter.finish().highest().unwrap(), reserved());
        eprintln!("{in_use} in use, {reserved} reserved");
        assert!(in_use <= budget, "{in_use}");
        assert!(reserved <= budget, "{reserved}");
        let difference = output.iter::<f32>().zip(wanted.iter::<f32>());
        let largest = difference.fold(0.0_f32, |it, (a, b)| it.max((a - b).abs()));
        assert!(largest < 1e-4, "{largest}");
    }
}
