use burn::{
    module::Module,
    nn::{
        Dropout, DropoutConfig, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear,
        LinearConfig,
        attention::{
            MhaInput, MultiHeadAttention, MultiHeadAttentionConfig, generate_autoregressive_mask,
        },
        loss::CrossEntropyLossConfig,
    },
    optim::GradientsParams,
    tensor::{Device, Distribution, Int, Tensor, activation::gelu},
};
use burn_memopt::{chunked::BoxError, grad_checkpoint::Policy};

use crate::bench::{Bench, Variant};

const NUM_BLOCKS: usize = 12;
const D_MODEL: usize = 128;
const NUM_HEADS: usize = 4;
const BATCH_SIZE: usize = 4;
const LEN: usize = 128;
/// Tokens are bytes.
const VOCABULARY: usize = 256;
const ROUNDS: usize = 7;

/// Causal self-attention and a feed-forward layer, each normalised before and around a residual.
#[derive(Module, Debug)]
struct Block {
    attention_norm: LayerNorm,
    attention: MultiHeadAttention,
    feed_forward_norm: LayerNorm,
    expand: Linear,
    contract: Linear,
    dropout: Dropout,
}

impl Block {
    fn new(width: usize, dropout: f64, device: &Device) -> Self {
        let norm = LayerNormConfig::new(width);
        let attention = MultiHeadAttentionConfig::new(width, NUM_HEADS).with_dropout(dropout);
        Self {
            attention_norm: norm.init(device),
            attention: attention.init(device),
            feed_forward_norm: norm.init(device),
            expand: LinearConfig::new(width, 4 * width).init(device),
            contract: LinearConfig::new(4 * width, width).init(device),
            dropout: DropoutConfig::new(dropout).init(),
        }
    }

    /// Runs the block.
    ///
    /// # Shapes
    /// - x and output: `[batch_size, len, width]`
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch_size, len, _] = x.dims();
        let future = generate_autoregressive_mask(batch_size, len, &x.device());
        let y = MhaInput::self_attn(self.attention_norm.forward(x.clone())).mask_attn(future);
        let x = x + self.dropout.forward(self.attention.forward(y).context);
        let y = gelu(
            self.expand
                .forward(self.feed_forward_norm.forward(x.clone())),
        );
        x + self.dropout.forward(self.contract.forward(y))
    }

    /// Draws the masks of a forward pass and nothing else.
    fn draw_masks(&self, x: &Tensor<3>) {
        let [batch_size, len, _] = x.dims();
        let maps = Tensor::<4>::zeros([batch_size, NUM_HEADS, len, len], &x.device());
        let kept = Distribution::Bernoulli(1.0 - self.dropout.prob);
        drop(maps.random_like(kept));
        drop(x.random_like(kept));
        drop(x.random_like(kept));
    }
}

/// A GPT that predicts the next byte.
#[derive(Module, Debug)]
pub(crate) struct Gpt {
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Gpt {
    pub(crate) fn new(width: usize, dropout: f64, device: &Device) -> Self {
        Self {
            tokens: EmbeddingConfig::new(VOCABULARY, width).init(device),
            positions: EmbeddingConfig::new(LEN, width).init(device),
            blocks: (0..NUM_BLOCKS)
                .map(|_| Block::new(width, dropout, device))
                .collect(),
            norm: LayerNormConfig::new(width).init(device),
            head: LinearConfig::new(width, VOCABULARY).init(device),
        }
    }

    fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [_, len] = tokens.dims();
        let positions = Tensor::arange(0..len as i64, &tokens.device()).unsqueeze();
        self.tokens.forward(tokens) + self.positions.forward(positions)
    }

    fn loss(&self, x: Tensor<3>, next: Tensor<2, Int>) -> Tensor<1> {
        let logits = self.head.forward(self.norm.forward(x)).flatten(0, 1);
        let next: Tensor<1, Int> = next.flatten(0, 1);
        let cross_entropy = CrossEntropyLossConfig::new().init(&logits.device());
        cross_entropy.forward(logits, next)
    }
}

/// The network and a batch of texts, one byte longer than the network reads.
struct Workload {
    gpt: Gpt,
    texts: Tensor<2, Int>,
    device: Device,
}

impl Workload {
    fn new(dropout: f64, bench: &Bench) -> Self {
        let device = bench.device.clone().autodiff();
        device.seed(0);
        let bytes = Distribution::Uniform(0.0, VOCABULARY as f64);
        Self {
            gpt: Gpt::new(D_MODEL, dropout, &device),
            texts: Tensor::random([BATCH_SIZE, LEN + 1], bytes, &device),
            device,
        }
    }

    fn step(&self, policy: Policy) -> GradientsParams {
        let x = self.gpt.embed(self.texts.clone().narrow(1, 0, LEN));
        let x = policy.run(&self.gpt.blocks, x, |block: &Block, x| block.forward(x));
        let loss = self.gpt.loss(x, self.texts.clone().narrow(1, 1, LEN));
        GradientsParams::from_grads(loss.backward(), &self.gpt)
    }

    /// The masks of one forward pass, drawn alone: what recomputing dropout adds to recomputing the rest.
    fn draw_masks(&self) -> GradientsParams {
        let device = self.device.clone().inner();
        let x = Tensor::zeros([BATCH_SIZE, LEN, D_MODEL], &device);
        for block in &self.gpt.blocks {
            block.draw_masks(&x);
        }
        GradientsParams::new()
    }
}

/// Every block recomputed, with dropout.
pub(crate) fn block(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Workload::new(0.1, bench);
    let variants = [
        Variant::new("plain", || work.step(Policy::None)),
        // Each run draws masks of its own.
        Variant::new("block", || work.step(Policy::EveryBlock)).with_other_gradients(),
        Variant::new("masks", || work.draw_masks()).with_other_gradients(),
    ];
    bench.steps(&work.gpt, ROUNDS, &variants);
    Ok(())
}

/// The same without dropout.
pub(crate) fn block_without_dropout(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Workload::new(0.0, bench);
    let variants = [
        Variant::new("plain", || work.step(Policy::None)),
        Variant::new("block", || work.step(Policy::EveryBlock)),
    ];
    bench.steps(&work.gpt, ROUNDS, &variants);
    Ok(())
}
