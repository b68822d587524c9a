use burn::module::{Module, Param, ParamId};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::module::attention;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Int, Tensor};
use burn_memopt::nn::conv2d;

use super::windows::{Holes, WINDOW_LEN, Windows, outside};
use crate::projection::Projection;
use crate::propainter::layers::{at_once, fitting, side_by_side, stage};

/// Tokens on a side of what one pooled token stands for.
const POOL: usize = 4;

/// Attention within windows of 5×9 tokens, sparse in space and time: a window with a hole attends
/// to every other frame, to the tokens around it and to pooled tokens of the whole map; a window
/// without a hole to itself alone, frame by frame.
///
/// Peak memory is that of as many windows as fit a bound, besides the tokens, and keys and values
/// of every other frame.
///
/// # References
/// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.4.
#[derive(Module, Debug)]
pub struct SparseWindowAttention {
    query: Projection,
    pub key: Projection,
    value: Projection,
    proj: Projection,
    /// Pools 4×4 tokens, channel by channel.
    pool_layer: Conv2d,
    /// Which tokens of the four rolled copies of a window are outside it: a constant `[148]`.
    valid_ind_rolled: Param<Tensor<1, Int>>,
    heads: usize,
    pub(super) recompute: bool,
}

impl SparseWindowAttention {
    pub(super) fn new(width: usize, heads: usize, device: &Device) -> Self {
        assert!(
            width.is_multiple_of(heads),
            "the width of a token must be a multiple of the {heads} heads, got {width}"
        );
        let projection = || Projection::new([width, width], device);
        let pool = Conv2dConfig::new([width, width], [POOL, POOL])
            .with_stride([POOL, POOL])
            .with_groups(width);
        Self {
            query: projection(),
            key: projection(),
            value: projection(),
            proj: projection(),
            pool_layer: pool.init(device),
            valid_ind_rolled: Param::initialized(ParamId::new(), indices(outside(), device)),
            heads,
            recompute: false,
        }
    }

    /// Attends; keys and values are those of `first_frame` and every other frame from there.
    ///
    /// As many windows are done at a time as fit into `bytes`, at least one.
    ///
    /// # Shapes
    /// - x and output: `[batch_size, frames, rows, columns, width]`
    ///
    /// # Exactness
    /// Windows do not see each other's results: any number at a time gives the same, to the
    /// rounding of differently shaped products.
    pub fn forward(
        &self,
        x: Tensor<5>,
        holes: &Holes,
        first_frame: usize,
        bytes: usize,
    ) -> Tensor<5> {
        let [batch_size, frames, rows, columns, width] = x.dims();
        let windows = holes.windows();
        let device = x.device();
        let below_and_right = [
            (0, windows.rows - rows),
            (0, windows.columns - columns),
            (0, 0),
        ];
        let x = x.pad(below_and_right, PadMode::Constant(0.0));
        let at_once = at_once(&x);
        let mut results = Vec::new();
        let keys = (!holes.broken.is_empty()).then(|| {
            // A single frame has nothing but itself to attend to.
            let first = if first_frame < frames { first_frame } else { 0 };
            self.keys(x.clone(), first)
        });
        let tokens = by_place(x);
        if let Some(keys) = keys {
            let each = self.broken_bytes(&tokens, &keys);
            let parts = holes.broken.chunks(fitting(each, bytes / at_once));
            results.extend(side_by_side(at_once, parts.collect(), |part| {
                self.attend_around(&tokens, &keys, part, windows)
            }));
        }
        let each = self.intact_bytes(&tokens);
        let parts = holes.intact.chunks(fitting(each, bytes / at_once));
        results.extend(side_by_side(at_once, parts.collect(), |part| {
            self.attend_within(&tokens, part, windows)
        }));
        drop(tokens);
        let places = Tensor::<1, Int>::from_data(&holes.places()[..], &device);
        let y = Tensor::cat(results, 0).select(0, places);
        let y = y.reshape([batch_size, rows, columns, frames, width]);
        self.proj.forward(y.permute([0, 3, 1, 2, 4]))
    }

    /// Keys and values of every token and every pooled token, of every other frame.
    fn keys(&self, x: Tensor<5>, first_frame: usize) -> Keys {
        let [batch_size, frames, rows, columns, width] = x.dims();
        let every_other =
            Tensor::<1, Int>::arange_step(first_frame as i64..frames as i64, 2, &x.device());
        let x = x.select(1, every_other);
        let frames = x.dims()[1];
        let maps = x
            .clone()
            .reshape([batch_size * frames, rows, columns, width]);
        let pooled = conv2d(&self.pool_layer, maps.permute([0, 3, 1, 2]));
        let [_, _, pooled_rows, pooled_columns] = pooled.dims();
        let num_pooled = pooled_rows * pooled_columns;
        let pooled = pooled
            .reshape([batch_size, frames, width, num_pooled])
            .permute([0, 3, 1, 2]);
        let own = x
            .permute([0, 2, 3, 1, 4])
            .reshape([batch_size, rows * columns, frames, width]);
        let tokens = Tensor::cat(vec![own, pooled], 1);
        let len = rows * columns + num_pooled;
        let tokens = tokens.reshape([batch_size * len, frames, width]);
        Keys {
            key: self.key.forward(tokens.clone()),
            value: self.value.forward(tokens),
            num_pooled,
        }
    }

