use burn_memopt::memory::{Bytes, estimate::StepBytes};
use serde::{Deserialize, Serialize};

use super::{Advice, DatasetBytes, shares::share_out};

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
/// use burn_memopt::memory::{Bytes, MemoryMonitor};
/// use burn_memopt_datasets::advise::{Access, Advisor, DatasetBytes, ItemBytes, Loading};
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
/// # Ok::<(), burn_memopt_datasets::advise::AdviseError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advisor {
    pub(super) free_memory: Option<Bytes>,
    cores: Option<u64>,
    pub(super) batch_size: Option<u64>,
    step: Option<StepBytes>,
    device: Device,
}

/// Where steps are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Device {
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

/// What is assumed free where it is unknown; any machine that trains has it.
const ASSUMED_MEMORY: Bytes = Bytes::gib(2);
/// Items that assumed memory holds at the least: an assumption refuses nothing.
const ASSUMED_ITEMS: u64 = 8;
/// What is assumed where the number of cores is unknown.
const ASSUMED_CORES: u64 = 2;

/// What is known of data and machine, with an assumption in place of what is not.
pub(super) struct Facts<'a> {
    pub(super) data: &'a DatasetBytes,
    pub(super) access: Access,
    /// Bytes of the largest item.
    pub(super) item: Bytes,
    /// Host memory for data.
    pub(super) memory: Bytes,
    /// How to call that memory in a reason.
    pub(super) memory_name: String,
    pub(super) cores: u64,
    /// The most items of a step, and why.
    pub(super) step_limit: Option<(u64, String)>,
    pub(super) assumptions: Vec<String>,
}

impl<'a> Facts<'a> {
    pub(super) fn gather(
        advisor: &Advisor,
        data: &'a DatasetBytes,
        access: Access,
    ) -> Result<Self, AdviseError> {
        let mut assumptions = Vec::new();
        let item = data.largest_item().loaded;
        let (free, adjective) = match advisor.free_memory {
            Some(free) => (free, "free"),
            None => {
                let free = assumed_memory(advisor, item);
                assumptions.push(format!(
                    "{free} of host memory are free; how much is free is unknown"
                ));
                (free, "assumed free")
            }
        };
        let cores = advisor.cores.unwrap_or_else(|| {
            assumptions.push(format!("{ASSUMED_CORES} cores; their number is unknown"));
            ASSUMED_CORES
        });
        let memory = memory_for_data(advisor, free);
        let memory_name = if memory == free {
            format!("the {free} {adjective}")
        } else {
            format!("the {memory} that a model on the CPU leaves of {free} {adjective}")
        };
        if item > memory {
            return Err(AdviseError::ItemTooLarge {
                needed: item,
                available: memory,
            });
        }
        let step_limit = step_limit(advisor, free - memory, &mut assumptions)?;
        Ok(Self {
            data,
            access,
            item,
            memory,
            memory_name,
            cores,
            step_limit,
            assumptions,
        })
    }

    /// `amount` as a share of the memory, with one decimal and never rounded up: what is below a
    /// border is shown below it.
    pub(super) fn share(&self, amount: Bytes) -> String {
        let per_mille = u128::from(amount.get()) * 1000;
        match per_mille.checked_div(self.memory.get().into()) {
            Some(0) if amount > Bytes::ZERO => format!("less than 0.1 % of {}", self.memory_name),
            Some(share) => format!("{}.{} % of {}", share / 10, share % 10, self.memory_name),
            None => format!("more than {}", self.memory_name),
        }
    }
}

fn assumed_memory(advisor: &Advisor, item: Bytes) -> Bytes {
    let step = advisor.step.unwrap_or_default();
    let items = item.max(step.per_item) * (2 * ASSUMED_ITEMS);
    ASSUMED_MEMORY.max(step.fixed + items)
}

/// What of `free` is left to data next to a model on the host.
///
/// Half of what the model does not take in any case, and no more where the batch stays small: a
/// batch that grows with the memory must not take from the data what more memory gives.
fn memory_for_data(advisor: &Advisor, free: Bytes) -> Bytes {
    match (advisor.device, advisor.step) {
        (Device::Host, Some(step)) => Bytes::new((free - step.fixed).get() / 2),
        _ => free,
    }
}

/// The most items of a step and why, if what a step takes is known. `on_host` is the memory that
/// steps have on the host.
fn step_limit(
    advisor: &Advisor,
    on_host: Bytes,
    assumptions: &mut Vec<String>,
) -> Result<Option<(u64, String)>, AdviseError> {
    let Some(step) = advisor.step else {
        return Ok(None);
    };
    let (available, place) = match advisor.device {
        Device::Host => (on_host, "that steps may have on the host"),
        // The last fifth is for what an estimate misses: fragments, workspaces, the display.
        Device::Card { free: Some(free) } => (
            Bytes::new(free.get() - free.get().div_ceil(5)),
            "that are 80 % of what is free on the device",
        ),
        Device::Card { free: None } => {
            assumptions.push("the batch fits the device; how much is free there is unknown".into());
            return Ok(None);
        }
    };
    let most = step.largest_batch(available);
    if most == 0 {
        let needed = step.of_batch(1);
        return Err(AdviseError::StepTooLarge { needed, available });
    }
    let why = format!("a step on {most} fills the {available} {place}");
    Ok(Some((most, why)))
}
