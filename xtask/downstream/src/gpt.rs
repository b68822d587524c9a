//! A GPT written out: twelve blocks of attention and two linear layers, with dropout.

use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear,
    LinearConfig,
};
use burn::optim::AdamConfig;
use burn::prelude::*;
use burn::tensor::activation::{gelu, softmax};
use burn_memopt::prelude::*;

use crate::Step;

const NUM_BLOCKS: usize = 12;
const NUM_SEGMENTS: usize = 4;
const NUM_WORDS: usize = 16;
const SEQUENCE_LEN: usize = 16;

#[derive(Module, Debug)]
struct Block {
    norm_1: LayerNorm,
    query_key_value: Linear,
    output: Linear,
    norm_2: LayerNorm,
    up: Linear,
    down: Linear,
    dropout: Dropout,
    num_heads: usize,
}

impl Block {
    fn init(width: usize, dropout: f64, device: &Device) -> Self {
        Self {
            norm_1: LayerNormConfig::new(width).init(device),
            query_key_value: LinearConfig::new(width, 3 * width).init(device),
            output: LinearConfig::new(width, width).init(device),
            norm_2: LayerNormConfig::new(width).init(device),
            up: LinearConfig::new(width, 4 * width).init(device),
            down: LinearConfig::new(4 * width, width).init(device),
            dropout: DropoutConfig::new(dropout).init(),
            num_heads: 4,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.dropout.forward(self.attention(self.norm_1.forward(x)));
        let up = gelu(self.up.forward(self.norm_2.forward(x.clone())));
        x + self.dropout.forward(self.down.forward(up))
    }

    fn attention(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch_size, len, width] = x.dims();
        let head_width = width / self.num_heads;
        let projected = self.query_key_value.forward(x).chunk(3, 2).into_iter();
        let mut heads = projected.map(|part| {
            let part = part.reshape([batch_size, len, self.num_heads, head_width]);
            part.swap_dims(1, 2)
        });
        let mut next = || heads.next().expect("three parts");
        let (query, key, value) = (next(), next(), next());
        let scores = query.matmul(key.transpose()) / (head_width as f64).sqrt();
        let mask = generate_autoregressive_mask(batch_size, len, &scores.device());
        let scores = scores.mask_fill(mask.unsqueeze_dim(1), -1e4);
        // In f32 whatever the rest is in.
        let weights = full_precision(&self.dropout, scores, |dropout, scores: Tensor<4>| {
            dropout.forward(softmax(scores, 3))
        });
        let mixed = weights.matmul(value);
        self.output
            .forward(mixed.swap_dims(1, 2).reshape([batch_size, len, width]))
    }
}

#[derive(Module, Debug)]
struct Gpt {
    words: Embedding,
    places: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Gpt {
    fn init(dropout: f64, device: &Device) -> Self {
        let width = 32;
        Self {
            words: EmbeddingConfig::new(NUM_WORDS, width).init(device),
            places: EmbeddingConfig::new(SEQUENCE_LEN, width).init(device),
            blocks: (0..NUM_BLOCKS)
                .map(|_| Block::init(width, dropout, device))
                .collect(),
            norm: LayerNormConfig::new(width).init(device),
            head: LinearConfig::new(width, NUM_WORDS).init(device),
        }
    }

    /// Logits `[batch_size, sequence_len, num_words]`, with the blocks run by `run`.
    fn forward(
        &self,
        words: Tensor<2, Int>,
        run: impl FnOnce(&[Block], Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let [_, len] = words.dims();
        let places = Tensor::arange(0..len as i64, &words.device()).unsqueeze();
        let x = self.words.forward(words) + self.places.forward(places);
        self.head.forward(self.norm.forward(run(&self.blocks, x)))
    }

    fn plain(&self, words: Tensor<2, Int>) -> Tensor<3> {
        self.forward(words, |blocks, x| {
            blocks.iter().fold(x, |x, block| block.forward(x))
        })
    }

    fn in_segments(&self, words: Tensor<2, Int>) -> Tensor<3> {
        let block = |block: &Block, x: Tensor<3>| block.forward(x);
        self.forward(words, |blocks, x| {
            checkpoint_sequential(blocks, NUM_SEGMENTS, x, block)
        })
    }
}

/// Sequences in which each word decides the next one: the words, and those that follow them.
fn batch(batch_size: usize, number: usize, device: &Device) -> (Tensor<2, Int>, Tensor<1, Int>) {
    let starts = (0..batch_size).map(|start| 5 * start + number);
    let words = starts.flat_map(|start| {
        let next = |word: &usize| Some((3 * word + 1) % NUM_WORDS);
        std::iter::successors(Some(start % NUM_WORDS), next).take(SEQUENCE_LEN + 1)
    });
    let words = words.map(|word| word as i64).collect();
    let words = TensorData::new::<i64, _>(words, [batch_size, SEQUENCE_LEN + 1]);
    let words = Tensor::<2, Int>::from_data(words, device);
    let next = words.clone().narrow(1, 1, SEQUENCE_LEN);
    (words.narrow(1, 0, SEQUENCE_LEN), next.flatten(0, 1))
}

fn loss(logits: Tensor<3>, next: Tensor<1, Int>) -> Tensor<1> {
    let cross_entropy = CrossEntropyLossConfig::new().init(&logits.device());
    cross_entropy.forward(logits.flatten(0, 1), next)
}

/// Twelve blocks in four segments have the gradients of the plain path, bit for bit, at a lower peak.
pub fn segments_give_the_plain_gradients(device: &Device) {
    let model = Gpt::init(0.0, device);
    let (words, next) = batch(16, 0, device);
    model.plain(words.clone()); // draws the parameters
    let plain = Step::run(&model, device, |model| {
        loss(model.plain(words.clone()), next.clone())
    });
    let segments = Step::run(&model, device, |model| {
        loss(model.in_segments(words.clone()), next.clone())
    });
    assert!(
        segments.distance(&plain) == 0.0,
        "the gradients of segments are the plain ones"
    );
    assert!(
        segments.peak * 2 < plain.peak,
        "{} of {}",
        segments.peak,
        plain.peak
    );
    println!(
        "GPT in {NUM_SEGMENTS} segments: peak {} of {}",
        segments.peak, plain.peak
    );
}

/// With dropout, in f16, in segments and out of micro-batches it learns.
pub fn half_precision_trains(device: &Device) {
    let mut model = Gpt::init(0.1, device);
    let mut train = MicroBatchTrainerConfig::new()
        .with_precision(Precision::F16)
        .with_accumulation_steps(2)
        .with_clipping(Some(Clipping::Norm(1.0)))
        .init(AdamConfig::new().init());
    let mut losses = Vec::new();
    for number in 0..60 {
        let (words, next) = batch(2, number, device);
        train.micro_batch(
            &model,
            words,
            |half, words| half.in_segments(words),
            |logits| {
                let num_words = next.dims()[0];
                MicroLoss::mean(loss(logits, next), num_words as f64)
            },
        );
        let (stepped, outcome) = train.step(model, 3e-3);
        model = stepped;
        if let StepOutcome::Stepped { loss, .. } = outcome.expect("the step is finite") {
            losses.push(loss);
        }
    }
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last < 0.7 * first, "the loss falls: {losses:?}");
    println!(
        "GPT in f16: loss {first:.3}, after {} steps {last:.3}",
        losses.len()
    );
}