    /// Attention of windows with a hole.
    fn attend_around(
        &self,
        tokens: &Tensor<3>,
        keys: &Keys,
        part: &[[usize; 2]],
        windows: Windows,
    ) -> Tensor<3> {
        let device = tokens.device();
        let [_, frames, width] = tokens.dims();
        let query = self.query.forward(own(tokens, part, windows));
        // Where the tokens and pooled tokens of a batch item begin.
        let len = windows.num_tokens() + keys.num_pooled;
        let at = |place: fn(Windows, usize) -> Vec<usize>| {
            let places = part.iter().flat_map(|&[item, number]| {
                let places = place(windows, number).into_iter();
                places.map(move |token| item * len + token)
            });
            let places: Tensor<1, Int> = indices(places.collect(), &device);
            places.reshape([part.len() as i64, -1])
        };
        let around = at(|windows, number| windows.rolled(number).collect());
        let around = around.select(1, self.valid_ind_rolled.val());
        let mine = at(|windows, number| windows.own(number).collect());
        let pooled = part.iter().flat_map(|&[item, _]| {
            let first = item * len + windows.num_tokens();
            first..first + keys.num_pooled
        });
        let pooled: Tensor<1, Int> = indices(pooled.collect(), &device);
        let pooled = pooled.reshape([part.len(), keys.num_pooled]);
        let places = Tensor::cat(vec![mine, around, pooled], 1).flatten(0, 1);
        let key = keys.key.clone().select(0, places.clone());
        let value = keys.value.clone().select(0, places);
        let result = self.attend([query, key, value], part.len());
        result.reshape([part.len() * WINDOW_LEN, frames, width])
    }

    /// Attention of windows without a hole.
    fn attend_within(
        &self,
        tokens: &Tensor<3>,
        part: &[[usize; 2]],
        windows: Windows,
    ) -> Tensor<3> {
        let [_, frames, width] = tokens.dims();
        let x = own(tokens, part, windows);
        let count = part.len() * frames;
        let by_frame = |x: Tensor<3>| {
            let x = x.reshape([part.len(), WINDOW_LEN, frames, width]);
            x.swap_dims(1, 2).reshape([count * WINDOW_LEN, 1, width])
        };
        let all = [
            by_frame(self.query.forward(x.clone())),
            by_frame(self.key.forward(x.clone())),
            by_frame(self.value.forward(x)),
        ];
        let result = self.attend(all, count);
        let result = result.reshape([part.len(), frames, WINDOW_LEN, width]);
        let result = result.swap_dims(1, 2);
        result.reshape([part.len() * WINDOW_LEN, frames, width])
    }

    /// Attention within each of `batch_size` parts of queries, keys and values, which are
    /// `[batch_size * places, frames, width]`: `[batch_size, tokens, heads, width / heads]`.
    ///
    /// The scores are by far the largest of what a block computes.
    fn attend(&self, all: [Tensor<3>; 3], batch_size: usize) -> Tensor<4> {
        stage(self.recompute, &self.heads, all, move |&heads, all| {
            let [query, key, value] = all.map(|x| split(x, batch_size, heads));
            let result = attention(query, key, value, None, None, Default::default());
            result.swap_dims(1, 2)
        })
    }

    /// What one window with a hole needs: queries, keys, values, twice each for their heads, and
    /// the scores before and after softmax.
    fn broken_bytes(&self, tokens: &Tensor<3>, keys: &Keys) -> usize {
        let [_, frames, width] = tokens.dims();
        let [_, key_frames, _] = keys.key.dims();
        let around = self.valid_ind_rolled.dims()[0];
        let num_keys = (WINDOW_LEN + around + keys.num_pooled) * key_frames;
        let num_queries = WINDOW_LEN * frames;
        let scores = self.heads * num_queries * num_keys;
        2 * size_of::<f32>() * (scores + width * (2 * num_keys + 2 * num_queries))
    }

    /// What one window without a hole needs.
    fn intact_bytes(&self, tokens: &Tensor<3>) -> usize {
        let [_, frames, width] = tokens.dims();
        let scores = self.heads * WINDOW_LEN * WINDOW_LEN;
        2 * size_of::<f32>() * frames * (scores + 4 * WINDOW_LEN * width)
    }
}

/// Keys and values by place, for all batch items: the tokens, then the pooled tokens of each.
struct Keys {
    /// `[batch_size * (tokens + num_pooled), frames, width]`.
    key: Tensor<3>,
    /// As the keys.
    value: Tensor<3>,
    num_pooled: usize,
}

/// Tokens by place: `[batch_size * rows * columns, frames, width]`.
fn by_place(x: Tensor<5>) -> Tensor<3> {
    let [batch_size, frames, rows, columns, width] = x.dims();
    let x = x.permute([0, 2, 3, 1, 4]);
    x.reshape([batch_size * rows * columns, frames, width])
}

/// The tokens of some windows, one window after the other.
fn own(tokens: &Tensor<3>, part: &[[usize; 2]], windows: Windows) -> Tensor<3> {
    let places = part.iter().flat_map(|&[item, number]| {
        let first = item * windows.num_tokens();
        windows.own(number).map(move |token| first + token)
    });
    let places = indices(places.collect(), &tokens.device());
    tokens.clone().select(0, places)
}

/// Splits `[batch_size * places, frames, width]` into heads:
/// `[batch_size, heads, places * frames, width / heads]`.
fn split(x: Tensor<3>, batch_size: usize, heads: usize) -> Tensor<4> {
    let [places, frames, width] = x.dims();
    let tokens = places / batch_size * frames;
    let x = x.reshape([batch_size, tokens, heads, width / heads]);
    x.swap_dims(1, 2)
}

fn indices(values: Vec<usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.into_iter().map(|value| value as i64).collect();
    Tensor::from_data(&values[..], device)
}
