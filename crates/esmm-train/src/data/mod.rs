//! From files of impressions to encoded rows in memory.
//!
//! ```text
//! SourceSpec --open--> Chunk --EncoderFitter--> FittedEncoders --encode--> EncodedChunk ---> Dataset
//!   files, globs        Arrow columns             on training rows           table rows,       all rows of
//!   CSV, Parquet        and their places                                     numbers           a split
//! ```
//!
//! [`load_splits`] does all of it for a training; [`stream`] leaves the rows in their files, as an evaluation does. For a
//! prediction open the source with [`FittedEncoders::required_columns`] and encode chunk by chunk. The text of the files is
//! never in memory as a whole.
//!
//! Row 0 of every embedding table stands for missing and unknown values.

mod bag;
mod blocks;
mod chunk;
mod csv;
pub mod dataset;
mod dense;
mod describe;
mod encoder;
mod error;
mod feature;
mod files;
mod fit;
pub mod grouped;
mod hasher;
mod key;
mod key_column;
mod label;
mod lists;
mod load;
pub mod loader;
mod newlines;
mod outcomes;
mod parquet;
mod place;
mod quantile;
mod real;
mod report;
mod rows;
mod save;
mod source;
mod split;
pub mod stream;
pub mod synthetic;
mod table;
mod time;
mod truth;
mod user_groups;
mod vocabulary;
mod vocabulary_file;

#[cfg(test)]
mod tests;

pub use chunk::Chunk;
pub use dataset::{Dataset, SparseColumn, Truth};
pub use encoder::{EncodedChunk, FittedEncoders};
pub use error::DataError;
pub(crate) use error::{nearest, quoted};
pub use feature::{DenseTransform, FeatureKind, FeatureSpec, SparseEncoding};
pub use fit::EncoderFitter;
pub use grouped::{GroupedFile, Segment, Segments};
pub use key::KEY_HASH_SEED;
pub use label::{LabelSpec, Orphans};
pub(crate) use lists::Lists;
pub use load::{LoadedSplits, load_splits};
pub use place::{Origin, Place, RowNumber};
pub use report::{LoadReport, SplitReport};
pub use rows::SplitRows;
pub use save::{FEATURES_FILE, VOCABULARIES_FILE};
pub use source::{ChunkReader, CsvOptions, ListFormat, SourceSpec};
pub use split::SplitSpec;
pub use truth::TruthSpec;
pub use user_groups::{Sides, UserGroups};
