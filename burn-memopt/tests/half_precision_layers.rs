//! Which layers of burn run in half precision in an unedited model, measured by running them all, and
//! what `Autocast::check` says of them.
//!
//! Every test holds the random stream: segments whose draws another test disturbs are refused.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::Module;
use burn::nn::activation::ActivationConfig;
use burn::nn::attention::{MhaInput, MultiHeadAttentionConfig};
use burn::nn::conv::{
    Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig,
    ConvTranspose3dConfig, DeformConv2dConfig,
};
use burn::nn::interpolate::{Interpolate1dConfig, Interpolate2dConfig, InterpolateMode};
use burn::nn::norm::NormalizationConfig;
use burn::nn::pool::{
    AdaptiveAvgPool1dConfig, AdaptiveAvgPool2dConfig, AdaptiveAvgPool3dConfig, AvgPool1dConfig,
    AvgPool2dConfig, MaxPool1dConfig, MaxPool2dConfig,
};
use burn::nn::transformer::{
    PositionWiseFeedForwardConfig, TransformerDecoderConfig, TransformerDecoderInput,
    TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{
    BatchNormConfig, BiGruConfig, BiLstmConfig, BiRnnConfig, CosineSimilarityConfig, DropoutConfig,
    EmbeddingConfig, Fold4dConfig, GaussianNoiseConfig, GroupNormConfig, GruConfig,
    InstanceNormConfig, LayerNormConfig, LinearConfig, LocalResponseNormConfig, Lstm, LstmConfig,
    LstmState, PairwiseDistanceConfig, PixelShuffleConfig, PixelUnshuffleConfig,
    PositionalEncodingConfig, RmsNormConfig, RnnConfig, RnnState, RotaryEncodingConfig,
    Unfold4dConfig,
};
use burn::tensor::{Bool, DType, Device, Distribution, FloatDType, Int, Tensor};

use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::precision::{Autocast, AutocastPolicy, Precision, batch_norm, full_precision};

fn device() -> Device {
    Device::flex().autodiff()
}

fn half<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let values = Tensor::<D>::random(shape, Distribution::Uniform(0.1, 0.9), &device());
    values.cast(FloatDType::F16)
}

/// What a layer of burn does in an autocast view, forward and backward.
struct Trial {
    name: &'static str,
    runs: bool,
    passes_check: bool,
}

fn trial<M: Module, const D: usize>(
    name: &'static str,
    layer: M,
    forward: impl FnOnce(&M) -> Tensor<D>,
) -> Trial {
    let autocast = Autocast::new(Precision::F16);
    let passes_check = autocast.check(&layer).is_ok();
    let run = AssertUnwindSafe(|| {
        let output = forward(&autocast.view(&layer));
        assert_eq!(output.dtype(), DType::F16);
        if output.is_tracked() {
            output.cast(FloatDType::F32).sum().backward();
        }
    });
    Trial {
        name,
        runs: catch_unwind(run).is_ok(),
        passes_check,
    }
}

fn assert_listed(trials: impl IntoIterator<Item = Trial>) {
    // Without debug assertions flex mixes f16 and f32 in some operations unseen.
    if !cfg!(debug_assertions) {
        return println!("skipped: needs debug assertions");
    }
    let trials = trials.into_iter();
    let wrong = trials.filter(|trial| trial.runs != trial.passes_check);
    let wrong: Vec<_> = wrong
        .map(|trial| (trial.name, if trial.runs { "runs" } else { "fails" }))
        .collect();
    assert!(wrong.is_empty(), "in f16, unlike the list says: {wrong:?}");
}

