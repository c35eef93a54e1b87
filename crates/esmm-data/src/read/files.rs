//! Paths and globs to files that are there.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::DataError;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    Parquet,
}

/// The format that the extension tells.
pub(crate) fn format(path: &Path) -> Result<Format, DataError> {
    match extension(path).as_str() {
        "csv" | "tsv" | "txt" => Ok(Format::Csv),
        "parquet" | "pq" => Ok(Format::Parquet),
        _ => {
            Err(DataError::file(path, "unknown type of file, allowed are .csv, .tsv, .txt, .parquet and .pq"))
        }
    }
}

/// Whether tabs separate the fields of this file by default.
pub(crate) fn is_tsv(path: &Path) -> bool {
    extension(path) == "tsv"
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// The files behind some paths and globs, sorted, each once.
pub(crate) fn expand(paths: &[String]) -> Result<Vec<PathBuf>, DataError> {
    if paths.is_empty() {
        return Err(DataError::setting("source", "there is no path, at least one file or glob is needed"));
    }
    let mut files = Vec::new();
    for path in paths {
        match Path::new(path) {
            literal if literal.exists() || !is_glob(path) => files.push(literal.to_owned()),
            _ => files.extend(matches(path)?),
        }
    }
    files.sort();
    let mut seen = HashSet::new();
    let mut unique = Vec::with_capacity(files.len());
    for file in files {
        check(&file)?;
        if seen.insert(fs::canonicalize(&file).unwrap_or_else(|_| file.clone())) {
            unique.push(file);
        }
    }
    Ok(unique)
}

fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>, DataError> {
    let paths = glob::glob(pattern)
        .map_err(|error| DataError::setting("source", format!("`{pattern}` is not a glob: {error}")))?;
    let found: Result<Vec<PathBuf>, _> = paths.collect();
    match found {
        Ok(found) if found.is_empty() => Err(DataError::file(Path::new(pattern), "no file matches")),
        Ok(found) => Ok(found),
        Err(error) => Err(DataError::io(error.path(), error.error())),
    }
}

fn check(path: &Path) -> Result<(), DataError> {
    let metadata = fs::metadata(path).map_err(|error| DataError::io(path, &error))?;
    if metadata.is_dir() {
        return Err(DataError::file(path, "is a folder, name the files in it, as in `folder/*.parquet`"));
    }
    format(path)?;
    match metadata.len() {
        0 if metadata.is_file() => Err(DataError::file(path, "the file is empty")),
        _ => Ok(()),
    }
}
