//! Datasets larger than memory for [burn](https://burn.dev), and a loader that
//! takes up its batches exactly where a run stopped.
//!
//! Every source costs memory only for the items that are asked for. Those read by
//! position are burn `Dataset`s that know what an item costs
//! ([`LazyDataset`](lazy::LazyDataset)); those read from front to back are
//! streams ([`StreamingDataset`](stream::StreamingDataset)). Both are mapped, filtered, zipped
//! and made one of the other in [`lazy`] and [`stream`]; [`cache`] keeps items within a bound in
//! bytes.
//!
//! | source | item | module |
//! |---|---|---|
//! | multi-page TIFF stack, one file or many, also one that still grows | frame | [`tiff`] |
//! | table of localized emitters (CSV) | row | [`localizations`] |
//! | TIFF stack and table | frame, density map, count | [`counting`] |
//! | folders of images and masks | image, mask | [`masks::ImageMaskFolder`] |
//! | folder of frames, video file | frame | [`video`] |
//! | folder of frame folders | clip | [`video::ClipFolder`] |
//! | folder of square images taken from known angles | image, class and angles | [`views`] |
//! | masks of a video, its own or random ones | hole mask | [`masks::MaskSource`], [`masks::RandomMask`] |
//! | generated clips of moving objects | real PNG or JPEG files | [`synthetic::clip`] |
//! | JSON Lines (plain, gzip) | any record | [`jsonl`] |
//! | JSON Lines that name images, questions and answers | image, question, answers | [`jsonl::VqaDataset`] |
//! | generated text watermarks on images, with masks | real PNG files | [`synthetic::watermark`] |
//! | generated movie of blinking emitters | real TIFF and CSV files | [`synthetic::emitters`] |
//! | generated questions about coloured squares | real PNG and JSON Lines files | [`synthetic::vqa`] |
//! | generated views of coloured solids | real PNG files | [`synthetic::solids`] |
//!
//! TIFF, video and JSON Lines, with what is made of them, are the features `tiff`, `video` and
//! `jsonl`, all on by default.
//!
//! [`loader`] makes batches of any of them, [`augment`] flips and rotates frames by a
//! seed, [`normalization`] measures how to scale their pixels, and [`advise`] says how to load a data
//! set in the memory there is.
//!
//! # Example
//! Frames of a TIFF stack in shuffled batches, loaded by two threads within 64 MiB, and continued in the
//! middle of the epoch by another loader:
//!
//! ```
//! use burn::{data::dataloader::batcher::Batcher, prelude::*};
//! use burn_memopt_datasets::loader::{Loader, LoaderConfig};
//! use burn_memopt_datasets::tiff::{Frame, TiffStack, TiffStackWriter};
//!
//! struct Images;
//! impl Batcher<Frame, Tensor<3>> for Images {
//!     fn batch(&self, frames: Vec<Frame>, device: &Device) -> Tensor<3> {
//!         let shape = [frames.len(), frames[0].height, frames[0].width];
//!         let pixels: Vec<f32> = frames.into_iter().flat_map(|frame| frame.pixels).collect();
//!         Tensor::from_data(TensorData::new(pixels, shape), device)
//!     }
//! }
//!
//! # let folder = tempfile::tempdir()?;
//! # let movie = folder.path().join("movie.tif");
//! # let mut writer = TiffStackWriter::create(&movie, 8, 8)?;
//! # for frame in 0..20 {
//! #     writer.write_frame(&[frame; 64])?;
//! # }
//! # writer.finish()?;
//! let config = LoaderConfig::new(4).with_shuffle(Some(7)).with_workers(2).with_prefetch_bytes(64 << 20);
//! let make = || -> Result<Loader<_, _>, Box<dyn std::error::Error>> {
//!     Ok(Loader::new(TiffStack::open(&movie)?, Images, config.clone(), &Device::flex())?)
//! };
//! let loader = make()?;
//! let first = loader.batches().next().expect("a batch")?;
//! assert_eq!(first.dims(), [4, 8, 8]);
//!
//! let continued = make()?;
//! continued.resume(&loader.state())?;
//! assert_eq!(continued.batches().count(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod advise;
pub mod augment;
pub mod cache;
#[cfg(feature = "tiff")]
pub mod counting;
pub mod folder;
pub mod image_file;
#[cfg(feature = "jsonl")]
pub mod jsonl;
pub mod lazy;
pub mod loader;
#[cfg(feature = "tiff")]
pub mod localizations;
pub mod masks;
#[cfg(feature = "tiff")]
pub mod normalization;
#[cfg(any(feature = "tiff", feature = "jsonl"))]
mod shared_file;
pub mod shuffle;
pub mod stream;
pub mod synthetic;
#[cfg(feature = "tiff")]
pub mod tiff;
#[cfg(feature = "video")]
pub mod video;
pub mod views;

/// Locks `mutex`. What a panic of another thread left behind is used as it is: what is
/// behind a lock here is whole at any time.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// An error with its causes, as one line. What a cause says is left out where it was said before.
///
/// # Example
/// ```
/// use burn_memopt_datasets::with_causes;
///
/// let error = burn_memopt_datasets::tiff::TiffStack::open("nowhere.tif").unwrap_err();
/// let text = with_causes(&error);
/// assert!(text.starts_with("cannot open the TIFF stack nowhere.tif"), "{text}");
/// ```
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    for cause in causes.map(ToString::to_string) {
        if !text.contains(&cause) {
            text += &format!(": {cause}");
        }
    }
    text
}

/// Refuses an index behind the last of `len`.
#[track_caller]
fn check_index(what: &str, index: usize, len: usize) {
    assert!(index < len, "{what} must be below {len}, got {index}");
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[derive(thiserror::Error, Debug)]
    #[error("{what}")]
    struct Failed {
        what: &'static str,
        source: Error,
    }

    #[test]
    fn each_cause_is_said_once() {
        let error = |what, source| Failed { what, source };
        let full = || Error::new(ErrorKind::StorageFull, "the disk is full");
        let once = error("cannot write a.tif", full());
        assert_eq!(with_causes(&once), "cannot write a.tif: the disk is full");
        let again = error("cannot write a.tif: the disk is full", full());
        assert_eq!(with_causes(&again), "cannot write a.tif: the disk is full");
        let nested = error("cannot save", Error::other(once));
        let expected = "cannot save: cannot write a.tif: the disk is full";
        assert_eq!(with_causes(&nested), expected);
    }
}
