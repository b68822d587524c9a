//! Generators of data with known truth.
//!
//! Each writes real files, so that what reads them is exercised, and makes the same
//! files from the same seed.

pub mod clip;
pub mod emitters;
mod texture;
pub mod vqa;
pub mod watermark;
