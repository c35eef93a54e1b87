//! Third pass, in the workers: lines of the skeleton to columns.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, UInt8Array};

use crate::columns::Columns;
use crate::error::BadRow;
use crate::field::{Layout, Table};
use crate::index::GroupIndex;
use crate::lines::{Block, Line};
use crate::parse::{Features, Head, SkeletonLine, quoted, too_few_columns};

/// What is known before the third pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    /// The group of each common index.
    pub(crate) index: &'a GroupIndex,
    /// Which groups have a common row.
    pub(crate) present: &'a [bool],
    pub(crate) layout: Layout,
}

/// Impressions that were read, in the order of their lines.
#[derive(Debug)]
pub(crate) struct Piece {
    /// The columns of `impressions.parquet` in order, without `group`.
    pub(crate) columns: Vec<ArrayRef>,
    /// The group of each row by first use: never smaller than in the row before.
    pub(crate) groups: Vec<u32>,
    pub(crate) bad: Vec<BadRow>,
    /// Conversions without a click.
    pub(crate) orphans: u64,
    /// A field that the layout cannot hold, and where.
    pub(crate) too_narrow: Option<(usize, BadRow)>,
    /// Bytes of a row in all columns, on average.
    pub(crate) row_bytes: usize,
    pub(crate) lines: u64,
    /// How far the files are read.
    pub(crate) read: u64,
}

/// Collects impressions.
#[derive(Debug)]
pub(crate) struct RowReader<'a> {
    known: Known<'a>,
    features: Features,
    sample_ids: Vec<i64>,
    clicks: Vec<u8>,
    conversions: Vec<u8>,
    columns: Columns,
    piece: Piece,
}

/// The impressions of a block that are not late: those of groups from `floor` on, which rises with each new group.
pub(crate) fn read_block(known: Known<'_>, block: &Block, mut floor: u32) -> Piece {
    let mut reader = RowReader::new(known);
    let mut last: &[u8] = b"";
    let mut group: Option<u32> = None;
    for line in block.lines() {
        reader.piece.lines += 1;
        let Some(cut) = SkeletonLine::cut(line.bytes) else {
            reader.refuse(&block.path, line, too_few_columns(line.bytes, Table::Skeleton));
            continue;
        };
        if group.is_none() || cut.index != last {
            (last, group) = (cut.index, known.index.find(cut.index));
        }
        match group {
            Some(group) if group < floor => continue,
            Some(group) => floor = group,
            None => {}
        }
        if !reader.push(&block.path, line, cut, group) {
            break;
        }
    }
    reader.piece.read = block.done;
    reader.finish()
}

impl<'a> RowReader<'a> {
    pub(crate) fn new(known: Known<'a>) -> Self {
        let piece = Piece {
            columns: Vec::new(),
            groups: Vec::new(),
            bad: Vec::new(),
            orphans: 0,
            too_narrow: None,
            row_bytes: 0,
            lines: 0,
            read: 0,
        };
        Self {
            known,
            features: Features::default(),
            sample_ids: Vec::new(),
            clicks: Vec::new(),
            conversions: Vec::new(),
            columns: Columns::new(Table::Skeleton, known.layout),
            piece,
        }
    }

    /// Takes a line of a group, or says why not. False when the layout is too narrow for it.
    pub(crate) fn push(
        &mut self,
        path: &Arc<Path>,
        line: Line<'_>,
        cut: SkeletonLine<'_>,
        group: Option<u32>,
    ) -> bool {
        let Some(group) = group.filter(|group| self.known.present[*group as usize]) else {
            let found = quoted(cut.index);
            let fault = format!("common_feature_index: found {found}, allowed is one of the common files");
            self.refuse(path, line, fault);
            return true;
        };
        let head = match cut.read(&mut self.features) {
            Ok(head) => head,
            Err(fault) => {
                self.refuse(path, line, fault);
                return true;
            }
        };
        if head.conversion && !head.click {
            self.piece.orphans += 1;
            return true;
        }
        if let Err(narrow) = self.columns.push(&self.features) {
            self.piece.too_narrow = Some((narrow.field, line.fault(path, String::new())));
            return false;
        }
        let Head { sample_id, click, conversion } = head;
        self.sample_ids.push(sample_id);
        self.clicks.push(u8::from(click));
        self.conversions.push(u8::from(conversion));
        self.piece.groups.push(group);
        true
    }

    fn refuse(&mut self, path: &Path, line: Line<'_>, fault: String) {
        self.piece.bad.push(line.fault(path, fault));
    }

    pub(crate) fn finish(mut self) -> Piece {
        if self.piece.too_narrow.is_none() {
            self.piece.columns = vec![
                Arc::new(Int64Array::from(self.sample_ids)),
                Arc::new(UInt8Array::from(self.clicks)),
                Arc::new(UInt8Array::from(self.conversions)),
            ];
            self.piece.columns.extend(self.columns.finish());
            let bytes: usize = self.piece.columns.iter().map(|column| column.get_buffer_memory_size()).sum();
            self.piece.row_bytes = bytes / self.piece.groups.len().max(1);
        }
        self.piece
    }
}
