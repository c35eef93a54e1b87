//! How running statistics move towards those of a batch.

use super::layer::Moments;
use super::operands::Operands;

/// Running statistics of a batch norm, and how a step moves them towards those of its batch.
#[derive(Debug, Clone)]
pub struct Running<T> {
    /// The statistics before the step.
    pub old: Moments<T>,
    /// What is kept of them.
    pub keep: f64,
    /// What is taken of the batch's mean.
    pub take_mean: f64,
    /// What is taken of the batch's variance.
    pub take_variance: f64,
}

impl<T> Running<T> {
    /// The same over other handles.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Running<U> {
        let Self { old, keep, take_mean, take_variance } = self;
        Running { old: old.map(change), keep, take_mean, take_variance }
    }

    /// The steps towards the moments of a batch: of the mean, of the variance.
    pub fn blends(self, new: Moments<T>) -> [Blend<T>; 2] {
        let Self { old, keep, take_mean, take_variance } = self;
        [
            Blend { old: old.mean, new: new.mean, keep, take: take_mean },
            Blend { old: old.variance, new: new.variance, keep, take: take_variance },
        ]
    }
}

impl<T> Operands<T> for Vec<Option<Running<T>>> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        self.iter().flatten().for_each(|running| running.old.each(see));
    }
}

/// A step from an old value to a new one: `old * keep + new * take`, both of one shape.
#[derive(Debug, Clone)]
pub struct Blend<T> {
    /// Where it starts.
    pub old: T,
    /// What it moves towards.
    pub new: T,
    /// What is kept of the old value.
    pub keep: f64,
    /// What is taken of the new value.
    pub take: f64,
}

impl<T> Blend<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Blend<U> {
        let Self { old, new, keep, take } = self;
        Blend { old: change(old), new: change(new), keep, take }
    }
}

impl<T> Operands<T> for Vec<Blend<T>> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        for blend in self {
            see(&blend.old);
            see(&blend.new);
        }
    }
}