#[test]
fn the_list_is_right_about_linear_layers_convolutions_and_what_reshapes() {
    let _stream = hold_random_stream();
    let device = &device();
    let image = || half([2, 4, 6, 6]);
    assert_listed([
        trial("Linear", LinearConfig::new(4, 3).init(device), |l| {
            l.forward(half([2, 4]))
        }),
        trial("Embedding", EmbeddingConfig::new(5, 4).init(device), |l| {
            l.forward(Tensor::<2, Int>::zeros([2, 3], device))
        }),
        trial("Conv1d", Conv1dConfig::new(4, 3, 3).init(device), |l| {
            l.forward(half([2, 4, 6]))
        }),
        trial(
            "Conv2d",
            Conv2dConfig::new([4, 3], [3, 3]).init(device),
            |l| l.forward(image()),
        ),
        trial(
            "Conv3d",
            Conv3dConfig::new([2, 3], [3, 3, 3]).init(device),
            |l| l.forward(half([1, 2, 4, 4, 4])),
        ),
        trial(
            "ConvTranspose1d",
            ConvTranspose1dConfig::new([4, 3], 3).init(device),
            |l| l.forward(half([2, 4, 6])),
        ),
        trial(
            "ConvTranspose2d",
            ConvTranspose2dConfig::new([4, 3], [3, 3]).init(device),
            |l| l.forward(image()),
        ),
        trial(
            "ConvTranspose3d",
            ConvTranspose3dConfig::new([2, 3], [3, 3, 3]).init(device),
            |l| l.forward(half([1, 2, 4, 4, 4])),
        ),
        trial(
            "DeformConv2d",
            DeformConv2dConfig::new([4, 3], [3, 3]).init(device),
            |l| l.forward(image(), half([2, 18, 4, 4]), Some(half([2, 9, 4, 4]))),
        ),
        trial("Unfold4d", Unfold4dConfig::new([2, 2]).init(), |l| {
            l.forward(image())
        }),
        trial("Fold4d", Fold4dConfig::new([3, 3], [2, 2]).init(), |l| {
            l.forward(half([1, 8, 4]))
        }),
        trial("PixelShuffle", PixelShuffleConfig::new(2).init(), |l| {
            l.forward(image())
        }),
        trial("PixelUnshuffle", PixelUnshuffleConfig::new(2).init(), |l| {
            l.forward(image())
        }),
        trial("MaxPool1d", MaxPool1dConfig::new(2).init(), |l| {
            l.forward(half([2, 4, 6]))
        }),
        trial("MaxPool2d", MaxPool2dConfig::new([2, 2]).init(), |l| {
            l.forward(image())
        }),
        trial("AvgPool1d", AvgPool1dConfig::new(2).init(), |l| {
            l.forward(half([2, 4, 6]))
        }),
        trial("AvgPool2d", AvgPool2dConfig::new([2, 2]).init(), |l| {
            l.forward(image())
        }),
        trial(
            "AdaptiveAvgPool1d",
            AdaptiveAvgPool1dConfig::new(2).init(),
            |l| l.forward(half([2, 4, 6])),
        ),
        trial(
            "AdaptiveAvgPool2d",
            AdaptiveAvgPool2dConfig::new([2, 2]).init(),
            |l| l.forward(image()),
        ),
        trial(
            "AdaptiveAvgPool3d",
            AdaptiveAvgPool3dConfig::new([2, 2, 2]).init(),
            |l| l.forward(half([1, 2, 4, 4, 4])),
        ),
        trial("Dropout", DropoutConfig::new(0.5).init(), |l| {
            l.forward(image())
        }),
        trial("GaussianNoise", GaussianNoiseConfig::new(0.5).init(), |l| {
            l.forward(image())
        }),
        trial(
            "PairwiseDistance",
            PairwiseDistanceConfig::new().init(),
            |l| l.forward(half([2, 4]), half([2, 4])),
        ),
        trial(
            "CosineSimilarity",
            CosineSimilarityConfig::new().init(),
            |l| l.forward(half([2, 4]), half([2, 4])),
        ),
    ]);
}

#[test]
fn the_list_is_right_about_interpolation() {
    let _stream = hold_random_stream();
    let mode = |mode: InterpolateMode| {
        [
            trial(
                "Interpolate1d",
                {
                    let config = Interpolate1dConfig::new().with_scale_factor(Some(2.0));
                    config.with_mode(mode.clone()).init()
                },
                |l| l.forward(half([2, 4, 6])),
            ),
            trial(
                "Interpolate2d",
                {
                    let config = Interpolate2dConfig::new().with_scale_factor(Some([2.0, 2.0]));
                    config.with_mode(mode.clone()).init()
                },
                |l| l.forward(half([2, 4, 6, 6])),
            ),
        ]
    };
    let modes = [
        InterpolateMode::Nearest,
        InterpolateMode::Linear,
        InterpolateMode::Cubic,
    ];
    assert_listed(modes.into_iter().flat_map(mode));
}

