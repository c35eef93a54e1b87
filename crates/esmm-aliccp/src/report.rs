//! What was read, written and left out: printed, and `report.json`.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::datatypes::Int32Type;
use serde::{Deserialize, Serialize};

use crate::error::{AliCcpError, BadRow};
use crate::field::{FIELDS, Layout, Table, fields_of};

/// Bad rows that are kept as examples.
const EXAMPLES: usize = 20;

/// What a preparation did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrepareReport {
    /// Layout of this report.
    pub format_version: u32,
    /// The training split.
    pub train: SplitReport,
    /// The test split, if there are raw files of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<SplitReport>,
    /// Rows that were skipped, within `--max-bad-rows`.
    pub bad_rows: u64,
    /// The first of them: file, line, what is wrong.
    pub bad_row_examples: Vec<String>,
    /// Fields that take one value in the official files, but had several here, and so became lists.
    pub widened_fields: Vec<String>,
}

/// What became of a split.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SplitReport {
    /// Lines of the skeleton files.
    pub skeleton_rows: u64,
    /// Lines of the common files.
    pub common_rows: u64,
    /// Rows of `impressions.parquet`.
    pub impressions: u64,
    /// Clicks among them.
    pub clicks: u64,
    /// Conversions among them.
    pub conversions: u64,
    /// Groups that have impressions.
    pub groups: u64,
    /// Pairs of row groups.
    pub segments: u64,
    /// Impressions that were left out, because they have a conversion but no click.
    pub dropped_conversions_without_click: u64,
    /// Skeleton and common rows that were left out, because they are malformed or name an unknown common index.
    pub dropped_bad_rows: u64,
    /// Impressions that were moved to the first ones of their group.
    pub moved_impressions: u64,
    /// Common rows that said once more what an earlier one said, and were left out.
    pub repeated_common_rows: u64,
    /// Common rows without an impression, which were left out.
    pub unused_common_rows: u64,
    /// For each field by its code: over impressions, or over groups for the fields of the user.
    pub fields: BTreeMap<String, FieldReport>,
}

/// What is known about a field.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FieldReport {
    /// The name of its feature in the run files.
    pub name: String,
    /// Values, all of a row counted.
    pub values: u64,
    /// Rows without one.
    pub missing: u64,
    /// Largest id.
    pub largest_id: i32,
}

impl SplitReport {
    /// Adds the fields of some rows, whose columns are in the order of a table.
    pub(crate) fn add_fields(&mut self, table: Table, layout: Layout, columns: &[ArrayRef]) {
        let mut columns = columns.iter();
        for field in fields_of(table) {
            let code = FIELDS[field].code;
            let report = self.fields.entry(code.to_owned()).or_default();
            FIELDS[field].name.clone_into(&mut report.name);
            if let Some(column) = columns.next() {
                report.add(column);
            }
            if layout.is_bag(field) {
                columns.next();
            }
        }
    }

    /// Adds what another part of the split came to.
    pub(crate) fn add(&mut self, other: &Self) {
        self.impressions += other.impressions;
        self.clicks += other.clicks;
        self.conversions += other.conversions;
        for (code, more) in &other.fields {
            let report = self.fields.entry(code.clone()).or_default();
            report.name.clone_from(&more.name);
            report.values += more.values;
            report.missing += more.missing;
            report.largest_id = report.largest_id.max(more.largest_id);
        }
    }
}

impl FieldReport {
    fn add(&mut self, column: &ArrayRef) {
        if let Some(list) = column.as_list_opt::<i32>() {
            let offsets = list.value_offsets();
            let first = offsets[0] as usize;
            let last = offsets[list.len()] as usize;
            self.values += (last - first) as u64;
            self.missing += offsets.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
            let ids: &Int32Array = list.values().as_primitive::<Int32Type>();
            self.saw(ids.values()[first..last].iter().copied());
        } else {
            let ids: &Int32Array = column.as_primitive::<Int32Type>();
            self.values += (ids.len() - ids.null_count()) as u64;
            self.missing += ids.null_count() as u64;
            self.saw(ids.iter().flatten());
        }
    }

    fn saw(&mut self, ids: impl Iterator<Item = i32>) {
        self.largest_id = ids.fold(self.largest_id, i32::max);
    }
}

/// Counts rows that are skipped, up to a limit.
#[derive(Debug)]
pub(crate) struct BadRows {
    allowed: u64,
    pub(crate) found: u64,
    pub(crate) examples: Vec<String>,
}

impl BadRows {
    pub(crate) fn new(allowed: u64) -> Self {
        Self { allowed, found: 0, examples: Vec::new() }
    }

    /// One more.
    ///
    /// # Errors
    /// It is one too many.
    pub(crate) fn add(&mut self, row: BadRow) -> Result<(), AliCcpError> {
        self.found += 1;
        match self.found > self.allowed {
            false => {
                if self.examples.len() < EXAMPLES {
                    self.examples.push(row.to_string());
                }
                Ok(())
            }
            true if self.allowed == 0 => Err(AliCcpError::Row(row)),
            true => Err(AliCcpError::TooManyBadRows { found: self.found, allowed: self.allowed, last: row }),
        }
    }
}
