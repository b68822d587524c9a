//! The settings of models that train on tiles of their images.

use clap::{ArgAction, Args, Command};
use serde::Serialize;

use crate::choices::{ChunkSizeChoice, checkpoint};

/// Training on tiles of images.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct TilingSettings {
    /// Train on tiles of every image, a few at a time, with the gradient of the whole image: memory does not grow with
    /// the image. For --norm channel, none, or batch with --freeze-norm.
    #[arg(long, value_name = "BOOL", help_heading = "Memory", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false)]
    pub use_chunking: bool,
    /// Height and width that a tile keeps, in pixels, or auto: by --budget where there is one, else by what is free, with the least
    /// time that margins and recomputation take, up to 1024. A margin as wide as the network reaches comes on top.
    #[arg(long, value_name = "N|auto", help_heading = "Memory", default_value_t)]
    pub chunk_size: ChunkSizeChoice,
    /// With --use-chunking, allow norms that see a tile only, group and batch: the gradient is not that of the
    /// whole image then.
    #[arg(long, value_name = "BOOL", help_heading = "Memory", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false)]
    pub approximate_chunks: bool,
}

/// Lets what is recomputed be chosen with the tiles.
pub fn adapt_to_tiles(flags: Command) -> Command {
    flags.mut_arg("grad_checkpoint", |flag| {
        flag.value_parser(checkpoint_of_tiles)
            .default_value_if("use_chunking", "true", "auto")
            .help(
                "What is recomputed instead of kept: none, block, segments=N, least (as little as two forward \
                 passes more can buy) or budget=SIZE (as in budget=6GiB, per forward and backward pass); with \
                 --use-chunking also auto, its default there: none or block, chosen with the tiles. The default \
                 is none",
            )
    })
}

/// Reads what is recomputed, where it may be chosen with the tiles.
fn checkpoint_of_tiles(text: &str) -> Result<String, String> {
    match text {
        "auto" => Ok(text.into()),
        _ => checkpoint(text),
    }
}