#[test]
fn the_list_is_right_about_normalization() {
    let _stream = hold_random_stream();
    let device = &device();
    let image = || half([2, 4, 6, 6]);
    let norm = |config: NormalizationConfig| config.init(device);
    assert_listed([
        trial("BatchNorm", BatchNormConfig::new(4).init(device), |l| {
            l.forward(image())
        }),
        trial(
            "a frozen BatchNorm",
            BatchNormConfig::new(4).init(device).freeze(),
            |l| l.forward(image()),
        ),
        trial(
            "Normalization::Batch",
            norm(BatchNormConfig::new(4).into()),
            |l| l.forward(image()),
        ),
        trial(
            "Normalization::Layer",
            norm(LayerNormConfig::new(6).into()),
            |l| l.forward(image()),
        ),
        trial("GroupNorm", GroupNormConfig::new(2, 4).init(device), |l| {
            l.forward(image())
        }),
        trial(
            "InstanceNorm",
            InstanceNormConfig::new(4).init(device),
            |l| l.forward(image()),
        ),
        trial(
            "InstanceNorm without parameters",
            InstanceNormConfig::new(4).with_affine(false).init(device),
            |l| l.forward(image()),
        ),
        trial("LayerNorm", LayerNormConfig::new(6).init(device), |l| {
            l.forward(image())
        }),
        trial("RmsNorm", RmsNormConfig::new(6).init(device), |l| {
            l.forward(image())
        }),
        trial(
            "LocalResponseNorm",
            LocalResponseNormConfig::new(3).init(),
            |l| l.forward(image()),
        ),
    ]);
}

#[test]
fn the_list_is_right_about_attention_and_positions() {
    let _stream = hold_random_stream();
    let device = &device();
    let tokens = || half([2, 3, 8]);
    let mask = || Tensor::<3, Bool>::tril_mask([2, 3, 3], 0, device);
    let padding = || Tensor::<2, Bool>::from_data([[false, false, true]; 2], device);
    assert_listed([
        trial(
            "PositionalEncoding",
            PositionalEncodingConfig::new(8).init(device),
            |l| l.forward(tokens()),
        ),
        trial(
            "RotaryEncoding",
            RotaryEncodingConfig::new(4, 8).init(device),
            |l| l.forward(tokens()),
        ),
        trial(
            "MultiHeadAttention",
            MultiHeadAttentionConfig::new(8, 2).init(device),
            |l| {
                l.forward(
                    MhaInput::self_attn(tokens())
                        .mask_attn(mask())
                        .mask_pad(padding()),
                )
                .context
            },
        ),
        trial(
            "MultiHeadAttention with a quiet softmax",
            {
                MultiHeadAttentionConfig::new(8, 2)
                    .with_quiet_softmax(true)
                    .init(device)
            },
            |l| l.forward(MhaInput::self_attn(tokens())).context,
        ),
        trial(
            "PositionWiseFeedForward",
            PositionWiseFeedForwardConfig::new(8, 16).init(device),
            |l| l.forward(tokens()),
        ),
        trial(
            "TransformerEncoder",
            TransformerEncoderConfig::new(8, 16, 2, 2).init(device),
            |l| {
                let input = TransformerEncoderInput::new(tokens());
                l.forward(input.mask_attn(mask()).mask_pad(padding()))
            },
        ),
        trial(
            "TransformerDecoder",
            TransformerDecoderConfig::new(8, 16, 2, 2).init(device),
            |l| {
                let input = TransformerDecoderInput::new(tokens(), tokens());
                l.forward(input.target_mask_attn(mask()).memory_mask_pad(padding()))
            },
        ),
    ]);
}

