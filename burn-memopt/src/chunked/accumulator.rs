use std::path::PathBuf;

/// Where the rows of a result are kept that windows still touch: as many as a window has, over the
/// whole width of the image.
///
/// # Exactness
/// Hosts and files add alike. A device may round otherwise in the last digit.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::chunked::{Accumulator, SlidingWindow};
///
/// let image = Tensor::<4>::ones([1, 1, 40, 30], &Device::flex());
/// let windows = SlidingWindow::new([16, 16]);
/// let in_file = Accumulator::File(std::env::temp_dir());
/// let kept = windows.clone().with_accumulator(in_file);
/// assert_eq!(
///     kept.infer(image.clone(), |window| window * 2.0).into_data(),
///     windows.infer(image, |window| window * 2.0).into_data(),
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Accumulator {
    /// In host memory: every window is read from its device when it is done.
    #[default]
    Host,
    /// On the device that the model answers on: only finished rows leave it, and it waits once for
    /// each row of windows instead of once for each batch of them.
    Device,
    /// In a nameless file in this folder, so that memory does not grow with the width of the
    /// image either. It is read and written by position: the pages of a memory map would count
    /// as memory of the process.
    File(PathBuf),
}
