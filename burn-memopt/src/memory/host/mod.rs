//! What the system reports about the host's memory and about a process.
//!
//! Linux reports it in files, which costs no dependency; elsewhere it takes the feature `tools`,
//! without which everything is unknown.

#[cfg(target_os = "linux")]
mod cgroup;

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

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::Path;

    use super::{Bytes, HostMemory, Limit, ProcessMemory, cgroup};

    pub(in crate::memory) fn host_memory() -> HostMemory {
        let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        HostMemory {
            total: kib_of(&table, "MemTotal:"),
            available: kib_of(&table, "MemAvailable:"),
        }
    }

    pub(in crate::memory) fn process_memory(process: u32) -> ProcessMemory {
        let files = Path::new("/proc").join(process.to_string());
        let read = |name| fs::read_to_string(files.join(name)).unwrap_or_default();
        let status = read("status");
        let mut limits = cgroup::limits(&read("cgroup"), &read("mountinfo"), Path::new("/"));
        limits.extend(own_limits(&read("limits"), &status));
        limits.sort_by_key(|limit| std::cmp::Reverse(limit.amount));
        ProcessMemory {
            rss: kib_of(&status, "VmRSS:"),
            peak_rss: kib_of(&status, "VmHWM:"),
            limits,
        }
    }

    /// The limits that the process has for itself alone, such as those of the shell's `ulimit`, from its
    /// files `limits` and `status`.
    fn own_limits(limits: &str, status: &str) -> Vec<Limit> {
        let kinds = [
            ("Max address space", "VmSize:", "RLIMIT_AS (ulimit -v)"),
            ("Max data size", "VmData:", "RLIMIT_DATA (ulimit -d)"),
        ];
        let found = kinds.into_iter().filter_map(|(limit, held, source)| {
            let line = limits.lines().find_map(|line| line.strip_prefix(limit))?;
            // The limit that applies, then the one up to which it can be raised; or "unlimited".
            let amount = Bytes::new(line.split_whitespace().next()?.parse().ok()?);
            Some(Limit {
                amount,
                free: kib_of(status, held).map(|held| amount - held),
                source: source.into(),
            })
        });
        found.collect()
    }

    /// Reads a line as `VmHWM:   123456 kB`, whose unit is 1024 bytes in spite of its name.
    fn kib_of(table: &str, key: &str) -> Option<Bytes> {
        let line = table.lines().find_map(|line| line.strip_prefix(key))?;
        let kib = line.trim().strip_suffix("kB")?.trim_end();
        Some(Bytes::kib(kib.parse().ok()?))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn amounts_are_read_in_units_of_1024_bytes() {
            let status = "Name:\ttrain\nVmPeak:\t  999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n";
            assert_eq!(kib_of(status, "VmHWM:"), Some(Bytes::mib(2)));
            assert_eq!(kib_of("Name:\ttrain\n", "VmHWM:"), None);
            assert_eq!(kib_of("VmHWM:\t many kB\n", "VmHWM:"), None);
        }

        #[test]
        fn limits_of_the_process_itself_count() {
            let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                          Max data size             unlimited            unlimited            bytes\n\
                          Max address space         4294967296           unlimited            bytes\n";
            let status = "VmSize:\t 1048576 kB\nVmData:\t 5 kB\n";
            let found = own_limits(limits, status);
            let [limit] = &found[..] else {
                panic!("{found:?}")
            };
            assert_eq!(limit.amount, Bytes::gib(4));
            assert_eq!(limit.free, Some(Bytes::gib(3)));
            assert_eq!(limit.source, "RLIMIT_AS (ulimit -v)");
            assert_eq!(own_limits("", status), []);
        }

        #[test]
        fn what_cannot_be_read_is_unknown() {
            assert_eq!(process_memory(u32::MAX), ProcessMemory::default());
        }
    }
}

#[cfg(all(feature = "tools", not(target_os = "linux")))]
mod system {
    use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

    use super::{Bytes, HostMemory, ProcessMemory};

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
}