#[test]
fn the_list_is_right_about_recurrence_with_and_without_a_state() {
    let _stream = hold_random_stream();
    let device = &device();
    let tokens = || half([2, 3, 4]);
    let state = || half([2, 5]);
    let both = || half([2, 2, 5]);
    assert_listed([
        trial("Rnn", RnnConfig::new(4, 5, true).init(device), |l| {
            l.forward(tokens(), None).0
        }),
        trial(
            "Rnn from a state",
            RnnConfig::new(4, 5, true).init(device),
            |l| l.forward(tokens(), Some(RnnState::new(state()))).0,
        ),
        trial("Gru", GruConfig::new(4, 5, true).init(device), |l| {
            l.forward(tokens(), None)
        }),
        trial(
            "Gru from a state",
            GruConfig::new(4, 5, true).init(device),
            |l| l.forward(tokens(), Some(state())),
        ),
        trial("Lstm", LstmConfig::new(4, 5, true).init(device), |l| {
            l.forward(tokens(), None).0
        }),
        trial(
            "Lstm from a state",
            LstmConfig::new(4, 5, true).init(device),
            |l| {
                l.forward(tokens(), Some(LstmState::new(state(), state())))
                    .0
            },
        ),
        trial("BiRnn", BiRnnConfig::new(4, 5, true).init(device), |l| {
            l.forward(tokens(), None).0
        }),
        trial(
            "BiRnn from a state",
            BiRnnConfig::new(4, 5, true).init(device),
            |l| l.forward(tokens(), Some(RnnState::new(both()))).0,
        ),
        trial("BiGru", BiGruConfig::new(4, 5, true).init(device), |l| {
            l.forward(tokens(), None).0
        }),
        trial(
            "BiGru from a state",
            BiGruConfig::new(4, 5, true).init(device),
            |l| l.forward(tokens(), Some(both())).0,
        ),
        trial("BiLstm", BiLstmConfig::new(4, 5, true).init(device), |l| {
            l.forward(tokens(), None).0
        }),
        trial(
            "BiLstm from a state",
            BiLstmConfig::new(4, 5, true).init(device),
            |l| l.forward(tokens(), Some(LstmState::new(both(), both()))).0,
        ),
    ]);
}

#[test]
fn the_list_is_right_about_activations() {
    let _stream = hold_random_stream();
    use burn::nn::activation as a;
    let device = &device();
    let x = || half([2, 6]);
    let wrapped = [
        ActivationConfig::Identity,
        ActivationConfig::Relu,
        ActivationConfig::LeakyRelu(a::LeakyReluConfig::new()),
        ActivationConfig::Gelu,
        ActivationConfig::GeluApproximate,
        ActivationConfig::PRelu(a::PReluConfig::new()),
        ActivationConfig::SwiGlu(a::SwiGluConfig::new(6, 4)),
        ActivationConfig::HardSigmoid(a::HardSigmoidConfig::new()),
        ActivationConfig::HardSwish,
        ActivationConfig::Softplus(a::SoftplusConfig::new()),
        ActivationConfig::Selu,
        ActivationConfig::Sigmoid,
        ActivationConfig::Tanh,
        ActivationConfig::Softsign,
        ActivationConfig::Elu(a::EluConfig::new()),
        ActivationConfig::Celu(a::CeluConfig::new()),
        ActivationConfig::HardShrink(a::HardShrinkConfig::new()),
        ActivationConfig::SoftShrink(a::SoftShrinkConfig::new()),
        ActivationConfig::Shrink(a::ShrinkConfig::new()),
        ActivationConfig::ThresholdedRelu(a::ThresholdedReluConfig::new()),
    ];
    let wrapped = wrapped.map(|config| {
        let name = format!("{config:?}").leak();
        trial(name, config.init(device), |l| l.forward(x()))
    });
    let others = [
        trial("GLU", a::GLU::new(1), |l| l.forward(x())),
        trial("Hardtanh", a::HardtanhConfig::new().init(), |l| {
            l.forward(x())
        }),
        trial("LogSigmoid", a::LogSigmoid, |l| l.forward(x())),
        trial("Mish", a::Mish, |l| l.forward(x())),
        trial("RRelu", a::RReluConfig::new().init(), |l| l.forward(x())),
        trial("Relu6", a::Relu6, |l| l.forward(x())),
        trial("SiLU", a::SiLU, |l| l.forward(x())),
        trial("Tanhshrink", a::Tanhshrink, |l| l.forward(x())),
        trial("Threshold", a::ThresholdConfig::new(0.5, 0.0).init(), |l| {
            l.forward(x())
        }),
    ];
    assert_listed(wrapped.into_iter().chain(others));
}

