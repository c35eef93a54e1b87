//! Damaged files on which the Parquet reader panics: an error of the file, as those that it reports itself.

use std::cell::Cell;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;

use crate::error::DataError;
use crate::panics;

thread_local! {
    /// Whether this thread is inside [`caught`], which tells of a panic itself.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Calls the reader of a file. Its error, and a panic of it, is an error of the file; the reader must not be used after
/// that. Panics are shown besides where `RUST_BACKTRACE` is set.
pub(super) fn caught<T, E>(path: &Path, read: impl FnOnce() -> Result<T, E>) -> Result<T, DataError>
where
    E: Error + Send + Sync + 'static,
{
    static HOOK: Once = Once::new();
    HOOK.call_once(|| panics::keep_quiet(|_| INSIDE.try_with(Cell::get).unwrap_or(false)));
    let before = INSIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(read));
    INSIDE.set(before);
    match result {
        Ok(result) => result.map_err(|error| DataError::caused(path, error)),
        Err(payload) => {
            let words = panics::words(payload.as_ref());
            Err(DataError::file(path, format!("damaged, its reader stopped: {words}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_errors_are_errors_of_the_file() {
        let path = Path::new("a.parquet");
        let read = |result: fn() -> Result<u8, std::fmt::Error>| caught(path, result);
        assert_eq!(read(|| Ok(1)).unwrap(), 1);
        assert!(read(|| Err(std::fmt::Error)).unwrap_err().to_string().starts_with("a.parquet: "));
        let found = read(|| panic!("out of\nbounds")).unwrap_err().to_string();
        assert_eq!(found, "a.parquet: damaged, its reader stopped: out of bounds");
        assert!(!INSIDE.get(), "the next panic is not ours");
    }
}
