//! Panics of a device, as errors. Burn and CubeCL panic where a driver fails, often in threads of their own.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};

use esmm_data::panics;
use esmm_run::wording::memory;

use crate::error::TrainError;

/// Longest reason that is shown: drivers are talkative.
const LONGEST: usize = 300;

/// What Rust's runtime says before it aborts the process, because a destructor panicked while another panic was on its way:
/// buffers of wgpu do where the device is lost.
const ABORTING: &str = "panic in a destructor during cleanup";

/// The work under way; `None` while there is none.
static SEEN: Mutex<Option<UnderWay>> = Mutex::new(None);

/// Who is told before the runtime aborts the process.
static BEFORE_ABORT: Mutex<Option<Tell>> = Mutex::new(None);

type Tell = Box<dyn Fn(TrainError) + Send>;

/// Work, and its panics so far.
struct UnderWay {
    /// What an error of it begins with.
    what: String,
    /// The first one first.
    panics: Vec<String>,
}

/// Runs work; a panic in it, or of a thread that it waits for, becomes an error of one line that begins with `what`, a
/// [`TrainError::DeviceOutOfMemory`] where memory was refused. So does
/// a panic that the work did not notice: CubeCL catches those of its device's thread, the kernel never runs, and what is
/// read afterwards is whatever lay there. With `RUST_BACKTRACE` set panics are shown as well.
pub(super) fn caught<T>(what: &str, work: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| panics::keep_quiet(note));
    let under_way = UnderWay { what: what.to_owned(), panics: Vec::new() };
    let before = seen(|seen| seen.replace(under_way));
    let result = catch_unwind(AssertUnwindSafe(work));
    let first = seen(|seen| std::mem::replace(seen, before)).and_then(|seen| seen.panics.into_iter().next());
    match (result, first) {
        (Ok(Err(error @ (TrainError::Device(_) | TrainError::DeviceOutOfMemory(_)))), _) => Err(error),
        (Ok(Ok(_) | Err(_)) | Err(_), Some(first)) => Err(failed(what, &first)),
        (Ok(result), None) => result,
        (Err(payload), None) => Err(failed(what, panics::words(payload.as_ref()))),
    }
}

/// The first panic since the work under way began, as an error that begins with `what`.
pub(super) fn first(what: &str) -> Option<TrainError> {
    seen(|seen| seen.as_ref().and_then(|seen| seen.panics.first().map(|reason| failed(what, reason))))
}

/// Has `tell` told what [`caught`] would have returned, where the runtime aborts the process instead.
pub(super) fn before_abort(tell: Tell) {
    *BEFORE_ABORT.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
}

/// Tells of the first panic of the work under way, once.
fn tell_before_abort() {
    let error = seen(|seen| {
        let seen = seen.as_ref()?;
        let first = seen.panics.first()?;
        Some(failed(&seen.what, first))
    });
    let tell = BEFORE_ABORT.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Some(error), Some(tell)) = (error, tell) {
        tell(error);
    }
}

/// Notes a panic while work is under way, which tells of it.
fn note(panic: &PanicHookInfo<'_>) -> bool {
    let words = panics::words(panic.payload());
    if words == ABORTING {
        tell_before_abort();
    }
    seen(|seen| match seen {
        Some(seen) => {
            seen.panics.push(words.to_owned());
            true
        }
        None => false,
    })
}

fn seen<T>(work: impl FnOnce(&mut Option<UnderWay>) -> T) -> T {
    work(&mut SEEN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What drivers, wgpu and CubeCL say of memory that a device does not have.
const OUT_OF_MEMORY: [&str; 5] =
    ["out of memory", "out-of-memory", "out_of_memory", "outofmemory", "not enough memory"];
/// What CubeCL says of it, before the number of bytes.
const UNALLOCATED: &str = "can't allocate buffer of size: ";

/// The error of a panic: its text in one line, or that memory was refused, and how much where that is known.
fn failed(what: &str, reason: &str) -> TrainError {
    let lower = reason.to_lowercase();
    let bytes = lower.split_once(UNALLOCATED).and_then(|(_, rest)| {
        let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    if let Some(bytes) = bytes {
        return TrainError::DeviceOutOfMemory(format!(
            "{what}: its memory has no room for a buffer of {}",
            memory(bytes)
        ));
    }
    if OUT_OF_MEMORY.iter().any(|words| lower.contains(words)) {
        return TrainError::DeviceOutOfMemory(format!("{what}: it is out of memory"));
    }
    TrainError::Device(format!("{what}: {}", one_line(reason)))
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
            let thread = std::thread::spawn(|| panic!("a driver fell over"));
            assert!(thread.join().is_ok(), "the server is gone");
        };
        assert_eq!(fails(waits), "device `wgpu` failed: a driver fell over");
        // Nor does it help when nobody waits for it: CubeCL's device thread.
        let unnoticed = || drop(std::thread::spawn(|| panic!("no kernel")).join());
        assert_eq!(fails(unnoticed), "device `wgpu` failed: no kernel");
        let looked = || {
            drop(std::thread::spawn(|| panic!("no\nkernel")).join());
            assert_eq!(first("wgpu").unwrap().to_string(), "wgpu: no kernel");
            assert_eq!(
                caught("inside", || Ok(1)).unwrap(),
                1,
                "what came before is not the fault of this work"
            );
        };
        assert_eq!(fails(looked), "device `wgpu` failed: no kernel");
        assert!(first("wgpu").is_none());
        // Where the runtime is about to abort the process, somebody is told, once.
        static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
        before_abort(Box::new(|error| TOLD.lock().unwrap().push(error.to_string())));
        let aborts = || {
            drop(std::thread::spawn(|| panic!("the device is lost")).join());
            for _ in 0..2 {
                drop(catch_unwind(|| panic!("{ABORTING}")));
            }
        };
        assert_eq!(fails(aborts), "device `wgpu` failed: the device is lost");
        assert_eq!(*TOLD.lock().unwrap(), ["device `wgpu` failed: the device is lost"]);
        // What CubeCL, wgpu and CUDA's driver say of memory that is not there.
        for (panicked, told) in [
            (
                "can't allocate buffer of size: 1572864\n<backtrace>",
                "its memory has no room for a buffer of 1.5 MiB",
            ),
            ("wgpu error: Out of Memory\n\nCaused by:\n  In Device::create_buffer", "it is out of memory"),
            ("RequestDeviceError { inner: Core(Device(OutOfMemory)) }", "it is out of memory"),
            ("An out-of-memory error happened during launch", "it is out of memory"),
            ("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")", "it is out of memory"),
        ] {
            let error = caught::<()>("device `wgpu` failed", || panic!("{panicked}")).unwrap_err();
            assert!(matches!(error, TrainError::DeviceOutOfMemory(_)), "{error:?}");
            assert_eq!(error.to_string(), format!("device `wgpu` failed: {told}"));
        }
        let error = fails(|| panic!("{}", "word ".repeat(1000)));
        assert!(error.len() < 350 && error.ends_with(" ..."), "{error}");
        assert!(!TrainError::Device(error).is_usage());
    }
}
