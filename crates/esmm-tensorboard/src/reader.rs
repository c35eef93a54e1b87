//! What earlier event files of a run hold, for a training that goes on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

use crate::proto::{Event, What};
use crate::record;
use esmm_run::run_dir::write_atomic;

/// Whether a folder holds an event file.
pub(crate) fn has_events(folder: &Path) -> bool {
    !event_files(folder).is_empty()
}

/// Drops the events of `step` and of later ones, which a training that goes on will write again, and what is left of a
/// record that was not written to its end. A file that cannot be rewritten stays as it is: the new file's beginning voids
/// its events as well, and TensorBoard heeds that.
pub(crate) fn drop_from(folder: &Path, step: u64) {
    let step = i64::try_from(step).unwrap_or(i64::MAX);
    for path in event_files(folder) {
        let Ok(bytes) = fs::read(&path) else { continue };
        let mut kept = Vec::with_capacity(bytes.len());
        for payload in record::read(&bytes).0 {
            if Event::decode(payload).is_ok_and(|event| event.step < step) {
                record::append(&mut kept, payload);
            }
        }
        if kept.len() < bytes.len() {
            let _ = write_atomic(&path, &kept);
        }
    }
}

/// The steps at which a tag that begins with `prefix` was written. Files that cannot be read count as empty.
pub(crate) fn steps_of(folder: &Path, prefix: &str) -> BTreeSet<u64> {
    let mut steps = BTreeSet::new();
    for bytes in event_files(folder).iter().filter_map(|path| fs::read(path).ok()) {
        let events = record::read(&bytes).0.into_iter().filter_map(|payload| Event::decode(payload).ok());
        for event in events {
            let Some(What::Summary(summary)) = event.what else { continue };
            if summary.value.iter().any(|value| value.tag.starts_with(prefix)) {
                steps.extend(u64::try_from(event.step).ok());
            }
        }
    }
    steps
}

/// The event files of a folder, in the order in which TensorBoard reads them.
pub(crate) fn event_files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_event_file =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("tfevents"));
    let mut files: Vec<PathBuf> = paths.filter(is_event_file).collect();
    files.sort();
    files
}
