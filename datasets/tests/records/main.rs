//! Tables of emitters and JSON Lines.

#[path = "../allocations/mod.rs"]
mod allocations;
#[cfg(feature = "tiff")]
mod counting;
#[cfg(feature = "jsonl")]
mod hostile_jsonl;
#[cfg(all(feature = "jsonl", feature = "tiff", feature = "video"))]
mod jsonl;
#[cfg(feature = "tiff")]
mod localizations;
#[cfg(feature = "tiff")]
mod tables;
