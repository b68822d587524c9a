use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::{HostMemory, ProcessMemory};
use crate::memory::Bytes;

pub(in crate::memory) fn host_memory() -> HostMemory {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    HostMemory {
        total: known(system.total_memory()),
        available: known(system.available_memory()),
    }
}

pub(in crate::memory) fn process_memory(process: u32) -> ProcessMemory {
    let (mut system, process) = (System::new(), Pid::from_u32(process));
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[process]),
        true,
        ProcessRefreshKind::nothing().with_memory(),
    );
    ProcessMemory {
        rss: system
            .process(process)
            .and_then(|process| known(process.memory())),
        ..ProcessMemory::default()
    }
}

/// The system reports an amount that it cannot find out as zero.
fn known(amount: u64) -> Option<Bytes> {
    (amount > 0).then(|| Bytes::new(amount))
}
