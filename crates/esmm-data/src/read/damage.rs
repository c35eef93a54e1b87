//! Damaged files on which the Parquet reader panics: an error of the file, as those that it reports itself.

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

use crate::error::DataError;

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
    HOOK.call_once(mute_own_panics);
    let before = INSIDE.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    INSIDE.set(before);
    match result {
        Ok(result) => result.map_err(|error| DataError::caused(path, error)),
        Err(payload) => {
            Err(DataError::file(path, format!("damaged, its reader stopped: {}", words(payload.as_ref()))))
        }
    }
}

/// Leaves all other panics to whoever handled them before.
fn mute_own_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let is_told = INSIDE.try_with(Cell::get).unwrap_or(false);
        if !is_told || std::env::var_os("RUST_BACKTRACE").is_some() {
            before(info);
        }
    }));
}

fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("it gave no reason")
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
