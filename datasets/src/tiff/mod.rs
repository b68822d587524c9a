//! Multi-page TIFF stacks, read and written page by page.
//!
//! Opening reads the directories of all pages (a few hundred bytes each) and
//! checks them; pixels are decoded only for the frame that is asked for. So a
//! stack of any size costs one page of memory for each reading thread, plus
//! eight bytes a page for the index.

mod directory;
mod error;
mod layout;
mod source;
mod stack;
mod writer;

pub use error::TiffStackError;
pub use stack::{Frame, TiffStack};
pub use writer::TiffStackWriter;
