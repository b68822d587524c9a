//! Tiled inference of a network of two convolutions: places of windows, weights, blending, padding.

use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::tanh;
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt::chunked::{Blend, Padding, SlidingWindow};
use rstest::rstest;
use serde_json::Value;

use crate::fill::Fill;
use crate::harness::{Case, Comparison, number_in};

/// Channels between the two convolutions.
const HIDDEN: usize = 6;

/// The network of all cases, convolutions of 5×5 and 3×3.
struct Toy {
    c1: Conv2d,
    c2: Conv2d,
}

impl Toy {
    /// The network from as many channels as `x` has to as many as `output` has.
    fn filled(case: &Case, output: &str, device: &Device) -> Self {
        let [inputs, outputs] = ["x", output].map(|name| case.shape(name)[1]);
        let fill = Fill::new(case.gain_table(), case.salt());
        let conv = |name: &str, channels: [usize; 2], kernel: usize| {
            let padding = PaddingConfig2d::Explicit(kernel / 2, kernel / 2, kernel / 2, kernel / 2);
            let mut conv = Conv2dConfig::new(channels, [kernel; 2])
                .with_padding(padding)
                .init(device);
            let filled = |part: &str, shape: Vec<usize>| {
                let values = fill.values(&format!("{name}.{part}"), &shape);
                TensorData::new(values, shape)
            };
            let [inputs, outputs] = channels;
            let weight = filled("weight", vec![outputs, inputs, kernel, kernel]);
            conv.weight = conv.weight.map(|_| Tensor::from_data(weight, device));
            let bias = filled("bias", vec![outputs]);
            conv.bias = conv
                .bias
                .map(|old| old.map(|_| Tensor::from_data(bias, device)));
            conv
        };
        Self {
            c1: conv("c1", [inputs, HIDDEN], 5),
            c2: conv("c2", [HIDDEN, outputs], 3),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.c2.forward(tanh(self.c1.forward(x)))
    }
}

fn window(case: &Case) -> [usize; 2] {
    ["roi/0", "roi/1"].map(|pointer| case.require(pointer) as usize)
}

fn blend(case: &Case) -> Blend {
    match case.param("mode").and_then(Value::as_str) {
        Some("gaussian") => Blend::Gaussian {
            sigma_scale: case.require("sigma_scale"),
        },
        _ => Blend::Constant,
    }
}

#[rstest]
#[case::constant("sliding_window_constant")]
#[case::gaussian("sliding_window_gaussian")]
fn golden_sliding_window_blends(#[case] name: &str) {
    let case = Case::open(name);
    let mut comparison = Comparison::new(&case);
    let device = Device::flex();
    let toy = Toy::filled(&case, "whole_image_forward", &device);
    let x = case.tensor::<4>("x", &device);
    comparison.tensor("whole_image_forward", toy.forward(x.clone()));

    let [height, width] = window(&case);
    let weights = TensorData::new(blend(&case).weights([height, width]), [height, width]);
    let weights = Tensor::<2>::from_data(weights, &device);
    comparison.tensor("importance_map", weights);

    for stored in case.names("overlap_") {
        let overlap: f64 = number_in(stored, "overlap_").expect("an overlap");
        let blend = match number_in(stored, "_sigma_") {
            Some(sigma_scale) => Blend::Gaussian { sigma_scale },
            None => blend(&case),
        };
        let windows = SlidingWindow::new([height, width])
            .with_overlap([overlap; 2])
            .with_blend(blend)
            .with_batch_size(case.require("sw_batch_size") as usize);
        let mut places = Vec::new();
        let [result] = windows.infer_many(x.clone(), |windows| {
            places.extend(windows.places);
            [toy.forward(windows.pixels)]
        });
        let starts = format!("window_starts_{stored}");
        if let Some(&starts) = case.names(&starts).first() {
            let first = places.iter().filter(|place| place.image == 0);
            let mine: Vec<i64> = first
                .flat_map(|place| [place.row as i64, place.column as i64])
                .collect();
            assert_eq!(mine, case.ints(starts), "{starts}");
        }
        comparison.tensor(stored, result);
    }
    comparison.finish();
}

#[test]
fn golden_sliding_window_tiles() {
    let case = Case::open("sliding_window_exact");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex();
    let toy = Toy::filled(&case, "overlap_anisotropic", &device);
    let x = case.tensor::<4>("x", &device);
    // The names alone say these overlaps; the sets give them no number.
    for (stored, overlap, blend) in [
        ("overlap_0_exact_tiling", [0.0; 2], Blend::Constant),
        ("overlap_anisotropic", [0.5, 0.25], Blend::GAUSSIAN),
    ] {
        let windows = SlidingWindow::new(window(&case))
            .with_overlap(overlap)
            .with_blend(blend);
        let result = windows.infer(x.clone(), |window| toy.forward(window));
        comparison.tensor(stored, result);
    }
    comparison.finish();
}

#[test]
fn golden_sliding_window_padding() {
    let case = Case::open("sliding_window_padding");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex();
    let toy = Toy::filled(&case, "constant_constant", &device);
    let x = case.tensor::<4>("x", &device);
    let value = case.stated("cval")[0] as f32;
    for stored in case.names("").into_iter().filter(|name| *name != "x") {
        let mut parts: Vec<&str> = stored.split('_').collect();
        let sides = match parts[0] {
            "window" => {
                // A window of its own, such as `window_64x64_reflect_constant`.
                let sides = parts[1].split('x');
                let sides: Vec<usize> = sides.map(|side| side.parse().expect("a side")).collect();
                parts.drain(..2);
                [sides[0], sides[1]]
            }
            _ => window(&case),
        };
        let padding = match parts[0] {
            "constant" => Padding::Value(value),
            "reflect" => Padding::Reflect,
            "replicate" => Padding::Replicate,
            "circular" => Padding::Circular,
            other => panic!("{stored}: {other}"),
        };
        let blend = match parts[1] {
            "gaussian" => Blend::GAUSSIAN,
            _ => Blend::Constant,
        };
        let windows = SlidingWindow::new(sides)
            .with_overlap([case.require("overlap"); 2])
            .with_padding(padding)
            .with_blend(blend);
        comparison.tensor(
            stored,
            windows.infer(x.clone(), |window| toy.forward(window)),
        );
    }
    comparison.finish();
}
