//! Moments and lengths of time as a person writes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A moment as a person writes it: `"2024-05-01"`, `"2024-05-01 12:00+02:00"`, `1714521600`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "it must be a text, such as a date, or a number")]
pub enum Instant {
    /// A date, with or without a time.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// Another number.
    Real(f64),
}

impl std::fmt::Display for Instant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Whole(number) => number.fmt(formatter),
            Self::Real(number) => number.fmt(formatter),
        }
    }
}
