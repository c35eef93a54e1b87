//! Ali-CCP, the public dataset of arXiv 1804.07931, from its raw files to files that train.
//!
//! ```text
//! RAW_DIR/sample_skeleton_{train,test}.csv    sample_id,click,conversion,common_feature_index,feature_num,feature_list
//! RAW_DIR/common_features_{train,test}.csv    common_feature_index,feature_num,feature_list
//!     or .csv.gz, or several files of each kind, such as sample_skeleton_train_0.csv, sample_skeleton_train_1.csv
//!     feature_list: features with \x01 between them, each field\x02id\x03value
//!        |
//!        |  prepare
//!        v
//! OUT_DIR/train/impressions.parquet           sample_id, click, conversion, group, 205, 206, ...
//! OUT_DIR/train/groups.parquet                group, common_feature_index, 101, ..., 109_14, 109_14_weights, ...
//! OUT_DIR/test/...                            the same
//! OUT_DIR/run.toml, run-authors.toml          ready to be trained
//! OUT_DIR/report.json                         what was read, written and left out
//! ```
//!
//! The layout of the pairs of files is that of [`data::grouped`](esmm_data::grouped).
//!
//! # What becomes of a row
//!
//! * Every value of a field is kept with its weight, in the order of the file. Fields that have several values or weights
//!   in the official files are lists (`109_14` with `109_14_weights`); the others are one column. If one of those has
//!   several values after all, or a value that is not 1, [`prepare`] says so and starts over with lists for it.
//! * A missing field is null, or an empty list.
//! * Impressions keep their order, unless their common index comes back after others: then they join the first ones of
//!   their group, and are counted as moved. Several raw files of a split are read as one, in the order of their names.
//! * A conversion without a click is left out and counted. So is a common row that no impression uses, or that says once
//!   more what an earlier one said.
//! * A bad row is an error with file and line, or left out and counted up to
//!   [`max_bad_rows`](PrepareConfig::max_bad_rows): one that is cut off, has too few columns, a wrong `feature_num`, a
//!   field of the other file or an unknown one, an id that is no whole number below 2^31, a value that is not finite or
//!   is negative, a common index without a common row, a common index with a second, different common row. A common row
//!   that is left out makes the impressions that name it bad. A packed file that is damaged is always an error.
//!
//! # How, and in how much memory
//!
//! Three passes over each split, each in blocks of 2 MiB that are parsed on all cores and taken in their order, so that
//! the output does not depend on the number of threads:
//!
//! 1. **Scan** the skeleton: number the common indices by first use; put late impressions aside.
//! 2. **Common features** are parsed, packed (8 bytes a value) and sorted by group; what does not fit goes to disk in
//!    sorted runs.
//! 3. **Convert** the skeleton: impressions come in the order of groups, groups come out of the sorting in the same
//!    order, so that segments fill up and are written side by side.
//!
//! The joined rows never exist. What is held is an index of the groups of one split, 60 bytes each (53 MB for the 884,212
//! of Ali-CCP's test files), a fixed amount a thread, and for the sorting what is left of
//! [`memory`](PrepareConfig::memory); Ali-CCP's largest common file takes 3.7 GB to sort, in memory or on disk.
//!
//! # Generate
//!
//! The official files cannot be redistributed. [`generate()`] writes files of the same format and the same statistics, of
//! any size, with clicks and conversions that can be learned.

mod columns;
mod common;
mod convert;
mod error;
mod field;
pub mod generate;
mod index;
mod lines;
mod memory;
mod output;
mod pair;
mod parse;
mod passes;
mod prepare;
mod progress;
mod queue;
mod raw;
mod report;
mod rows;
mod run_file;
mod scan;
mod segment;
mod sorter;
#[cfg(test)]
mod tests;
mod token;

pub use error::{AliCcpError, BadRow};
pub use generate::{GenerateConfig, GenerateReport, generate};
pub use output::{AUTHORS_RUN_FILE, GROUPS_FILE, IMPRESSIONS_FILE, REPORT_FILE, RUN_FILE};
pub use prepare::{PrepareConfig, prepare};
pub use progress::PrepareProgress;
pub use report::{FieldReport, PrepareReport, SplitReport};
