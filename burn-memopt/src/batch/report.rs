use std::fmt;

use serde::Serialize;

/// What happened while items were run in batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BatchReport {
    /// Items whose results are there.
    pub num_items: usize,
    /// Batches that succeeded.
    pub num_batches: usize,
    /// Sizes that did not fit, in the order in which they were tried.
    pub failed_sizes: Vec<usize>,
    /// Largest batch that succeeded.
    pub largest_batch: usize,
    /// Size that the next batch would have.
    pub final_size: usize,
}

impl fmt::Display for BatchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} items in {} batches of up to {}",
            self.num_items, self.num_batches, self.largest_batch
        )?;
        match self.failed_sizes.as_slice() {
            [] => Ok(()),
            sizes => write!(f, "; too large were {}", list(sizes)),
        }
    }
}

/// Numbers with commas between them.
pub(crate) fn list(sizes: &[usize]) -> String {
    let sizes: Vec<_> = sizes.iter().map(ToString::to_string).collect();
    sizes.join(", ")
}
