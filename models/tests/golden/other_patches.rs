//! Patches of other sizes, cut and summed by plain loops in f64.

use std::fs;

use crate::fill::Fill;
use crate::harness;
use crate::other_set::{OtherSet, Values};
use crate::other_sets::gelu;

/// Kernel, stride and padding of ProPainter's patches.
const KERNEL: usize = 7;
const STRIDE: usize = 3;
const PADDING: usize = 3;

/// Height and width of the images, and the patches that they have.
const SIZE: [usize; 2] = [13, 19];
const GRID: [usize; 2] = [5, 7];
const NUM_IMAGES: usize = 2;
const CHANNELS: usize = 4;
/// Values of a token between `soft_split` and `soft_comp`, and on both sides of the feed-forward layer.
const HIDDEN: usize = 9;
const WIDTH: usize = 5;
const FFN_CHANNELS: usize = 3;

fn waves(len: usize) -> Vec<f64> {
    (0..len).map(|at| (at as f64 * 0.7).sin()).collect()
}

/// Calls `visit` with the index of every pixel of the planes and of its place in the patches,
/// `[patches, channels * KERNEL * KERNEL]`.
fn each_place(channels: usize, mut visit: impl FnMut(usize, usize)) {
    let [height, width] = SIZE;
    for row in 0..GRID[0] {
        for column in 0..GRID[1] {
            for channel in 0..channels {
                for place in 0..KERNEL * KERNEL {
                    let y = (row * STRIDE + place / KERNEL).checked_sub(PADDING);
                    let x = (column * STRIDE + place % KERNEL).checked_sub(PADDING);
                    let (Some(y), Some(x)) = (y, x) else { continue };
                    if y < height && x < width {
                        let patch = row * GRID[1] + column;
                        let value = (patch * channels + channel) * KERNEL * KERNEL + place;
                        visit((channel * height + y) * width + x, value);
                    }
                }
            }
        }
    }
}

fn unfold(planes: &[f64], channels: usize) -> Vec<f64> {
    let mut patches = vec![0.0; GRID[0] * GRID[1] * channels * KERNEL * KERNEL];
    each_place(channels, |pixel, value| patches[value] = planes[pixel]);
    patches
}

fn fold(patches: &[f64], channels: usize) -> Vec<f64> {
    let mut planes = vec![0.0; channels * SIZE[0] * SIZE[1]];
    each_place(channels, |pixel, value| planes[pixel] += patches[value]);
    planes
}

/// Parameters by the fill rule.
fn filled(name: &str, shape: &[usize]) -> Vec<f64> {
    let values = Fill::new("", "").values(name, shape);
    values.into_iter().map(f64::from).collect()
}

/// A linear layer.
struct Linear {
    weight: Vec<f64>,
    bias: Vec<f64>,
}

impl Linear {
    fn new(name: &str, inputs: usize, outputs: usize) -> Self {
        Self {
            weight: filled(&format!("{name}.weight"), &[outputs, inputs]),
            bias: filled(&format!("{name}.bias"), &[outputs]),
        }
    }

    fn forward(&self, x: &[f64]) -> Vec<f64> {
        let inputs = self.weight.len() / self.bias.len();
        let token = |token: &[f64]| {
            let rows = self.weight.chunks(inputs).zip(&self.bias);
            let sums = rows.map(|(row, bias)| {
                let products = row.iter().zip(token).map(|(w, x)| w * x);
                bias + products.sum::<f64>()
            });
            sums.collect::<Vec<f64>>()
        };
        x.chunks(inputs).flat_map(token).collect()
    }
}

/// A convolution of 3×3 with a border of zeros that keeps the channels.
fn conv(name: &str, planes: &[f64]) -> Vec<f64> {
    let [height, width] = SIZE;
    let weight = filled(&format!("{name}.weight"), &[CHANNELS, CHANNELS, 3, 3]);
    let bias = filled(&format!("{name}.bias"), &[CHANNELS]);
    let pixel = |channel: usize, y: usize, x: usize| {
        let places = (0..CHANNELS * 9).filter_map(|place| {
            let y = (y + place % 9 / 3).checked_sub(1).filter(|y| *y < height)?;
            let x = (x + place % 3).checked_sub(1).filter(|x| *x < width)?;
            Some(
                weight[channel * CHANNELS * 9 + place]
                    * planes[(place / 9 * height + y) * width + x],
            )
        });
        bias[channel] + places.sum::<f64>()
    };
    let places = (0..CHANNELS * height * width)
        .map(|at| (at / height / width, at / width % height, at % width));
    places.map(|(channel, y, x)| pixel(channel, y, x)).collect()
}

/// The feed-forward layer.
struct FeedForward {
    widen: Linear,
    narrow: Linear,
    /// How many patches each pixel is in.
    counts: Vec<f64>,
}

