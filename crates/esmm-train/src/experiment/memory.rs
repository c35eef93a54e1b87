//! How much memory this process may take: what the machine has, or what a control group (a container, a batch system) or
//! `ulimit` allows of it.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that this process may take at most; `None` where the system does not tell.
pub fn allowed() -> Option<u64> {
    allowed_below(Path::new("/"))
}

/// As [`allowed`], with the system's files below another root.
fn allowed_below(root: &Path) -> Option<u64> {
    let limits = groups(root).into_iter().filter_map(|file| limit(&file));
    limits.chain(machine(root)).chain(resource_limit(root)).min()
}

/// Bytes beyond which this process gets no memory at all, by `ulimit -v` or `ulimit -d`; `None` where there is no such limit.
pub fn refused_beyond() -> Option<u64> {
    resource_limit(Path::new("/"))
}

/// What `ulimit -v` (`prlimit --as`) and `ulimit -d` (`prlimit --data`) allow; `None` where they allow everything.
fn resource_limit(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/self/limits")).ok()?;
    let soft = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        // The soft limit, the hard one, the unit.
        line.split_whitespace().next()?.parse().ok()
    };
    ["Max address space", "Max data size"].into_iter().filter_map(soft).min()
}

/// What the machine has.
fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The limits of this process's control groups and of all that they are in: of version 2 (`memory.max`) and of version 1
/// (`memory.limit_in_bytes`). In a container the path of a group may be one of the machine outside, which is not there:
/// the root's file is then that of the container.
fn groups(root: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut files = Vec::new();
    for line in text.lines() {
        // `0::/path` is version 2, `5:cpu,memory:/path` version 1.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (base, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        files.extend(path.ancestors().map(|group| root.join(base).join(group).join(file)));
    }
    files
}

/// A limit in bytes; `None` where there is no such file or no limit (`max`).
fn limit(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A machine of 8 GiB with these files.
    fn machine_with(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in
            files.iter().chain(&[("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n")])
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        allowed_below(root.path())
    }

    #[test]
    fn the_lowest_limit_counts() {
        assert_eq!(machine_with(&[]), Some(8192 * MIB));
        let version_2 = [
            ("proc/self/cgroup", "0::/batch/job\n"),
            ("sys/fs/cgroup/batch/memory.max", "536870912\n"),
            ("sys/fs/cgroup/batch/job/memory.max", "max\n"),
        ];
        assert_eq!(machine_with(&version_2), Some(512 * MIB));
        let version_1 = [
            ("proc/self/cgroup", "7:cpu,cpuacct:/x\n5:hugetlb,memory:/docker/abc\n"),
            ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "268435456\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/x/memory.max", "1\n"),
        ];
        assert_eq!(machine_with(&version_1), Some(256 * MIB));
    }

    #[test]
    fn limits_of_the_shell_count() {
        let limits = |data: &str, address_space: &str| {
            let other = "Max cpu time              unlimited            unlimited            seconds";
            let data = format!("Max data size             {data:<20} unlimited            bytes");
            format!(
                "{other}\n{data}\nMax address space         {address_space:<20} unlimited            bytes\n"
            )
        };
        for (data, address_space, expected) in [
            ("unlimited", "134217728", 128),
            ("67108864", "unlimited", 64),
            ("67108864", "134217728", 64),
            ("unlimited", "unlimited", 8192),
        ] {
            let text = limits(data, address_space);
            assert_eq!(machine_with(&[("proc/self/limits", &text)]), Some(expected * MIB), "{text}");
        }
    }

    #[test]
    fn a_container_sees_its_limit_at_the_root() {
        let files = [
            ("proc/self/cgroup", "4:memory:/docker/of/the/machine\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ];
        assert_eq!(machine_with(&files), Some(1024 * MIB));
    }

    #[test]
    fn a_system_that_tells_nothing_has_no_limit() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(allowed_below(root.path()), None);
    }
}
