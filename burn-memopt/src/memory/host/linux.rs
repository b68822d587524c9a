use std::fs;
use std::path::Path;

use super::{HostMemory, ProcessMemory, cgroup};
use crate::memory::Bytes;

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
    let limits = cgroup::limits(&read("cgroup"), &read("mountinfo"), Path::new("/"));
    ProcessMemory {
        rss: kib_of(&status, "VmRSS:"),
        peak_rss: kib_of(&status, "VmHWM:"),
        limit: limits.last().map(|limit| limit.amount),
        free_below_limit: limits.iter().filter_map(|limit| limit.free).min(),
    }
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
    fn what_cannot_be_read_is_unknown() {
        assert_eq!(process_memory(u32::MAX), ProcessMemory::default());
    }
}
