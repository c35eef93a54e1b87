//! The `esmm` command.
fn main() {}
