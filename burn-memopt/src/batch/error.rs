use super::report::list;
use crate::chunked::BoxError;

/// Why items could not all be run. Results that were given out before stay good.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum BatchError {
    /// Not even the smallest batch fits.
    #[error(
        "memory does not suffice from item {item} on, for batches of {}: make the items smaller or \
         free memory",
        list(tried)
    )]
    OutOfMemory {
        /// First item of the batch that failed.
        item: usize,
        /// Sizes that did not fit, in the order in which they were tried.
        tried: Vec<usize>,
        /// How the last one failed.
        #[source]
        source: BoxError,
    },
    /// The device answers nothing any more: the process has to be started again.
    #[error("the device is lost at item {item}: start again from there in a new process")]
    DevicePoisoned {
        /// First item of the batch that failed.
        item: usize,
        /// What was answered.
        #[source]
        source: BoxError,
    },
    /// A batch failed for another reason than memory.
    #[error("the batch of {size} items from item {item} on failed")]
    Failed {
        /// First item of the batch that failed.
        item: usize,
        /// Items of the batch.
        size: usize,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
}

impl BatchError {
    /// The same of items that come after `num_items` others.
    pub(super) fn after(mut self, num_items: usize) -> Self {
        let (Self::OutOfMemory { item, .. }
        | Self::DevicePoisoned { item, .. }
        | Self::Failed { item, .. }) = &mut self;
        *item += num_items;
        self
    }
}
