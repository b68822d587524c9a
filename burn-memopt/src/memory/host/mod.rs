//! What the system reports about the host's memory and about a process.
//!
//! Linux reports it in files, which costs no dependency; elsewhere it takes the feature `tools`,
//! without which everything is unknown.

#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(all(feature = "tools", not(target_os = "linux")))]
mod system;

#[cfg(target_os = "linux")]
pub(super) use linux::{host_memory, process_memory};
#[cfg(all(feature = "tools", not(target_os = "linux")))]
pub(super) use system::{host_memory, process_memory};

use super::Bytes;

/// Memory of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HostMemory {
    pub total: Option<Bytes>,
    /// What new allocations can have without swapping.
    pub available: Option<Bytes>,
}

/// A limit on what a process may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    pub amount: Bytes,
    /// What is free below it; `None` if that is unknown.
    pub free: Option<Bytes>,
    /// What sets it, in words: the kind of limit and the file that contains it.
    pub source: String,
}

/// Memory of a process, and what it may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProcessMemory {
    pub rss: Option<Bytes>,
    pub peak_rss: Option<Bytes>,
    /// The limits of its control groups and its own, the tightest last.
    pub limits: Vec<Limit>,
}

#[cfg(not(any(feature = "tools", target_os = "linux")))]
pub(super) fn host_memory() -> HostMemory {
    HostMemory::default()
}

#[cfg(not(any(feature = "tools", target_os = "linux")))]
pub(super) fn process_memory(_process: u32) -> ProcessMemory {
    ProcessMemory::default()
}
