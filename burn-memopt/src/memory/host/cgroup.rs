//! The memory limits that Linux control groups set, of version 1 and 2.
//!
//! Pure: the files are read through a folder that stands for `/`.
//!
//! A process is in one group of each hierarchy (`/proc/self/cgroup`), and each group is within all
//! above it. Where a hierarchy is mounted, and which of its groups is the root of the mount, is in
//! `/proc/self/mountinfo`. In a container the two need not agree: the group may be named by its path
//! on the host while the mount shows only what is below the container's own group. So a group that
//! is not found below the mount is looked for at the nearest folder above that exists, up to the
//! mount itself.

use std::fs;
use std::path::{Path, PathBuf};

use super::Limit;
use crate::memory::Bytes;

/// Above this no limit is meant: version 1 writes the largest multiple of a page for "none".
const NO_LIMIT: Bytes = Bytes::new(1 << 62);

/// One of the two interfaces.
struct Version {
    number: u32,
    /// File system type of its mounts.
    filesystem: &'static str,
    /// Where it is mounted if the mounts cannot be read.
    usual_mount: &'static str,
    /// Files with a limit on memory. Reaching `memory.high` does not end a process, but slows it
    /// until it hardly moves.
    limits: &'static [&'static str],
    /// A file with a limit on memory and swap together.
    limit_with_swap: Option<&'static str>,
    /// Keys of `memory.stat` whose sum cannot be given back. Pages of files count against a limit
    /// as well, but give way.
    held: &'static [&'static str],
    /// Key of `memory.stat`: pages in swap.
    swapped: &'static str,
    /// Key of `memory.stat`: the tightest limit of the group and all above, also those that are
    /// outside of the mount.
    tightest: Option<&'static str>,
}

const VERSION_1: Version = Version {
    number: 1,
    filesystem: "cgroup",
    usual_mount: "/sys/fs/cgroup/memory",
    limits: &["memory.limit_in_bytes"],
    limit_with_swap: Some("memory.memsw.limit_in_bytes"),
    held: &["total_rss", "total_shmem"],
    swapped: "total_swap",
    tightest: Some("hierarchical_memory_limit"),
};

const VERSION_2: Version = Version {
    number: 2,
    filesystem: "cgroup2",
    usual_mount: "/sys/fs/cgroup",
    limits: &["memory.max", "memory.high"],
    limit_with_swap: None,
    held: &["anon", "shmem"],
    swapped: "",
    tightest: None,
};

/// The limits of a process's groups and all above them.
///
/// `groups` is the process's file `cgroup`, `mounts` its file `mountinfo`; `root` stands for `/`.
pub(super) fn limits(groups: &str, mounts: &str, root: &Path) -> Vec<Limit> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let version = match controllers {
            "" => &VERSION_2,
            names if names.split(',').any(|name| name == "memory") => &VERSION_1,
            _ => continue,
        };
        for (mount, group) in version.places(group, mounts) {
            let mount = root.join(mount.trim_start_matches('/'));
            for folder in group.ancestors() {
                version.read(&mount.join(folder), &mut found);
            }
        }
    }
    found.retain(|limit| limit.amount < NO_LIMIT);
    found
}

impl Version {
    /// The mount points of this version with the path of `group` below each.
    fn places(&self, group: &str, mounts: &str) -> Vec<(String, PathBuf)> {
        let below = |top: &str| {
            let group = Path::new(group);
            let group = group.strip_prefix(top).unwrap_or(group);
            group.strip_prefix("/").unwrap_or(group).to_path_buf()
        };
        let mut places: Vec<_> = mounts
            .lines()
            .filter_map(|line| self.mount(line))
            .map(|(top, mount)| (mount, below(&top)))
            .collect();
        if places.is_empty() {
            places.push((self.usual_mount.into(), below("/")));
        }
        places
    }

    /// The root and the mount point that a line of `mountinfo` gives, if it is a mount of this
    /// version: `ID PARENT DEVICE ROOT MOUNT OPTIONS … - TYPE SOURCE SUPER_OPTIONS`.
    fn mount(&self, line: &str) -> Option<(String, String)> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (top, point) = (mount.next()?, mount.next()?);
        let mut kind = kind.split(' ');
        let is_of_version = kind.next()? == self.filesystem
            && (self.filesystem == VERSION_2.filesystem
                || kind.nth(1)?.split(',').any(|option| option == "memory"));
        is_of_version.then(|| (unescaped(top), unescaped(point)))
    }

    /// Adds the limits of the group with this folder.
    fn read(&self, folder: &Path, found: &mut Vec<Limit>) {
        let number = |name: &str| -> Option<Bytes> {
            let text = fs::read_to_string(folder.join(name)).ok()?;
            // Where there is no limit, version 2 has the word "max".
            text.trim().parse().ok().map(Bytes::new)
        };
        let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let held = self.held.iter().filter_map(|key| value(&statistics, key));
        let held = held.reduce(|one, other| one + other);
        let mut add = |amount: Option<Bytes>, held: Option<Bytes>, name: &str| {
            found.extend(amount.map(|amount| Limit {
                amount,
                free: held.map(|held| amount - held),
                source: format!("cgroup v{} {}", self.number, folder.join(name).display()),
            }));
        };
        for name in self.limits {
            add(number(name), held, name);
        }
        if let Some(name) = self.limit_with_swap {
            let swapped = value(&statistics, self.swapped).unwrap_or(Bytes::ZERO);
            add(number(name), held.map(|held| held + swapped), name);
        }
        if let Some(key) = self.tightest {
            // What the groups outside of the mount hold is not known.
            add(value(&statistics, key), held, "memory.stat");
        }
    }
}

