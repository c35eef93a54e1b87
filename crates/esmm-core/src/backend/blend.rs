//! How running statistics move towards those of a batch.

use super::operands::Operands;

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
