//! The data path of ESMM: from files of impressions to encoded rows and batches.
//!
//! ```text
//! SourceSpec --open--> Chunk --EncoderFitter--> FittedEncoders --encode--> EncodedChunk ---> Dataset
//!   files, globs        Arrow columns             on training rows           table rows,       all rows of
//!   CSV, Parquet        and their places                                     numbers           a split
//! ```
//!
//! [`DataSpec::load`] does all of it for a training, with the rows in memory or in their files ([`stream`]). For a
//! prediction open the source with [`FittedEncoders::required_columns`] and encode chunk by chunk. The text of the files is
//! never in memory as a whole.
//!
//! Row 0 of every embedding table stands for missing values, row 1 of a vocabulary's table for values that training does not
//! know ([`UnknownRow`]). A training takes a small share of the known values as unknown, so that this row is trained.

#![forbid(unsafe_code)]

mod column;
mod dataset;
mod encode;
mod error;
mod load;
pub mod loader;
mod outcome;
pub mod panics;
mod place;
mod processors;
mod read;
mod split;
pub mod stream;
pub mod synthetic;
#[cfg(test)]
mod tests;

pub use column::key::KEY_HASH_SEED;
pub use column::lists::Lists;
pub use column::moment::moment_of;
pub use column::plain::usual_type;
pub use column::printed::printed_list;
pub use column::spelling::Spelling;
pub use column::zoned::zoned_text;
pub use dataset::{
    Dataset, EncodedChunk, FeatureCounts, OutsideCell, RowCounts, Sides, SparseColumn, Truth, UserGroups,
    ValueCounts,
};
pub use encode::counter::ValueCounter;
pub use encode::encoder::FittedEncoders;
pub use encode::feature::{DenseTransform, FeatureKind, FeatureSpec, Outside, SparseEncoding};
pub use encode::fit::EncoderFitter;
pub use encode::save::{FEATURES_FILE, VOCABULARIES_FILE};
pub use encode::trained_rows::{TRAINED_ROWS_FILE, TrainedRows};
pub use encode::unknown_row::{MISSING, UnknownRow};
pub use error::{Cause, DataError, nearest, quoted};
pub use load::report::{LoadReport, SplitReport, StageWeights};
pub use load::rows::SplitRows;
pub use load::spec::{DataSpec, LoadOptions, LoadedData};
pub use outcome::counting::{ConversionWindow, CountSpec};
pub use outcome::label::{LabelSpec, MissingLabel, Orphans, label_of};
pub use outcome::outcomes::NO_GROUP;
pub use outcome::truth::TruthSpec;
pub use place::{Origin, Place, RowNumber};
pub use read::chunk::Chunk;
pub use read::columns::ColumnNames;
pub use read::data_file::DataFile;
pub use read::grouped::{self, GroupedFile, Segment, Segments};
pub use read::list_format::ListFormat;
pub use read::pieces::{Piece, Pieces};
pub use read::source::{ChunkReader, CsvOptions, SourceSpec};
pub use read::spool;
pub use split::spec::SplitSpec;
