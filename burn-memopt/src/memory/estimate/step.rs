use serde::{Deserialize, Serialize};

use crate::memory::Bytes;

/// What a training step takes on the device that computes it.
///
/// ```
/// use burn_memopt::memory::{Bytes, estimate::StepBytes};
///
/// let step = StepBytes { fixed: Bytes::mib(400), per_item: Bytes::mib(50) };
/// assert_eq!(step.of_batch(8), Bytes::mib(800));
/// assert_eq!(step.largest_batch(Bytes::gib(1)), 12);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepBytes {
    /// Whatever the batch: parameters, their gradients, the optimizer's state.
    pub fixed: Bytes,
    /// For each item of the batch: the item itself, its target, activations and their gradients.
    pub per_item: Bytes,
}

impl StepBytes {
    /// Bytes of a step on `batch_size` items.
    pub fn of_batch(&self, batch_size: u64) -> Bytes {
        self.fixed + self.per_item * batch_size
    }

    /// The most items whose step stays within `budget`; 0 if one is too many.
    pub fn largest_batch(&self, budget: Bytes) -> u64 {
        if self.fixed > budget {
            return 0;
        }
        (budget - self.fixed)
            .get()
            .checked_div(self.per_item.get())
            .unwrap_or(u64::MAX)
    }
}
