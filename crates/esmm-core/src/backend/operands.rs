//! What all operands of operations have in common.

/// Operands of an operation: structs of handles of tensors, T.
pub trait Operands<T> {
    /// Shows every float handle.
    fn each(&self, see: &mut dyn FnMut(&T));
}

impl<T> Operands<T> for T {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        see(self);
    }
}
