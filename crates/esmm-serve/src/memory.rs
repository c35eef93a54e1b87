//! Whether there is memory for one more model, before it is read.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that the system can still give, where it says so.
pub(crate) fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let system = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = system.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let system = kibibytes * 1024;
    Some(control_group().map_or(system, |group| group.min(system)))
}

/// What the limit of the control group leaves.
fn control_group() -> Option<u64> {
    let read = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok();
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    Some(limit.saturating_sub(used))
}

/// Refuses weights that would not fit beside what is in memory: while they are read they are there twice.
pub(crate) fn check_model(folder: &Path, weights: &[PathBuf]) -> Result<(), String> {
    let mut size = 0;
    for path in weights {
        let metadata =
            fs::metadata(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        size += metadata.len();
    }
    let needed = size * 2;
    match available() {
        Some(available) if needed > available => Err(format!(
            "{}: reading it takes about {} MiB, {} MiB are available",
            folder.display(),
            needed >> 20,
            available >> 20
        )),
        _ => Ok(()),
    }
}
