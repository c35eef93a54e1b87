//! What steps hand to the update that follows them, where Burn's `TrainStep` passes gradients of parameters alone.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values of any type that wait to be taken. A clone holds copies of them: Burn's Learner clones a learner between step
/// and update.
#[derive(Default)]
pub(super) struct Handover(Mutex<Vec<Box<dyn Waiting>>>);

/// A value that waits, its type forgotten.
trait Waiting: Send {
    fn copy(&self) -> Box<dyn Waiting>;

    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: Any + Clone + Send> Waiting for T {
    fn copy(&self) -> Box<dyn Waiting> {
        Box::new(self.clone())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Handover {
    /// Adds a value.
    pub(super) fn put<T: Any + Clone + Send>(&self, value: T) {
        self.lock().push(Box::new(value));
    }

    /// Takes all values out, in the order in which they came. Values of another type are dropped.
    pub(super) fn take<T: Any>(&self) -> Vec<T> {
        let values = std::mem::take(&mut *self.lock()).into_iter();
        values.filter_map(|value| value.into_any().downcast().ok()).map(|value| *value).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<dyn Waiting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Handover {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.lock().iter().map(|value| value.as_ref().copy()).collect()))
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waiting", self.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::Handover;

    #[test]
    fn clones_have_copies_of_what_was_put_in() {
        let handover = Handover::default();
        handover.put(7_u32);
        handover.put(8_u32);
        assert_eq!(handover.clone().take::<u32>(), [7, 8]);
        assert_eq!(handover.take::<u32>(), [7, 8]);
        assert!(handover.take::<u32>().is_empty());
    }
}
