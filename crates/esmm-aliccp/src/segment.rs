//! Third pass, in order: impressions and their groups to segments, and segments to row groups of both files.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray, UInt32Array};
use arrow::datatypes::UInt8Type;
use parquet::arrow::arrow_writer::ArrowColumnChunk;

use esmm_data::grouped::{LARGEST_SEGMENT_ROWS, SEGMENT_ROWS};

use crate::columns::Columns;
use crate::error::AliCcpError;
use crate::field::{Layout, Table};
use crate::pair::{ColumnParts, RowGroupEncoder};
use crate::report::SplitReport;
use crate::rows::Piece;

/// Columns of a piece before those of the fields; `group` comes after them.
const HEAD_COLUMNS: usize = 3;

/// Bytes of a segment's columns at which it ends with its group, however few impressions that are: memory is bounded
/// where groups are small or rows long. Ali-CCP's segments have 15 MB.
const SEGMENT_BYTES: usize = 32 << 20;

/// A segment that is being filled.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    /// Parts of pieces, one after the other.
    parts: Vec<Part>,
    /// The number of each row's group.
    numbers: Vec<u32>,
    groups: Groups,
    bytes: usize,
}

#[derive(Debug)]
struct Part {
    piece: Arc<Piece>,
    rows: Range<usize>,
}

/// The groups of a segment.
#[derive(Debug, Default)]
struct Groups {
    numbers: Vec<u32>,
    indices: Vec<String>,
    packed: Vec<u8>,
    ends: Vec<usize>,
}

/// A segment as row groups of both files, and what is in it.
pub(crate) struct Encoded {
    pub(crate) impressions: Vec<ArrowColumnChunk>,
    pub(crate) groups: Vec<ArrowColumnChunk>,
    pub(crate) report: SplitReport,
}

/// Who encodes.
#[derive(Clone)]
pub(crate) struct Encoders {
    pub(crate) impressions: Arc<RowGroupEncoder>,
    pub(crate) groups: Arc<RowGroupEncoder>,
    pub(crate) layout: Layout,
}

impl Segment {
    /// Whether the next group belongs to the next segment.
    pub(crate) fn is_whole(&self) -> bool {
        self.numbers.len() >= SEGMENT_ROWS || self.bytes >= SEGMENT_BYTES
    }

    /// Whether there is anything in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Rows that fit, even of the same group.
    pub(crate) fn room(&self) -> usize {
        LARGEST_SEGMENT_ROWS - self.numbers.len()
    }

    /// Begins the next group.
    pub(crate) fn begin(&mut self, number: u32, index: &[u8], packed: &[u8]) {
        self.groups.numbers.push(number);
        self.groups.indices.push(String::from_utf8_lossy(index).into_owned());
        self.groups.packed.extend_from_slice(packed);
        self.groups.ends.push(self.groups.packed.len());
        self.bytes += packed.len();
    }

    /// Adds rows of the group that was begun last.
    pub(crate) fn push(&mut self, piece: &Arc<Piece>, rows: Range<usize>) {
        let number = self.groups.numbers.last().copied().unwrap_or(0);
        self.numbers.extend(rows.clone().map(|_| number));
        self.bytes += piece.row_bytes * rows.len();
        match self.parts.last_mut() {
            Some(part) if Arc::ptr_eq(&part.piece, piece) && part.rows.end == rows.start => {
                part.rows.end = rows.end;
            }
            _ => self.parts.push(Part { piece: piece.clone(), rows }),
        }
    }

    /// Takes this one out, and goes on with its last group in the next.
    pub(crate) fn cut(&mut self) -> Self {
        let whole = std::mem::take(self);
        let start = whole.groups.ends.iter().rev().nth(1).copied().unwrap_or(0);
        if let (Some(number), Some(index)) = (whole.groups.numbers.last(), whole.groups.indices.last()) {
            self.begin(*number, index.as_bytes(), &whole.groups.packed[start..]);
        }
        whole
    }

    /// Makes row groups of it.
    pub(crate) fn encode(self, encoders: &Encoders) -> Result<Encoded, AliCcpError> {
        let layout = encoders.layout;
        let mut report = SplitReport { impressions: self.numbers.len() as u64, ..SplitReport::default() };
        let (groups, fields) = self.groups.columns(layout)?;
        report.add_fields(Table::Common, layout, &fields);
        let groups = encoders.groups.encode(&groups);
        let mut columns: Vec<ColumnParts> = Vec::new();
        for part in &self.parts {
            let slices =
                part.piece.columns.iter().map(|column| column.slice(part.rows.start, part.rows.len()));
            let slices: Vec<ArrayRef> = slices.collect();
            report.clicks += sum(&slices[1]);
            report.conversions += sum(&slices[2]);
            report.add_fields(Table::Skeleton, layout, &slices[HEAD_COLUMNS..]);
            columns.resize(slices.len(), Vec::new());
            columns.iter_mut().zip(slices).for_each(|(column, slice)| column.push(slice));
        }
        columns.insert(HEAD_COLUMNS, vec![Arc::new(UInt32Array::from(self.numbers))]);
        let impressions = encoders.impressions.encode(&columns);
        let failed = |error| AliCcpError::file("a row group".as_ref(), error);
        Ok(Encoded { impressions: impressions.map_err(failed)?, groups: groups.map_err(failed)?, report })
    }
}

impl Groups {
    /// All columns, and those of the fields alone.
    fn columns(self, layout: Layout) -> Result<(Vec<ColumnParts>, Vec<ArrayRef>), AliCcpError> {
        let mut columns = Columns::new(Table::Common, layout);
        let mut start = 0;
        for end in self.ends {
            let row = columns.push_packed(&self.packed[start..end]);
            row.ok_or_else(|| AliCcpError::file("sorted groups".as_ref(), "are damaged on the disk"))?;
            start = end;
        }
        let fields = columns.finish();
        let first: [ArrayRef; 2] =
            [Arc::new(UInt32Array::from(self.numbers)), Arc::new(StringArray::from(self.indices))];
        let all = first.into_iter().chain(fields.iter().cloned()).map(|column| vec![column]);
        Ok((all.collect(), fields))
    }
}

fn sum(labels: &ArrayRef) -> u64 {
    labels.as_primitive::<UInt8Type>().values().iter().map(|label| u64::from(*label)).sum()
}
