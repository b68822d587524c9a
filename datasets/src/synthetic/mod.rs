//! Generators of data with known truth.
//!
//! Each writes real files, so that what reads them is exercised, and makes the same
//! files from the same seed or configuration.

#[cfg(feature = "video")]
pub mod clip;
#[cfg(feature = "tiff")]
pub mod emitters;
pub mod solids;
#[cfg(feature = "jsonl")]
pub mod vqa;
#[cfg(feature = "video")]
pub mod watermark;

/// Refuses movies without frames or pixels.
#[cfg(any(feature = "tiff", feature = "video"))]
fn check_sizes(num_frames: usize, height: usize, width: usize) {
    let sizes = [
        ("num_frames", num_frames),
        ("height", height),
        ("width", width),
    ];
    for (name, size) in sizes {
        assert!(size > 0, "{name} must be at least 1, got 0");
    }
}
