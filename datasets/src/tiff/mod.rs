//! Multi-page TIFF stacks, read and written page by page.
//!
//! Opening finds where the pages are, with a few reads where they are regular and one read a page
//! where they are not; pixels are read only for the frame that is asked for. Pages that are
//! uncompressed and in one piece are views into a memory map, without a copy; any other page is
//! decoded alone. So a stack of any size costs one page of memory for each reading thread, plus
//! at most sixteen bytes a page for the index.
//!
//! | to read | use |
//! |---|---|
//! | one file | [`TiffStack`]: [`page`](FrameSource::page) as stored, [`frame`](FrameSource::frame) as `f32` |
//! | many files as one stack | [`TiffSequence`] |
//! | a frame with its neighbours | [`FrameWindows`] |
//! | rectangles of frames | [`FramePatches`] |
//! | a file that is still being written | [`TiffStack::follow`] |
//!
//! [`TiffStackWriter`] writes them.

mod chunks;
mod decode;
mod directory;
mod error;
mod follow;
mod frame;
mod header;
mod layout;
mod mmap;
mod page;
mod patch;
mod regular;
mod samples;
mod sequence;
mod stack;
mod walk;
mod writer;

pub use error::TiffStackError;
pub use follow::{Follow, FollowConfig};
pub use frame::{Frame, FrameSource, FrameWindow, FrameWindows, open_frames};
pub use page::{Page, Sample, SampleType};
pub use patch::{FramePatches, Patch};
pub use sequence::TiffSequence;
pub use stack::TiffStack;
pub use writer::TiffStackWriter;
