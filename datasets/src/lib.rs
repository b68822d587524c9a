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
//! | folders of images and masks | image, mask | [`image_mask`] |
//! | folder of frames, video file | frame | [`video`] |
//! | folder of frame folders | clip | [`video::ClipFolder`] |
//! | masks of a video, its own or random ones | hole mask | [`masks`] |
//! | generated clips of moving objects | real PNG or JPEG files | [`synthetic::clip`] |
//! | JSON Lines (plain, gzip) | any record | [`jsonl`] |
//! | JSON Lines that name images, questions and answers | image, question, answers | [`jsonl::VqaDataset`] |
//! | generated text watermarks on images, with masks | real PNG files | [`synthetic::watermark`] |
//! | generated movie of blinking emitters | real TIFF and CSV files | [`synthetic::emitters`] |
//! | generated questions about coloured squares | real PNG and JSON Lines files | [`synthetic::vqa`] |
//!
//! [`loader`] makes batches of any of them, [`augment`] flips and rotates frames by a
//! seed, [`normalization`] measures how to scale their pixels.

pub mod augment;
pub mod cache;
pub mod counting;
pub mod image_file;
pub mod image_mask;
pub mod jsonl;
pub mod lazy;
pub mod loader;
pub mod localizations;
pub mod masks;
mod natural_order;
pub mod normalization;
mod part_file;
pub mod pixel;
mod shared_file;
pub mod shuffle;
pub mod stream;
pub mod synthetic;
pub mod tiff;
pub mod video;