/// The value of a line `KEY VALUE`.
fn value(table: &str, key: &str) -> Option<Bytes> {
    let mut lines = table.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines.find(|(name, _)| *name == key)?;
    value.trim().parse().ok().map(Bytes::new)
}

/// Spaces, tabs, line ends and backslashes of paths are written in octal.
fn unescaped(path: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    escapes.iter().fold(path.to_owned(), |path, (code, char)| {
        path.replace(code, char)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNT_1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                           36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
    const MOUNT_2: &str =
        "29 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = root.join("sys/fs/cgroup").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    /// The tightest limit, the least that is free, and what sets the tightest.
    fn tightest(groups: &str, mounts: &str, root: &Path) -> Option<(u64, Option<u64>, String)> {
        let found = limits(groups, mounts, root);
        let free = found.iter().filter_map(|limit| limit.free).min();
        let tightest = found.iter().min_by_key(|limit| limit.amount)?;
        let source = tightest.source.replace(&root.display().to_string(), "");
        Some((tightest.amount.get(), free.map(Bytes::get), source))
    }

    #[test]
    fn the_tightest_of_nested_groups_limits_a_process() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("outer/inner/memory.max", "max\n"),
                ("outer/inner/memory.stat", "anon 10\nfile 7\n"),
                ("outer/memory.max", "1000\n"),
                ("outer/memory.stat", "file 900\nanon 280\nshmem 20\n"),
            ],
        );
        let read = tightest("0::/outer/inner\n", MOUNT_2, root.path());
        let source = "cgroup v2 /sys/fs/cgroup/outer/memory.max".to_owned();
        assert_eq!(read, Some((1000, Some(700), source)));
    }

    #[test]
    fn the_soft_limit_of_version_2_counts() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("job/memory.max", "1000\n"),
                ("job/memory.high", "600\n"),
                ("job/memory.stat", "anon 100\n"),
            ],
        );
        let (limit, free, source) = tightest("0::/job\n", MOUNT_2, root.path()).unwrap();
        assert_eq!((limit, free), (600, Some(500)));
        assert_eq!(source, "cgroup v2 /sys/fs/cgroup/job/memory.high");
    }

    /// Docker without a namespace for groups: the path is the host's, the mount is the container's.
    #[test]
    fn a_container_finds_its_limit_at_the_root_of_the_mount() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("memory/memory.limit_in_bytes", "1073741824\n"),
                ("memory/memory.stat", "total_rss 52428800\n"),
            ],
        );
        let groups = "12:cpuset:/docker/0123\n4:memory:/docker/0123\n0::/docker/0123\n";
        let seen = "35 31 0:32 /docker/0123 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let elsewhere = "35 31 0:32 /../.. /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        for mounts in [seen, MOUNT_1, elsewhere, ""] {
            let (limit, free, source) = tightest(groups, mounts, root.path()).unwrap();
            assert_eq!(
                (limit, free),
                (1 << 30, Some((1 << 30) - (50 << 20))),
                "{mounts}"
            );
            let file = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
            assert_eq!(source, format!("cgroup v1 {file}"));
        }
    }

    #[test]
    fn version_1_counts_the_groups_below_and_those_it_does_not_show() {
        let root = tempfile::tempdir().unwrap();
        let unlimited = "9223372036854771712\n";
        write(
            root.path(),
            &[
                ("memory/job/memory.limit_in_bytes", unlimited),
                ("memory/job/memory.memsw.limit_in_bytes", unlimited),
                (
                    "memory/job/memory.stat",
                    "rss 1\nhierarchical_memory_limit 500\ntotal_rss 600\n",
                ),
                ("memory/memory.limit_in_bytes", unlimited),
            ],
        );
        let read = tightest("3:hugetlb,memory:/job\n", MOUNT_1, root.path());
        let source = "cgroup v1 /sys/fs/cgroup/memory/job/memory.stat".to_owned();
        assert_eq!(read, Some((500, Some(0), source)), "more than allowed");
    }

    #[test]
    fn memory_and_swap_together_can_be_tighter_than_memory() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("memory/job/memory.limit_in_bytes", "1000\n"),
                ("memory/job/memory.memsw.limit_in_bytes", "1200\n"),
                ("memory/job/memory.stat", "total_rss 300\ntotal_swap 800\n"),
            ],
        );
        let (limit, free, _) = tightest("3:memory:/job\n", MOUNT_1, root.path()).unwrap();
        assert_eq!((limit, free), (1000, Some(100)));
    }

    #[test]
    fn both_versions_may_be_mounted() {
        let root = tempfile::tempdir().unwrap();
        let mounts =
            "37 31 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n".to_owned() + MOUNT_1;
        write(
            root.path(),
            &[
                ("memory/a/memory.limit_in_bytes", "900\n"),
                ("unified/a/memory.max", "800\n"),
            ],
        );
        let (limit, free, source) = tightest("4:memory:/a\n0::/a\n", &mounts, root.path()).unwrap();
        assert_eq!((limit, free), (800, None));
        assert!(source.contains("unified/a"), "{source}");
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let root = tempfile::tempdir().unwrap();
        for groups in ["", "0::/elsewhere\n", "nonsense", "4:memory:/x\n"] {
            for mounts in ["", MOUNT_1, MOUNT_2, "a b c - cgroup2", "- - -"] {
                assert_eq!(limits(groups, mounts, root.path()), []);
            }
        }
    }
}
