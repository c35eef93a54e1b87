//! How lists are written in text columns.

use serde::{Deserialize, Serialize};

/// How lists are written in text: `a|b|c`, with weights `a:0.7|b:0.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFormat {
    /// Between items.
    pub separator: char,
    /// Between an item and its weight; the last one in an item counts.
    pub weight_separator: char,
}

impl Default for ListFormat {
    fn default() -> Self {
        Self { separator: '|', weight_separator: ':' }
    }
}
