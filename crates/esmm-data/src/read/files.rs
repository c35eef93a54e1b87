//! Paths, globs and folders to files that are there.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use esmm_files::FileIdentity;

use super::data_file::DataFile;
use crate::error::DataError;

/// The path that stands for standard input.
pub(crate) const STDIN: &str = "-";

/// The files of some paths in their order, as often as they are named; those of a glob or folder sorted, each once. Text
/// files of 0 bytes, as Spark writes them, add no rows and are left out. `groups`, the name of the file of groups beside each
/// file, is left out of folders and globs.
pub(crate) fn expand(paths: &[String], groups: Option<&str>) -> Result<Vec<DataFile>, DataError> {
    if paths.is_empty() {
        return Err(DataError::setting("source", "there is no path, at least one file or glob is needed"));
    }
    let mut files = Vec::new();
    let mut empty = None;
    for path in paths {
        for path in found(path, groups)? {
            match DataFile::open(&path)? {
                Some(file) => files.push(file),
                None => empty = empty.or(Some(path)),
            }
        }
    }
    match (files.is_empty(), empty) {
        (true, Some(path)) => {
            Err(DataError::file(&path, "the file is empty, its first line must name the columns"))
        }
        _ => Ok(files),
    }
}

/// Files that are named more than once.
pub(crate) fn repeated(paths: &[String], groups: Option<&str>) -> Result<Vec<PathBuf>, DataError> {
    let mut seen = HashSet::new();
    let mut repeated = Vec::new();
    for path in paths {
        for path in found(path, groups)? {
            if FileIdentity::of(&path).is_some_and(|identity| !seen.insert(identity)) {
                repeated.push(path);
            }
        }
    }
    Ok(repeated)
}

/// The paths of files that a path, a glob or a folder stands for, without a look into them. A folder or a glob that holds
/// files of groups beside their impressions stands for the impressions.
pub(crate) fn found(path: &str, groups: Option<&str>) -> Result<Vec<PathBuf>, DataError> {
    if path == STDIN {
        return Ok(vec![PathBuf::from(STDIN)]);
    }
    if path.is_empty() {
        return Err(DataError::setting("source", "a path is empty: it must name a file, a glob or a folder"));
    }
    let literal = Path::new(path);
    if literal.is_dir() {
        return without_groups(in_folder(literal)?, groups, literal);
    }
    if literal.exists() || !is_glob(path) {
        return Ok(vec![literal.to_owned()]);
    }
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    for path in matches(path)? {
        let inside = if path.is_dir() { in_folder(&path)? } else { vec![path] };
        // A folder and the files in it may match the same glob.
        files.extend(inside.into_iter().filter(|path| seen.insert(path.clone())));
    }
    without_groups(files, groups, literal)
}

/// The file of groups beside a file of impressions.
pub(crate) fn groups_of(impressions: &Path, groups: &str) -> PathBuf {
    impressions.parent().unwrap_or(Path::new("")).join(groups)
}

/// The files of `path` without those that hold the groups of others.
fn without_groups(
    mut files: Vec<PathBuf>,
    groups: Option<&str>,
    path: &Path,
) -> Result<Vec<PathBuf>, DataError> {
    let Some(groups) = groups else { return Ok(files) };
    let beside = files.iter().filter_map(|file| FileIdentity::of(&groups_of(file, groups)));
    let beside: HashSet<FileIdentity> = beside.collect();
    files.retain(|file| FileIdentity::of(file).is_none_or(|identity| !beside.contains(&identity)));
    match files.is_empty() {
        true => {
            Err(DataError::file(path, "holds no file of impressions beside that of the groups (data.groups)"))
        }
        false => Ok(files),
    }
}

fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>, DataError> {
    let paths = glob::glob(pattern)
        .map_err(|error| DataError::setting("source", format!("`{pattern}` is not a glob: {error}")))?;
    let found: Result<Vec<PathBuf>, _> = paths.collect();
    let found = found.map_err(|error| DataError::io(error.path(), error.error()))?;
    let mut files: Vec<PathBuf> = found.into_iter().filter(|path| !is_marker(path)).collect();
    files.sort();
    if let Some(path) = not_utf_8(Path::new(pattern)) {
        return Err(DataError::file(
            &path,
            "matches, but its name is not UTF-8: rename it, or name its folder",
        ));
    }
    match files.is_empty() {
        true => Err(DataError::file(Path::new(pattern), "no file matches")),
        false => Ok(files),
    }
}

/// A file that would match a pattern if its name were UTF-8: `glob` passes over it, and its rows would be missing without a
/// word. It is looked for by the last part of the pattern, in the folders that match those before.
fn not_utf_8(pattern: &Path) -> Option<PathBuf> {
    let last = glob::Pattern::new(pattern.file_name()?.to_str()?).ok()?;
    let parent = pattern.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folders = glob::glob(parent.to_str()?).ok()?.filter_map(Result::ok);
    let entries = folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten().filter_map(Result::ok);
    let mut names = entries.map(|entry| entry.path());
    names.find(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_str().is_none() && last.matches(&name.to_string_lossy())
    })
}

/// What Spark and its like leave beside their data.
fn is_marker(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let known = ["_SUCCESS", "_metadata", "_common_metadata"].contains(&name.as_str());
    known || name.starts_with("_committed_") || name.starts_with("_started_") || name.ends_with(".crc")
}

/// All files in a folder and the folders in it, sorted, but for those whose names begin with `_` or `.`.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    walk(folder, &mut files)?;
    files.sort();
    match files.is_empty() {
        true => Err(DataError::file(
            folder,
            "the folder has no files (names that begin with _ or . are left out)",
        )),
        false => Ok(files),
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let entries = fs::read_dir(folder).map_err(|error| DataError::io(folder, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| DataError::io(folder, &error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['_', '.']));
        if hidden {
            continue;
        }
        match path.is_dir() {
            true => walk(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
