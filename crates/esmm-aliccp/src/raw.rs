//! The raw files in a folder.

use std::path::{Path, PathBuf};

use crate::error::AliCcpError;

/// The raw files of a split, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawFiles {
    /// `sample_skeleton_SPLIT*.csv` or `.csv.gz`.
    pub(crate) skeleton: Vec<PathBuf>,
    /// `common_features_SPLIT*.csv` or `.csv.gz`.
    pub(crate) common: Vec<PathBuf>,
}

impl RawFiles {
    /// Looks for the files of a split. `None` when there are none at all.
    pub(crate) fn find(folder: &Path, split: &str) -> Result<Option<Self>, AliCcpError> {
        let skeleton = named(folder, &format!("sample_skeleton_{split}"))?;
        let common = named(folder, &format!("common_features_{split}"))?;
        let missing = |name: &str, other: &str| {
            let reason = format!("holds {other}_{split} but no {name}_{split}.csv or .csv.gz");
            Err(AliCcpError::file(folder, reason))
        };
        match (skeleton.is_empty(), common.is_empty()) {
            (true, true) => Ok(None),
            (true, false) => missing("sample_skeleton", "common_features"),
            (false, true) => missing("common_features", "sample_skeleton"),
            (false, false) => Ok(Some(Self { skeleton, common })),
        }
    }
}

fn named(folder: &Path, stem: &str) -> Result<Vec<PathBuf>, AliCcpError> {
    let unreadable = |error: std::io::Error| AliCcpError::io(folder, &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with(stem) && (name.ends_with(".csv") || name.ends_with(".csv.gz")) {
            files.push(path);
        }
    }
    files.sort();
    let packed = files.iter().find(|path| files.contains(&path.with_extension("")));
    match packed {
        None => Ok(files),
        Some(path) => {
            let reason = "the same file without .gz is there as well: which one counts? Move one away";
            Err(AliCcpError::file(path, reason))
        }
    }
}
