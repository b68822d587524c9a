//! Images, masks and frames in folders, and views of solids.

#[path = "../allocations/mod.rs"]
mod allocations;
#[cfg(feature = "video")]
mod frame_folder;
mod image_mask;
mod pairs;
#[cfg(feature = "video")]
mod preprocess_golden;
mod solids;
mod views;
