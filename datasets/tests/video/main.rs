//! Video files, read and written through `ffmpeg`.

#![cfg(feature = "video")]

mod cases;
mod clip;
mod file;
mod probe;
