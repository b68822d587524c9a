//! Questions about images.

mod dataset;
mod error;
mod images;
mod record;
mod stream;

use std::path::PathBuf;

use burn::config::Config;

use super::JsonlConfig;
use crate::pixel::Pixel;

pub use dataset::VqaDataset;
pub use error::VqaError;
pub use record::VqaRecord;
pub use stream::VqaStream;

/// How questions about images are read.
#[derive(Config, Debug, PartialEq)]
pub struct VqaConfig {
    /// Field with the path of the image. The default is `image`.
    #[config(default = "String::from(\"image\")")]
    pub image_field: String,
    /// Field with the question. The default is `question`.
    #[config(default = "String::from(\"question\")")]
    pub question_field: String,
    /// Field with the answer, or a list of answers; `None` if there are none, as in
    /// a test set. The default is `answer`.
    #[config(default = "Some(String::from(\"answer\"))")]
    pub answer_field: Option<String>,
    /// Folder that the paths of images start from. The default is `None`: the folder of
    /// the JSON Lines file.
    pub root: Option<PathBuf>,
    /// Reads images wherever a path leads, absolute ones included. The default is `false`: a path that
    /// leaves the root is an error, so that a data set from elsewhere reads no
    /// other file. Links inside the root are followed either way.
    #[config(default = false)]
    pub allow_outside_root: bool,
    /// Height and width in pixels that every image must have. The default is `None`:
    /// any size.
    pub image_size: Option<[usize; 2]>,
    /// Bytes of the largest decoded image, `3 · height · width` values; a larger one is an error
    /// before it is decoded. The default is `1073741824` (1 GiB).
    #[config(default = 1073741824)]
    pub max_image_bytes: u64,
    /// How the JSON Lines file is read.
    #[config(default = "JsonlConfig::new()")]
    pub jsonl: JsonlConfig,
}

/// A question about an image, its answers, and the image decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct VqaItem<P: Pixel = f32> {
    /// Number of the record, from 0.
    pub record: u64,
    /// The file of the image.
    pub image_path: PathBuf,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Red, then green, then blue, each row by row: `[3, height, width]`.
    pub image: Vec<P>,
    /// The question.
    pub question: String,
    /// The answers; several if people answered differently.
    pub answers: Vec<String>,
}

#[cfg(test)]
mod tests;
