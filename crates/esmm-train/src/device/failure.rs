//! Panics of a device, as errors. Burn and CubeCL panic where a driver fails, often in threads of their own.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, Once, PoisonError};

use crate::error::TrainError;

/// Longest reason that is shown: drivers are talkative.
const LONGEST: usize = 300;

/// Panics since the work under way began, the first one first; `None` while no work is under way.
static SEEN: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Runs work; a panic in it, or of a thread that it waits for, becomes an error of one line that begins with `what`.
/// With `RUST_BACKTRACE` set panics are shown as well.
pub(super) fn caught<T>(what: &str, work: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(record_panics);
    seen(|seen| *seen = Some(Vec::new()));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    let first = seen(|seen| seen.take()).and_then(|seen| seen.into_iter().next());
    result.unwrap_or_else(|payload| {
        let reason = first.unwrap_or_else(|| message(payload.as_ref()));
        Err(TrainError::Device(format!("{what}: {}", one_line(&reason))))
    })
}

/// Notes panics while work is under way, and leaves all others to whoever handled them before.
fn record_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let recorded = seen(|seen| match seen {
            Some(seen) => {
                seen.push(message(info.payload()));
                true
            }
            None => false,
        });
        if !recorded || std::env::var_os("RUST_BACKTRACE").is_some() {
            before(info);
        }
    }));
}

fn seen<T>(work: impl FnOnce(&mut Option<Vec<String>>) -> T) -> T {
    work(&mut SEEN.lock().unwrap_or_else(PoisonError::into_inner))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it gave no reason".to_owned())
}

/// The words of a text with single spaces between them, cut where it gets too long.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(work: impl FnOnce()) -> String {
        let result = caught("device `wgpu` failed", || {
            work();
            Ok(())
        });
        result.unwrap_err().to_string()
    }

    /// In one test: what is seen is seen by the whole process.
    #[test]
    fn a_panic_is_one_line() {
        assert_eq!(caught("never", || Ok(7)).unwrap(), 7);
        let own = caught::<()>("never", || Err(TrainError::Training("a full disk".into())));
        assert_eq!(own.unwrap_err().to_string(), "a full disk");

        let error = fails(|| panic!("device\n   lost: {}", 3));
        assert_eq!(error, "device `wgpu` failed: device lost: 3");
        // The thread that failed first says why, not the one that waited for it.
        let waits = || {
            let thread = std::thread::spawn(|| panic!("out of memory"));
            assert!(thread.join().is_ok(), "the server is gone");
        };
        assert_eq!(fails(waits), "device `wgpu` failed: out of memory");
        let error = fails(|| panic!("{}", "word ".repeat(1000)));
        assert!(error.len() < 350 && error.ends_with(" ..."), "{error}");
        assert!(!TrainError::Device(error).is_usage());
    }
}
