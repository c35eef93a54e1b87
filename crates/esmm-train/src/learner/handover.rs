//! What a step hands to the update that follows it, where Burn's `TrainStep` passes gradients of parameters alone.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// Room for one value of any type, shared by all clones of a learner: Burn's Learner clones it between step and update.
#[derive(Debug, Clone, Default)]
pub(super) struct Handover(Arc<Mutex<Option<Box<dyn Any + Send>>>>);

impl Handover {
    /// Puts a value in, in place of one that nobody took.
    pub(super) fn put<T: Any + Send>(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(value));
    }

    /// Takes the value out, if it is of this type.
    pub(super) fn take<T: Any + Send>(&self) -> Option<T> {
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        value.downcast().ok().map(|value| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::Handover;

    #[test]
    fn clones_share_what_was_put_in() {
        let handover = Handover::default();
        handover.put(7_u32);
        assert_eq!(handover.clone().take::<u32>(), Some(7));
        assert_eq!(handover.take::<u32>(), None);
    }
}
