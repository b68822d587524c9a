use std::fs;
use std::path::Path;

use super::{HostMemory, ProcessMemory};
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
    let (status, groups) = (read("status"), read("cgroup"));
    ProcessMemory {
        rss: kib_of(&status, "VmRSS:"),
        peak_rss: kib_of(&status, "VmHWM:"),
        ..limits(&groups, Path::new("/sys/fs/cgroup"))
    }
}

/// Reads a line as `VmHWM:   123456 kB`, whose unit is 1024 bytes in spite of its name.
fn kib_of(table: &str, key: &str) -> Option<Bytes> {
    let line = table.lines().find_map(|line| line.strip_prefix(key))?;
    let kib = line.trim().strip_suffix("kB")?.trim_end();
    Some(Bytes::kib(kib.parse().ok()?))
}

/// The limits of the control groups in `groups`, which is a process's file `cgroup`: each group is
/// within all above it. Where version 1 controls memory it has a line of its own.
fn limits(groups: &str, mounted: &Path) -> ProcessMemory {
    let group_of = |is_it: fn(&str) -> bool| {
        let fields = groups.lines().filter_map(|line| {
            let (_, line) = line.split_once(':')?;
            line.split_once(':')
        });
        let mut fields = fields.filter(|(controllers, _)| is_it(controllers));
        fields
            .next()
            .map(|(_, group)| group.trim_start_matches('/'))
    };
    let version_1 = group_of(|names| names.split(',').any(|name| name == "memory"));
    let (mounted, group, limit_file, used_key) = match (version_1, group_of(str::is_empty)) {
        (Some(group), _) => (
            mounted.join("memory"),
            group,
            "memory.limit_in_bytes",
            "total_rss ",
        ),
        (None, Some(group)) => (mounted.to_path_buf(), group, "memory.max", "anon "),
        (None, None) => return ProcessMemory::default(),
    };
    let mut tightest = ProcessMemory::default();
    for above in Path::new(group).ancestors() {
        let folder = mounted.join(above);
        let limit = fs::read_to_string(folder.join(limit_file)).ok();
        // Where there is no limit, version 2 has the word "max".
        let Some(limit) = limit.and_then(|limit| limit.trim().parse().ok().map(Bytes::new)) else {
            continue;
        };
        tightest.limit = Some(tightest.limit.map_or(limit, |other| other.min(limit)));
        let used = fs::read_to_string(folder.join("memory.stat")).ok();
        // Not all that the group holds: pages of files count against it, but give way.
        if let Some(used) = used.and_then(|table| number_of(&table, used_key)) {
            let free = limit - used;
            let known = tightest.free_below_limit;
            tightest.free_below_limit = Some(known.map_or(free, |other| other.min(free)));
        }
    }
    tightest
}

fn number_of(table: &str, key: &str) -> Option<Bytes> {
    let line = table.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().parse().ok().map(Bytes::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group's folder below `root`, with its limit and what it uses.
    fn group(root: &Path, name: &str, files: [(&str, &str); 2]) {
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        for (file, content) in files {
            fs::write(folder.join(file), content).unwrap();
        }
    }

    #[test]
    fn amounts_are_read_in_units_of_1024_bytes() {
        let status = "Name:\ttrain\nVmPeak:\t  999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(kib_of(status, "VmHWM:"), Some(Bytes::mib(2)));
        assert_eq!(kib_of("Name:\ttrain\n", "VmHWM:"), None);
        assert_eq!(kib_of("VmHWM:\t many kB\n", "VmHWM:"), None);
    }

    #[test]
    fn the_tightest_of_nested_groups_limits_a_process() {
        let root = tempfile::tempdir().unwrap();
        let inner = [
            ("memory.max", "max\n"),
            ("memory.stat", "anon 10\nfile 7\n"),
        ];
        group(root.path(), "outer/inner", inner);
        let outer = [
            ("memory.max", "1000\n"),
            ("memory.stat", "file 900\nanon 300\n"),
        ];
        group(root.path(), "outer", outer);
        let read = limits("0::/outer/inner\n", root.path());
        assert_eq!(read.limit, Some(Bytes::new(1000)));
        assert_eq!(read.free_below_limit, Some(Bytes::new(700)));
    }

    #[test]
    fn version_1_has_its_own_folder_and_counts_the_groups_below() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("memory.limit_in_bytes", "500\n"),
            ("memory.stat", "rss 1\ntotal_rss 600\n"),
        ];
        group(root.path(), "memory/job", files);
        let read = limits("4:cpu:/\n3:hugetlb,memory:/job\n0::/\n", root.path());
        assert_eq!(read.limit, Some(Bytes::new(500)));
        assert_eq!(
            read.free_below_limit,
            Some(Bytes::ZERO),
            "more than allowed"
        );
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let root = tempfile::tempdir().unwrap();
        let unknown = ProcessMemory::default();
        assert_eq!(limits("", root.path()), unknown);
        assert_eq!(limits("0::/elsewhere\n", root.path()), unknown);
        assert_eq!(process_memory(u32::MAX), unknown);
    }
}
