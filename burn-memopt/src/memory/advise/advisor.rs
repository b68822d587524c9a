use serde::{Deserialize, Serialize};

use super::Advice;
use super::shares::share_out;
use crate::memory::Bytes;
use crate::memory::estimate::{DatasetBytes, StepBytes};

/// How the items of a data set are reached, which decides what loading one costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// In any order and without decoding: the file is mapped, and the system reads the pages that
    /// are touched.
    Mapped,
    /// In any order, each item decoded when it is asked for.
    Decoded,
    /// From front to back: records come one after the other, and an item is made of each.
    Streamed {
        /// Bytes of a record as it waits in a shuffle buffer, before it becomes an item.
        record: Bytes,
    },
}

/// There is no way to load the data in the memory there is.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdviseError {
    /// Not even one item fits.
    #[error(
        "one item takes {needed} when it is loaded, more than the {available} of host memory that \
         are free for data; load smaller pieces (patches, shorter clips) or free memory"
    )]
    ItemTooLarge {
        /// Bytes of the largest item.
        needed: Bytes,
        /// Bytes that are free for data.
        available: Bytes,
    },
    /// A step on one item does not fit.
    #[error(
        "a training step on one item takes {needed}, more than the {available} that steps may \
         have; choose a smaller model or image, or gradient checkpointing"
    )]
    StepTooLarge {
        /// Bytes of a step on one item.
        needed: Bytes,
        /// Bytes that steps may take.
        available: Bytes,
    },
}

/// Says how to load a data set on a machine, and why.
///
/// With `free` for the free memory, less what a model on the CPU takes:
///
/// | the loaded set is | loading |
/// |---|---|
/// | below 50 % of `free` | preload |
/// | below 200 %, and in any order | lazily, with a cache of up to 50 % of `free` |
/// | more, or of unknown size | stream |
///
/// A batch takes at most an eighth of `free`, a quarter if its size was asked for, or one item.
/// Items loaded ahead take at most an eighth, and so does a shuffle buffer. Together they never
/// take more than `free`.
///
/// There are at most `min(4, cores)` workers: more of them wait for the disk or take the
/// training's cores. Where nothing is decoded there is one, or none on a single core.
///
/// # Exactness
/// Borders are compared in whole bytes. The advice is as good as the estimate it is given; how
/// fast items are decoded and how fast the model uses them is not known here.
///
/// # Example
/// ```
/// use burn::tensor::DType;
/// use burn_memopt::memory::{
///     Bytes, MemoryMonitor,
///     advise::{Access, Advisor, Loading},
///     estimate::{DatasetBytes, ItemBytes},
/// };
///
/// let frame = ItemBytes::image([1, 512, 512], DType::U16, DType::F32);
/// let movie = DatasetBytes::uniform(20_000, frame);
///
/// let advisor = Advisor::new().with_free_memory(Bytes::gib(16)).with_cores(8);
/// let advice = advisor.advise(&movie, Access::Decoded)?;
/// assert_eq!(advice.loading.value, Loading::Cache); // 19.5 GiB loaded: 122 %
/// assert_eq!(advice.cache.value, Bytes::gib(8));
/// assert_eq!(advice.num_workers.value, 4);
/// println!("{advice}");
///
/// // This machine:
/// let here = advisor.with_free_memory(MemoryMonitor::new([]).snapshot().host_available);
/// println!("{}", here.advise(&movie, Access::Mapped)?);
/// # Ok::<(), burn_memopt::memory::advise::AdviseError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advisor {
    pub(super) free_memory: Option<Bytes>,
    pub(super) cores: Option<u64>,
    pub(super) batch_size: Option<u64>,
    pub(super) step: Option<StepBytes>,
    pub(super) device: Device,
}

/// Where steps are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Device {
    /// In the host's memory.
    #[default]
    Host,
    /// On a card with memory of its own, of which `free` is left if that is known.
    Card { free: Option<Bytes> },
}

impl Advisor {
    /// An advisor that knows nothing about the machine, and says what it assumes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Memory of the host that is free for data and, on the CPU, for the model. The default is
    /// unknown: 2 GiB are assumed then, and more if eight items take more.
    pub fn with_free_memory(self, free: impl Into<Option<Bytes>>) -> Self {
        Self {
            free_memory: free.into(),
            ..self
        }
    }

    /// Cores that the process may use. The default is unknown: 2 are assumed then.
    pub fn with_cores(self, cores: impl Into<Option<u64>>) -> Self {
        Self {
            cores: cores.into(),
            ..self
        }
    }

    /// The batch size that is wanted. The default is a power of two of at most 32, or of at most
    /// 512 where it is known what a step takes.
    ///
    /// # Panics
    /// If it is zero.
    pub fn with_batch_size(self, batch_size: impl Into<Option<u64>>) -> Self {
        let batch_size = batch_size.into();
        assert!(
            batch_size != Some(0),
            "batch_size must be at least 1, got 0"
        );
        Self { batch_size, ..self }
    }

    /// What a training step takes. The default is unknown.
    pub fn with_step(self, step: impl Into<Option<StepBytes>>) -> Self {
        Self {
            step: step.into(),
            ..self
        }
    }

    /// Steps are computed on a device with memory of its own, of which `free` is left; `None` if
    /// that is unknown. The default is the host, and then steps have at most half of its memory
    /// besides their fixed cost.
    pub fn with_device_memory(self, free: impl Into<Option<Bytes>>) -> Self {
        Self {
            device: Device::Card { free: free.into() },
            ..self
        }
    }

    /// Says how to load `data`.
    ///
    /// # Errors
    /// If a single item, or a step on one, takes more memory than there is.
    pub fn advise(&self, data: &DatasetBytes, access: Access) -> Result<Advice, AdviseError> {
        share_out(self, data, access)
    }
}
