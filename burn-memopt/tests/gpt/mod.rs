//! A GPT that predicts the next byte, shared by the tests.
#![allow(dead_code, missing_docs)]

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Int, Tensor};

/// Tokens are bytes.
const VOCABULARY: usize = 256;
pub const LEN: usize = 32;

#[derive(Module, Debug)]
pub struct Gpt {
    tokens: Embedding,
    positions: Embedding,
    blocks: TransformerEncoder,
    head: Linear,
}

impl Gpt {
    pub fn new(num_blocks: usize, width: usize, device: &Device) -> Self {
        let blocks = TransformerEncoderConfig::new(width, 4 * width, 4, num_blocks);
        Self {
            tokens: EmbeddingConfig::new(VOCABULARY, width).init(device),
            positions: EmbeddingConfig::new(LEN, width).init(device),
            blocks: blocks.with_norm_first(true).with_dropout(0.0).init(device),
            head: LinearConfig::new(width, VOCABULARY).init(device),
        }
    }

    /// The loss on texts of one byte more than are read.
    pub fn loss(&self, texts: Tensor<2, Int>) -> Tensor<1> {
        let [batch_size, _] = texts.dims();
        let device = texts.device();
        let positions = Tensor::arange(0..LEN as i64, &device).unsqueeze();
        let read = texts.clone().narrow(1, 0, LEN);
        let x = self.tokens.forward(read) + self.positions.forward(positions);
        let future = generate_autoregressive_mask(batch_size, LEN, &device);
        let x = TransformerEncoderInput::new(x).mask_attn(future);
        let logits = self.head.forward(self.blocks.forward(x)).flatten(0, 1);
        let next: Tensor<1, Int> = texts.narrow(1, 1, LEN).flatten(0, 1);
        CrossEntropyLossConfig::new()
            .init(&device)
            .forward(logits, next)
    }
}

/// Made-up gradients of all parameters, of sizes that differ from one parameter to the other.
pub fn made_up_gradients<M: Module>(model: &M) -> GradientsParams {
    struct MakeUp(GradientsParams);
    impl ModuleVisitor for MakeUp {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let size = 0.1_f64.powi(self.0.len() as i32 % 4);
            let like = param.val().inner();
            let grad = like.random_like(Distribution::Normal(0.0, size));
            self.0.register(param.id, grad);
        }
    }
    let mut made_up = MakeUp(GradientsParams::new());
    model.visit(&mut made_up);
    made_up.0
}
