//! Masks: of images, and of videos.
//!
//! | masks | read by |
//! |---|---|
//! | of a folder of images: an object, or classes | [`ImageMaskFolder`], each image with its mask |
//! | of a video: which pixels are missing, one mask a frame or one for all | `MaskSource` |
//! | drawn for training: objects and strokes that move or stand still | `RandomMask` |
//!
//! A [`MaskRule`] says which values in the files of a folder are object, or of which class. The last two
//! kinds come with the feature `video`.

mod images;
#[cfg(feature = "video")]
mod random;
#[cfg(feature = "video")]
pub(crate) mod shape;
#[cfg(feature = "video")]
mod source;
mod values;
#[cfg(feature = "video")]
mod video;

pub use images::{ImageMask, ImageMaskError, ImageMaskFolder};
#[cfg(feature = "video")]
pub use random::{RandomMask, RandomMaskConfig};
#[cfg(feature = "video")]
pub use source::{MaskError, MaskSource};
pub use values::{ClassRule, MaskRule, ObjectRule};
#[cfg(feature = "video")]
pub use video::HoleMask;
