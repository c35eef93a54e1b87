//! A column's values, whatever its Arrow type: keys, real numbers, lists, bags.

pub(crate) mod bag;
pub(crate) mod key;
pub(crate) mod key_column;
pub(crate) mod lists;
pub(crate) mod real;
