//! What a step leaves for the update that follows it.
//!
//! Burn's [`TrainStep`](burn::train::TrainStep) hands from `step(&self)` to `optimize(self)` gradients of parameters and
//! nothing else, and `Learner` puts a clone in the learner's place between the two. So gradients of table rows travel in
//! the learner, and a step must write them there through a shared reference. This is the one place that does: a list
//! whose slots are each written once and never change, so that nothing is locked. The update owns the learner and takes
//! plain values out.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;

/// A list of values of any type that grows at its end. A clone holds copies of the values.
///
/// The types are forgotten because a learner is a module of any backend, but only one with autodiff has an inner backend
/// whose gradients could wait.
#[derive(Clone, Default)]
pub(super) struct Handover(Next);

/// The rest of the list.
type Next = OnceLock<Box<Slot>>;

#[derive(Clone)]
struct Slot {
    value: Box<dyn Waiting>,
    next: Next,
}

/// A value that waits, its type forgotten.
trait Waiting: Send + Sync {
    fn copy(&self) -> Box<dyn Waiting>;

    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: Any + Clone + Send + Sync> Waiting for T {
    fn copy(&self) -> Box<dyn Waiting> {
        Box::new(self.clone())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Clone for Box<dyn Waiting> {
    fn clone(&self) -> Self {
        self.as_ref().copy()
    }
}

impl Handover {
    /// Adds a value.
    pub(super) fn put<T: Any + Clone + Send + Sync>(&self, value: T) {
        let mut slot = Box::new(Slot { value: Box::new(value), next: Next::new() });
        let mut end = &self.0;
        loop {
            if let Some(written) = end.get() {
                end = &written.next;
            } else if let Err(back) = end.set(slot) {
                // Another thread wrote this one first.
                slot = back;
            } else {
                return;
            }
        }
    }

    /// Takes all values out, in the order in which they came. Values of another type are dropped.
    pub(super) fn take<T: Any>(&mut self) -> Vec<T> {
        let mut values = Vec::new();
        let mut rest = self.0.take();
        while let Some(slot) = rest {
            let Slot { value, next } = *slot;
            if let Ok(value) = value.into_any().downcast() {
                values.push(*value);
            }
            rest = next.into_inner();
        }
        values
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = std::iter::successors(self.0.get(), |slot| slot.next.get()).count();
        write!(f, "{waiting} waiting")
    }
}

#[cfg(test)]
mod tests {
    use super::Handover;

    #[test]
    fn clones_have_copies_of_what_was_put_in() {
        let mut handover = Handover::default();
        handover.put(7_u32);
        handover.put(8_u32);
        let mut copy = handover.clone();
        copy.put(9_u32);
        assert_eq!(format!("{handover:?}, {copy:?}"), "2 waiting, 3 waiting");
        assert_eq!(copy.take::<u32>(), [7, 8, 9]);
        assert_eq!(handover.take::<u32>(), [7, 8]);
        assert!(handover.take::<u32>().is_empty());
    }

    #[test]
    fn values_of_several_threads_all_arrive() {
        let mut handover = Handover::default();
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let handover = &handover;
                scope.spawn(move || (0..100).for_each(|number| handover.put(100 * thread + number)));
            }
        });
        let mut values = handover.take::<u32>();
        values.sort_unstable();
        assert!(values.into_iter().eq(0..400));
    }
}
