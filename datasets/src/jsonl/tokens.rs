//! Texts as token numbers of one length, by the `tokenizers` crate.

use std::path::{Path, PathBuf};

use burn::config::Config;
use tokenizers::{
    EncodeInput, PaddingDirection, PaddingParams, PaddingStrategy, PostProcessor, Tokenizer,
    TruncationParams,
};

/// Tokens that padding is looked for under where a tokenizer names none.
const PAD_TOKENS: [&str; 3] = ["[PAD]", "<pad>", "<|pad|>"];

/// How texts are brought to one length.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct TokensConfig {
    /// Tokens of every text, special ones included: longer texts are cut, shorter ones filled.
    pub length: usize,
    /// Number that fills. The default is `None`: that of the tokenizer's own padding, or
    /// else of the token `[PAD]`, `<pad>` or `<|pad|>`.
    pub pad_id: Option<u32>,
    /// Adds the tokens that the tokenizer puts around texts, as `[CLS]` and `[SEP]`. The
    /// default is `true`.
    #[config(default = true)]
    pub add_special_tokens: bool,
}

/// A text, or two, as numbers; all lists have the configured length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Numbers of the tokens: `[length]`.
    pub input_ids: Vec<u32>,
    /// 1 on tokens and 0 on what fills: `[length]`.
    pub attention_mask: Vec<u8>,
    /// What the tokenizer says of which text a token comes from, in general 0 for the first and 1
    /// for the second: `[length]`.
    pub type_ids: Vec<u8>,
}

/// Why texts could not be made tokens.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum TokensError {
    /// The file of the tokenizer cannot be read.
    #[error("cannot read the tokenizer {path}: it must be a whole `tokenizer.json`", path = .path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: tokenizers::Error,
    },
    /// There is nothing to fill with.
    #[error("the tokenizer has no padding and none of the tokens {tokens}: choose the token that fills texts up", tokens = PAD_TOKENS.join(", "))]
    NoPadToken,
    /// The special tokens leave no room for texts.
    #[error(
        "a length of {length} tokens leaves no room for texts: {special} special tokens are around two of them; choose a greater length"
    )]
    TooShort {
        /// The configured length.
        length: usize,
        /// Special tokens around two texts.
        special: usize,
    },
    /// A text cannot be made tokens.
    #[error("a text of {len} bytes cannot be made tokens: check that the tokenizer is whole")]
    Encode {
        /// Bytes of the text, or of both.
        len: usize,
        /// Why it failed.
        #[source]
        source: tokenizers::Error,
    },
}

/// Makes texts tokens, cut and filled to one length.
///
/// Costs the memory of its vocabulary. Shared by threads, none of which waits for another.
/// Where the tokenizer says on which side to cut and to fill, that is done; else on the
/// right. Of two texts the longer is cut first.
///
/// # Example
/// ```
/// use burn_memopt_datasets::jsonl::tokens::{PaddedTokenizer, TokensConfig};
///
/// let json = r#"{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"},
///     "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"[PAD]": 0, "?": 1, "red": 2}}}"#;
/// let tokenizer = PaddedTokenizer::new(json.parse()?, TokensConfig::new(4))?;
/// let tokens = tokenizer.encode("red square")?;
/// assert_eq!(tokens.input_ids, [2, 1, 0, 0]);
/// assert_eq!(tokens.attention_mask, [1, 1, 0, 0]);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Debug, Clone)]
pub struct PaddedTokenizer {
    tokenizer: Tokenizer,
    config: TokensConfig,
}

impl PaddedTokenizer {
    /// Reads a `tokenizer.json`, as models are published with.
    ///
    /// # Errors
    /// If the file cannot be read, or as [`new`](Self::new).
    pub fn open(path: impl AsRef<Path>, config: TokensConfig) -> Result<Self, TokensError> {
        let path = path.as_ref();
        let tokenizer = Tokenizer::from_file(path).map_err(|source| TokensError::Load {
            path: path.into(),
            source,
        })?;
        Self::new(tokenizer, config)
    }

    /// Takes a tokenizer over; its own lengths of cutting and filling are replaced.
    ///
    /// # Errors
    /// If nothing is there to fill with, or `length` leaves no room for texts.
    pub fn new(mut tokenizer: Tokenizer, config: TokensConfig) -> Result<Self, TokensError> {
        let length = config.length;
        let around = tokenizer.get_post_processor();
        // Counted even where they are not added: the tokenizer does so as well.
        let special = around.map_or(0, |around| around.added_tokens(true));
        if length <= special {
            return Err(TokensError::TooShort { length, special });
        }
        let own_padding = tokenizer.get_padding().cloned();
        let pad_id = config
            .pad_id
            .or(own_padding.as_ref().map(|padding| padding.pad_id))
            .or_else(|| {
                PAD_TOKENS
                    .iter()
                    .find_map(|token| tokenizer.token_to_id(token))
            })
            .ok_or(TokensError::NoPadToken)?;
        let direction = own_padding.map_or(PaddingDirection::Right, |padding| padding.direction);
        let own_truncation = tokenizer.get_truncation().cloned().unwrap_or_default();
        let truncated = tokenizer.with_truncation(Some(TruncationParams {
            direction: own_truncation.direction,
            max_length: length,
            ..TruncationParams::default()
        }));
        truncated.map_err(|source| TokensError::Encode { len: 0, source })?;
        tokenizer.with_padding(Some(PaddingParams {
            strategy: PaddingStrategy::Fixed(length),
            direction,
            pad_id,
            ..PaddingParams::default()
        }));
        Ok(Self { tokenizer, config })
    }

    /// Makes a text tokens.
    ///
    /// # Errors
    /// If the tokenizer refuses it, as one without an unknown token does with unknown words.
    pub fn encode(&self, text: &str) -> Result<Tokens, TokensError> {
        self.tokens(text.into(), text.len())
    }

    /// Makes a question and its answer tokens, as the tokenizer joins two texts.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_pair(&self, question: &str, answer: &str) -> Result<Tokens, TokensError> {
        let len = question.len() + answer.len();
        self.tokens((question, answer).into(), len)
    }

    fn tokens(&self, input: EncodeInput<'_>, len: usize) -> Result<Tokens, TokensError> {
        let encoding = self
            .tokenizer
            .encode_fast(input, self.config.add_special_tokens)
            .map_err(|source| TokensError::Encode { len, source })?;
        let small = |numbers: &[u32]| numbers.iter().map(|number| *number as u8).collect();
        Ok(Tokens {
            input_ids: encoding.get_ids().to_vec(),
            attention_mask: small(encoding.get_attention_mask()),
            type_ids: small(encoding.get_type_ids()),
        })
    }
}

#[cfg(test)]
mod tests;
