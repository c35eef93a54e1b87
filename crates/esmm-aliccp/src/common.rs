//! Second pass: the common features, sorted by the first use of their group.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rayon::ThreadPool;
use twox_hash::XxHash64;

use crate::columns::pack;
use crate::error::BadRow;
use crate::field::{Layout, Table};
use crate::index::GroupIndex;
use crate::lines::Block;
use crate::parse::{CommonLine, Features, quoted, too_few_columns};
use crate::passes::{Halt, Passes};
use crate::progress::StepKind;
use crate::queue::Ordered;
use crate::sorter::{Sorted, Sorter};

/// What the second pass found.
#[derive(Debug)]
pub(crate) struct Common {
    /// The features of each group that has a common row, packed.
    pub(crate) sorted: Sorted,
    /// Which groups have one.
    pub(crate) present: Vec<bool>,
    /// Lines that are not empty.
    pub(crate) rows: u64,
    /// Rows that repeat an earlier one.
    pub(crate) repeated: u64,
    /// Rows whose group has no impression.
    pub(crate) unused: u64,
}

/// The rows of a block.
#[derive(Debug)]
struct Piece {
    rows: Vec<Row>,
    packed: Vec<u8>,
    bad: Vec<BadRow>,
    too_narrow: Option<(usize, BadRow)>,
    path: Arc<Path>,
    lines: u64,
    unused: u64,
    read: u64,
}

#[derive(Debug)]
struct Row {
    group: u32,
    /// Of what the line says about the group.
    hash: u64,
    packed: Range<usize>,
    line: u64,
}

/// Reads the common files once.
pub(crate) fn read_common(
    passes: &mut Passes<'_, '_>,
    pool: &ThreadPool,
    index: &GroupIndex,
) -> Result<Common, Halt> {
    let blocks = passes.begin(StepKind::Common)?;
    let layout = passes.layout;
    let mut reader = Reader {
        sorter: Sorter::new(passes.spill("groups"), passes.memory.sorter),
        hashes: vec![0; index.len()],
        common: (0, 0, 0),
    };
    pool.in_place_scope(|scope| {
        let mut queue = Ordered::new(passes.memory.ahead);
        for block in blocks {
            let block = block?;
            if queue.is_full() {
                reader.take(queue.next(), passes, index)?;
            }
            queue.submit(scope, move || parse(&block, index, layout));
        }
        while let Some(next) = queue.next() {
            reader.take(Some(next), passes, index)?;
        }
        Ok::<(), Halt>(())
    })?;
    let Reader { sorter, hashes, common: (rows, repeated, unused) } = reader;
    let present = hashes.into_iter().map(|hash| hash != 0).collect();
    Ok(Common { sorted: sorter.finish()?, present, rows, repeated, unused })
}

struct Reader {
    sorter: Sorter,
    /// Of each group's first common row, 0 until it comes.
    hashes: Vec<u64>,
    /// Rows, repeated ones, unused ones.
    common: (u64, u64, u64),
}

impl Reader {
    fn take(
        &mut self,
        next: Option<Piece>,
        passes: &mut Passes<'_, '_>,
        index: &GroupIndex,
    ) -> Result<(), Halt> {
        let Some(piece) = next else {
            return Ok(());
        };
        if let Some((field, place)) = piece.too_narrow {
            return Err(Halt::Widen { field, place });
        }
        let mut bad = piece.bad.into_iter().peekable();
        for row in piece.rows {
            while let Some(earlier) = bad.next_if(|bad| bad.line() < row.line) {
                passes.bad.add(earlier)?;
            }
            match &mut self.hashes[row.group as usize] {
                first if *first == 0 => {
                    *first = row.hash;
                    self.sorter.push(row.group, &piece.packed[row.packed])?;
                }
                first if *first == row.hash => self.common.1 += 1,
                _ => passes.bad.add(contradiction(&piece.path, row.line, index.key(row.group)))?,
            }
        }
        bad.try_for_each(|row| passes.bad.add(row))?;
        self.common.0 += piece.lines;
        self.common.2 += piece.unused;
        Ok(passes.meter.advance(piece.lines, piece.read)?)
    }
}

fn contradiction(path: &Path, line: u64, index: &[u8]) -> BadRow {
    let fault = format!(
        "common_feature_index: found {} once more with other features, allowed is one row for each",
        quoted(index)
    );
    BadRow::new(path, line, fault)
}

fn parse(block: &Block, index: &GroupIndex, layout: Layout) -> Piece {
    let mut piece = Piece {
        rows: Vec::new(),
        packed: Vec::with_capacity(block.bytes.len() / 2),
        bad: Vec::new(),
        too_narrow: None,
        path: block.path.clone(),
        lines: 0,
        unused: 0,
        read: block.done,
    };
    let mut features = Features::default();
    for line in block.lines() {
        piece.lines += 1;
        let Some(cut) = CommonLine::cut(line.bytes) else {
            piece.bad.push(line.fault(&block.path, too_few_columns(line.bytes, Table::Common)));
            continue;
        };
        if let Err(fault) = cut.read(&mut features) {
            piece.bad.push(line.fault(&block.path, fault));
            continue;
        }
        let start = piece.packed.len();
        if let Err(narrow) = pack(Table::Common, layout, &features, &mut piece.packed) {
            piece.too_narrow = Some((narrow.field, line.fault(&block.path, String::new())));
            return piece;
        }
        match index.find(cut.index) {
            Some(group) => {
                let says = &line.bytes[cut.index.len()..];
                piece.rows.push(Row {
                    group,
                    hash: XxHash64::oneshot(1, says).max(1),
                    packed: start..piece.packed.len(),
                    line: line.number,
                });
            }
            None => {
                piece.packed.truncate(start);
                piece.unused += 1;
            }
        }
    }
    piece
}
