//! The one error type of this crate.

use std::path::PathBuf;

/// Everything that input from outside can get wrong. Each message says what was found and what is allowed.
///
/// Shapes that disagree inside a program are bugs and panic instead, printing both shapes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EsmmError {
    /// The schema has no feature.
    #[error("the feature schema is empty: at least one feature is needed")]
    EmptySchema,
    /// A feature without a name.
    #[error("feature number {position} has an empty name")]
    EmptyName {
        /// Place in the schema, from 1.
        position: usize,
    },
    /// Two features of the same name.
    #[error("feature `{name}` is declared twice: names must be unique")]
    DuplicateName {
        /// The repeated name.
        name: String,
    },
    /// A sparse feature whose table has no row.
    #[error("feature `{name}`: num_embeddings = 0, it must be at least 1")]
    ZeroRows {
        /// The feature.
        name: String,
    },
    /// A dense feature with bins, but none.
    #[error("feature `{name}`: bins = 0, it must be at least 1")]
    ZeroBins {
        /// The feature.
        name: String,
    },
    /// A feature that shares the table of a feature which has none.
    #[error("feature `{name}` shares the table of `{shares}`, which {reason}")]
    BadShare {
        /// The feature.
        name: String,
        /// The feature whose table it asked for.
        shares: String,
        /// Why that cannot be.
        reason: String,
    },
    /// A model setting outside its range.
    #[error("{key} = {found}: {allowed}")]
    Config {
        /// The setting, as in the configuration.
        key: &'static str,
        /// Its value.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// An id that its table does not have.
    #[error("row {row}, feature `{name}`: id {found} is out of range, allowed are 0 to {max}")]
    IdOutOfRange {
        /// Row of the batch, from 0.
        row: usize,
        /// The feature.
        name: String,
        /// The id.
        found: u64,
        /// Largest allowed id.
        max: u64,
    },
    /// A dense value or a weight that is not finite.
    #[error("row {row}, feature `{name}`: {found} is not a finite number")]
    NotFinite {
        /// Row of the batch, from 0.
        row: usize,
        /// The feature.
        name: String,
        /// The value.
        found: f32,
    },
    /// A number of a feature with bins that is no position among them.
    #[error("row {row}, feature `{name}`: {found} is no position among its bins, allowed are 0 to {bins}")]
    OutOfBins {
        /// Row of the batch, from 0.
        row: usize,
        /// The feature.
        name: String,
        /// The number.
        found: f32,
        /// The feature's bins.
        bins: usize,
    },
    /// Input columns that do not fit the schema.
    #[error("{what}: found {found}, expected {expected}")]
    BatchShape {
        /// Which part of the batch.
        what: String,
        /// What was given.
        found: String,
        /// What the schema asks for.
        expected: String,
    },
    /// A cell of the notebook's float matrix that is no id of its feature.
    #[error(
        "row {row}, column {column}, feature `{name}`: {found} is not an id, allowed are whole numbers from 0 to {max}"
    )]
    NotAnId {
        /// Row of the matrix, from 0.
        row: usize,
        /// Column of the matrix, from 0.
        column: usize,
        /// The feature.
        name: String,
        /// The value.
        found: f32,
        /// Largest allowed id.
        max: usize,
    },
    /// A state dict entry that the model needs and the file lacks.
    #[error("{path}: entry `{name}` is missing{hint}")]
    MissingEntry {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: String,
        /// A near name in the file, or nothing.
        hint: String,
    },
    /// A state dict entry that the model does not know.
    #[error("{path}: entry `{name}` belongs to no part of the model{hint}")]
    SurplusEntry {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: String,
        /// A near name in the model, or nothing.
        hint: String,
    },
    /// A state dict entry of another shape or type than the model's.
    #[error("{path}: entry `{name}` is {found}, expected {expected}")]
    EntryShape {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: String,
        /// Type and shape in the file.
        found: String,
        /// Type and shape in the model.
        expected: String,
    },
    /// A file that cannot be read as weights.
    #[error("{path}: {reason}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
