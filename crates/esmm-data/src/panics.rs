//! Panics of libraries, told as errors: who keeps them off the screen, and what they said.

use std::any::Any;
use std::panic::{self, PanicHookInfo};

/// From now on asks `is_told` about every panic of this process. What it says yes to is told by its caller as an error, and
/// shown only where `RUST_BACKTRACE` is set; all others are left to whoever handled them before.
///
/// # Examples
/// ```
/// use std::panic::catch_unwind;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// static READING: AtomicBool = AtomicBool::new(false);
/// esmm_data::panics::keep_quiet(|_| READING.load(Ordering::Relaxed));
///
/// READING.store(true, Ordering::Relaxed);
/// let caught = catch_unwind(|| panic!("out of bounds")).unwrap_err();
/// READING.store(false, Ordering::Relaxed);
/// assert_eq!(esmm_data::panics::words(caught.as_ref()), "out of bounds");
/// ```
pub fn keep_quiet(is_told: impl Fn(&PanicHookInfo<'_>) -> bool + Send + Sync + 'static) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !is_told(info) || std::env::var_os("RUST_BACKTRACE").is_some() {
            before(info);
        }
    }));
}

/// What a panic said.
pub fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("it gave no reason")
}
