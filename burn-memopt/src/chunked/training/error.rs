use crate::chunked::{BoxError, ChunkedError, WindowPlace};
use crate::train::StepError;

/// Why an image could not be trained on tile by tile. The model is as before, and nothing stays accumulated.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum TiledError {
    /// Most of every tile would be margin.
    #[error(
        "a tile must keep at least twice its margin, which is {} pixels for a margin of {margin}, got \
         {}×{}; choose larger tiles, or a network that reaches less far",
        2 * .margin, .core[0], .core[1]
    )]
    SmallTile {
        /// Height and width that tiles keep.
        core: [usize; 2],
        /// Pixels that they read around it.
        margin: usize,
    },
    /// The reach of the model has no end.
    #[error(
        "tiles cannot have the gradient of the whole image, because the model sees all of it: a pixel in the \
         middle changes the border by {share:.1e} of its largest change{}. Freeze batch norm, use a norm over the \
         channels of each pixel or none, measure on a larger image, or accept another gradient \
         (`TiledStep::approximate`)",
        named(.layers)
    )]
    WholeImage {
        /// The change at the border in shares of the largest change.
        share: f32,
        /// Paths and types of layers that see all of it, as far as they are known.
        layers: Vec<String>,
    },
    /// The model has layers that see the whole image, and training on tiles is to be exact.
    #[error(
        "tiles cannot have the gradient of the whole image, because these layers see all of it: {}. Freeze batch \
         norm, use a norm over the channels of each pixel or none, or accept another gradient \
         (`TiledStep::approximate`)",
        .layers.join(", ")
    )]
    GlobalLayers {
        /// Their paths and types.
        layers: Vec<String>,
    },
    /// Images and targets do not belong together.
    #[error(
        "a target must have the number, height and width of its images, got {} targets of {}×{} for {} images of \
         {}×{}",
        .target[0], .target[2], .target[3], .image[0], .image[2], .image[3]
    )]
    OtherSize {
        /// `[num_images, channels, height, width]` of the images.
        image: [usize; 4],
        /// The same of the targets.
        target: [usize; 4],
    },
    /// The loss of a tile is not that of its parts together.
    #[error(
        "a loss on tiles must be a sum over pixels: {what}. Return a sum with its weight (`MicroLoss::sum`), and what is \
         no sum as a function of sums (`SumLoss`)"
    )]
    NotASum {
        /// What was seen.
        what: String,
    },
    /// The model's output has another size than its tile.
    #[error(
        "the output of a tile must have its height and width, or both divided by a divisor of the stride, {stride}, \
         got {}×{} for a tile of {}×{}",
        .output[0], .output[1], .tile[0], .tile[1]
    )]
    OutputSize {
        /// Height and width of the tile.
        tile: [usize; 2],
        /// Height and width of the output.
        output: [usize; 2],
        /// Where tiles may start: at multiples of it.
        stride: usize,
    },
    /// A part of an image could not be read, the model or its device failed, or the caller asked to stop.
    #[error(transparent)]
    Chunked(#[from] ChunkedError),
    /// The optimizer step failed, where training runs in one.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl TiledError {
    pub(super) fn device(place: WindowPlace, source: impl Into<BoxError>) -> Self {
        ChunkedError::model(place, source.into()).into()
    }
}

fn named(layers: &[String]) -> String {
    match layers {
        [] => String::new(),
        _ => format!(" ({} see it)", layers.join(", ")),
    }
}
