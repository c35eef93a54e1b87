//! A column's values, whatever its Arrow type: keys, real numbers, moments, lists, bags.

pub(crate) mod bag;
pub(crate) mod key;
pub(crate) mod key_column;
pub(crate) mod lists;
pub(crate) mod moment;
pub(crate) mod plain;
pub(crate) mod printed;
pub(crate) mod real;
pub(crate) mod spelling;
pub(crate) mod zoned;
