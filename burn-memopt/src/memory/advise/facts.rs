use super::advisor::Device;
use super::{Access, AdviseError, Advisor};
use crate::memory::Bytes;
use crate::memory::estimate::DatasetBytes;

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
        let memory_name = match memory == free {
            true => format!("the {free} {adjective}"),
            false => format!("the {memory} that a model on the CPU leaves of {free} {adjective}"),
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

/// What of `free` is left to data beside a model on the host.
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