#[test]
fn the_remedies_run_where_the_layers_do_not() {
    let _stream = hold_random_stream();
    let device = &device();
    let tokens = half([2, 3, 4]);

    let norm = BatchNormConfig::new(4).init(device);
    let policy = AutocastPolicy::default()
        .keep_type("BatchNorm")
        .keep_type("Lstm");
    let autocast = Autocast::new(Precision::F16).with_policy(policy);
    assert_eq!(
        batch_norm(&autocast.view(&norm), half([2, 4, 6, 6])).dtype(),
        DType::F16
    );

    let lstm: Lstm = LstmConfig::new(4, 5, true).init(device);
    let forward =
        |lstm: &Lstm, (x, state): (Tensor<3>, Option<LstmState<2>>)| lstm.forward(x, state);
    let view = autocast.view(&lstm);
    let (_, state) = full_precision(&view, (tokens.clone(), None), forward);
    let (y, _) = full_precision(&view, (tokens.clone(), Some(state)), forward);
    let grads = y.cast(FloatDType::F32).sum().backward();
    assert!(
        lstm.input_gate
            .input_transform
            .weight
            .grad(&grads)
            .is_some()
    );

    let positions = PositionalEncodingConfig::new(4).init(device);
    let y = full_precision(
        &autocast.view(&positions),
        tokens,
        |positions, x: Tensor<3>| positions.forward(x),
    );
    assert_eq!(y.dtype(), DType::F16);
}

#[derive(Module, Debug)]
struct Net {
    norms: Vec<burn::nn::BatchNorm>,
    speech: burn::nn::BiLstm,
    head: burn::nn::Linear,
}

fn net() -> Net {
    let device = &device();
    Net {
        norms: (0..2)
            .map(|_| BatchNormConfig::new(4).init(device))
            .collect(),
        speech: BiLstmConfig::new(4, 5, true).init(device),
        head: LinearConfig::new(4, 3).init(device),
    }
}

#[test]
fn layers_are_named_by_path_and_a_layer_inside_another_once() {
    let _stream = hold_random_stream();
    let error = Autocast::new(Precision::Bf16).check(&net()).unwrap_err();
    let found: Vec<_> = error
        .layers
        .iter()
        .map(|l| (l.path.as_str(), l.layer_type))
        .collect();
    let expected = [
        ("norms.0", "BatchNorm"),
        ("norms.1", "BatchNorm"),
        ("speech", "BiLstm"),
    ];
    assert_eq!(found, expected);
    let message = error.to_string();
    assert!(
        message.starts_with("bf16 cannot run these layers of the model:\n"),
        "{message}"
    );
    assert!(
        message.contains("- BatchNorm (norms.0, norms.1): call"),
        "{message}"
    );
    assert!(message.contains("keep_type(\"BiLstm\")"), "{message}");
}

#[test]
fn what_the_policy_names_passes_by_type_by_path_and_by_what_is_around_it() {
    let _stream = hold_random_stream();
    let check = |policy| {
        Autocast::new(Precision::F16)
            .with_policy(policy)
            .check(&net())
    };
    let policy = AutocastPolicy::default;
    assert!(check(policy()).is_err());
    assert!(check(policy().keep_type("BatchNorm").keep_type("Lstm")).is_err());
    assert!(check(policy().keep_type("BatchNorm").keep_type("BiLstm")).is_ok());
    assert!(check(policy().keep_path("norms").keep_path("speech")).is_ok());
    assert!(check(policy().keep_type("Net")).is_ok());
    assert!(Autocast::new(Precision::F32).check(&net()).is_ok());
}

#[test]
fn a_layer_of_ones_own_with_the_name_of_one_of_burns_passes() {
    let _stream = hold_random_stream();
    #[derive(Module, Debug)]
    struct Gru {
        mix: burn::nn::Linear,
    }
    let gru = Gru {
        mix: LinearConfig::new(4, 3).init(&device()),
    };
    assert!(Autocast::new(Precision::F16).check(&gru).is_ok());
}