impl FeedForward {
    /// The tokens of one image.
    fn forward(&self, tokens: &[f64]) -> Vec<f64> {
        let planes = fold(&self.widen.forward(tokens), FFN_CHANNELS).into_iter();
        let counts = self.counts.iter().cycle();
        let planes: Vec<f64> = planes.zip(counts).map(|(sum, count)| sum / count).collect();
        let patches = unfold(&planes, FFN_CHANNELS).into_iter().map(gelu);
        self.narrow.forward(&patches.collect::<Vec<f64>>())
    }

    /// The gradient of `<forward(tokens), cotangent>` by central differences.
    fn gradient(&self, tokens: &[f64], cotangent: &[f64]) -> Vec<f64> {
        const STEP: f64 = 1e-5;
        let slopes = (0..tokens.len()).map(|at| {
            let product = |by: f64| -> f64 {
                let mut tokens = tokens.to_vec();
                tokens[at] += by;
                let y = self.forward(&tokens);
                y.iter().zip(cotangent).map(|(y, c)| y * c).sum()
            };
            (product(STEP) - product(-STEP)) / (2.0 * STEP)
        });
        slopes.collect()
    }
}

#[test]
fn patches_pass_with_another_golden_set() {
    let ([height, width], [rows, columns]) = (SIZE, GRID);
    let num_patches = rows * columns;
    let values = CHANNELS * KERNEL * KERNEL;
    let x = waves(NUM_IMAGES * CHANNELS * height * width);
    let images = || x.chunks(CHANNELS * height * width);
    let patches: Vec<Vec<f64>> = images().map(|image| unfold(image, CHANNELS)).collect();
    // Channels of patches before the patches.
    let unfolded = patches.iter().flat_map(|patches| {
        (0..values).flat_map(move |value| patches.iter().skip(value).step_by(values).copied())
    });
    let folded = patches.iter().flat_map(|patches| fold(patches, CHANNELS));
    let (split, join) = (
        Linear::new("embedding", values, HIDDEN),
        Linear::new("embedding", HIDDEN, values),
    );
    let counts = fold(&vec![1.0; num_patches * KERNEL * KERNEL], 1);
    let tokens: Vec<f64> = patches
        .iter()
        .flat_map(|patches| split.forward(patches))
        .collect();
    let composed = tokens.chunks(num_patches * HIDDEN).flat_map(|tokens| {
        let patches = join.forward(tokens);
        conv("bias_conv", &fold(&patches, CHANNELS))
    });

    let hidden = FFN_CHANNELS * KERNEL * KERNEL;
    let layer = FeedForward {
        widen: Linear::new("fc1.0", WIDTH, hidden),
        narrow: Linear::new("fc2.1", hidden, WIDTH),
        counts: counts.clone(),
    };
    let ffn = waves(NUM_IMAGES * num_patches * WIDTH);
    let cotangent: Vec<f64> = waves(ffn.len()).into_iter().rev().collect();
    let pairs = || {
        ffn.chunks(num_patches * WIDTH)
            .zip(cotangent.chunks(num_patches * WIDTH))
    };
    let mixed = pairs().flat_map(|(tokens, _)| layer.forward(tokens));
    let slopes = pairs().flat_map(|(tokens, cotangent)| layer.gradient(tokens, cotangent));

    let set = OtherSet::new();
    let rule = "fill_rule.json";
    fs::copy(harness::root().join(rule), set.path().join(rule)).expect("a copy");
    let pixels = [NUM_IMAGES, CHANNELS, height, width];
    let ffn_shape = [1, NUM_IMAGES * num_patches, WIDTH];
    let tensors = [
        ("x", Values::floats(&pixels, x.iter().copied())),
        (
            "unfold",
            Values::floats(&[NUM_IMAGES, values, num_patches], unfolded),
        ),
        ("fold_of_unfold", Values::floats(&pixels, folded)),
        (
            "fold_of_ones",
            Values::floats(&[1, 1, height, width], counts.iter().copied()),
        ),
        (
            "soft_split",
            Values::floats(
                &[1, NUM_IMAGES, rows, columns, HIDDEN],
                tokens.iter().copied(),
            ),
        ),
        ("soft_comp_of_soft_split", Values::floats(&pixels, composed)),
        ("tokens", Values::floats(&ffn_shape, ffn.iter().copied())),
        (
            "cotangent",
            Values::floats(&ffn_shape, cotangent.iter().copied()),
        ),
        ("fusion_ffn", Values::floats(&ffn_shape, mixed)),
        ("grad_tokens", Values::floats(&ffn_shape, slopes)),
    ];
    set.write("prim_fold_unfold", &format!("hidden {hidden}"), tensors);
    set.check("video_operators::golden_patches_are_cut_summed_and_mixed");
}
