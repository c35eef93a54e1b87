//! Impressions whose user features are stored once per group, in a second Parquet file that is read beside the first.
//!
//! A user's features can be hundreds of values that stay the same over all impressions of a visit. So they stand in a
//! file of their own, one row a group, and each impression names its group:
//!
//! ```text
//! FOLDER/impressions.parquet    group: UInt32   click   conversion   205   216   ...        one row an impression
//! FOLDER/groups.parquet         group: UInt32   101   109_14   109_14_weights   ...         one row a group
//!                                  a column `group` in both; every other name in one of them only
//! ```
//!
//! The layout, which `esmm aliccp prepare` writes and this module holds files to:
//!
//! 1. **Order.** Groups are numbered 0, 1, 2, ... in the order of their first impression. Impressions are ordered by
//!    group, so that the rows of a group are adjacent; groups are ordered by number.
//! 2. **Segments.** Both files have the same number of Parquet row groups. Row group `k` of `groups.parquet` holds
//!    exactly the groups that row group `k` of `impressions.parquet` uses, each once, ascending. Such a pair is a
//!    *segment*: it can be read without the rest, so segments may be read in any order, by any number of threads, and
//!    again after an interruption. No index and no search: the groups of a segment are matched in one walk.
//! 3. **Size.** A segment ends with the first group that brings it to 65,536 impressions or to 32 MiB of values. A group
//!    that would bring it beyond 131,072 impressions is cut there and goes on in the next segment, where its row in
//!    `groups.parquet` is repeated under the same number: the only way in which a group is stored twice.
//! 4. **Values.** A feature of one value is a nullable integer column. A feature of several values, or with weights, is
//!    a list of integers and beside it a list of 32-bit floats of the same lengths, `NAME_weights`. A missing feature
//!    is null in the first case and an empty list in the second; the lists themselves are never null.
//!
//! [`SourceSpec::open`](crate::SourceSpec::open) with [`groups`](crate::SourceSpec::groups) yields flat
//! [`Chunk`](crate::Chunk)s, the group's columns
//! repeated for each of its impressions, so that everything else can ignore the layout.
//! [`GroupedFile`] has the segments as they are: impressions, groups, and which impression belongs to which group.

mod file;
mod reader;
mod segment;

pub use file::GroupedFile;
pub(crate) use reader::GroupedReader;
pub use reader::Segments;
pub use segment::Segment;

/// The column that both files have.
pub const GROUP_COLUMN: &str = "group";

/// Impressions at which a segment ends with its group.
pub const SEGMENT_ROWS: usize = 65_536;

/// Impressions at which a segment ends even inside of a group.
pub const LARGEST_SEGMENT_ROWS: usize = 2 * SEGMENT_ROWS;
