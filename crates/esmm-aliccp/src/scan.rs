//! First pass over the skeleton: which groups there are, in the order of their first impression, and which impressions
//! come late, when their group was over already.

use std::ops::Range;

use rayon::ThreadPool;

use crate::error::AliCcpError;
use crate::index::GroupIndex;
use crate::lines::{Block, Line};
use crate::parse::SkeletonLine;
use crate::passes::Passes;
use crate::progress::StepKind;
use crate::queue::Ordered;
use crate::sorter::{Sorted, Sorter};

/// What the first pass found.
#[derive(Debug)]
pub(crate) struct Scan {
    /// All common indices that impressions name.
    pub(crate) index: GroupIndex,
    /// For each block of the files, the last group before it: impressions of earlier groups are late.
    pub(crate) floors: Vec<u32>,
    /// Late impressions by group, as [`LateLine`]s.
    pub(crate) late: Sorted,
    /// Lines that are not empty.
    pub(crate) rows: u64,
}

/// Neighbouring lines with one common index.
#[derive(Debug)]
struct Run {
    index: Box<[u8]>,
    bytes: Range<usize>,
    first_line: u64,
}

/// Reads the skeleton files once.
pub(crate) fn scan(passes: &mut Passes<'_, '_>, pool: &ThreadPool) -> Result<Scan, AliCcpError> {
    let blocks = passes.begin(StepKind::Scan)?;
    let mut scanner = Scanner {
        index: GroupIndex::default(),
        floors: Vec::new(),
        late: Sorter::new(passes.spill("late"), passes.memory.late),
        rows: 0,
    };
    pool.in_place_scope(|scope| {
        let mut queue = Ordered::new(passes.memory.ahead);
        for block in blocks {
            let block = block?;
            if queue.is_full() {
                scanner.take(queue.next(), passes)?;
            }
            queue.submit(scope, move || runs(block));
        }
        while let Some(next) = queue.next() {
            scanner.take(Some(next), passes)?;
        }
        Ok::<(), AliCcpError>(())
    })?;
    let Scanner { index, floors, late, rows } = scanner;
    Ok(Scan { index, floors, late: late.finish()?, rows })
}

struct Scanner {
    index: GroupIndex,
    floors: Vec<u32>,
    late: Sorter,
    rows: u64,
}

impl Scanner {
    fn take(
        &mut self,
        next: Option<(Block, Vec<Run>, u64)>,
        passes: &mut Passes<'_, '_>,
    ) -> Result<(), AliCcpError> {
        let Some((block, runs, rows)) = next else {
            return Ok(());
        };
        self.rows += rows;
        let mut floor = (self.index.len() as u32).saturating_sub(1);
        self.floors.push(floor);
        for run in runs {
            let group = self.index.number(&run.index);
            if group < floor {
                self.keep_late(group, &block, &run)?;
            }
            floor = floor.max(group);
        }
        passes.meter.advance(rows, block.done)
    }

    fn keep_late(&mut self, group: u32, block: &Block, run: &Run) -> Result<(), AliCcpError> {
        let mut record = Vec::new();
        for line in block.lines_in(run.bytes.clone(), run.first_line) {
            if SkeletonLine::cut(line.bytes).is_some() {
                LateLine { file: block.file, line }.write(&mut record);
                self.late.push(group, &record)?;
            }
        }
        Ok(())
    }
}

/// The runs of a block, and its lines. Lines without a common index belong to the run around them: they are refused
/// when it is their turn.
fn runs(block: Block) -> (Block, Vec<Run>, u64) {
    let mut runs: Vec<Run> = Vec::new();
    let mut rows: u64 = 0;
    for line in block.lines() {
        rows += 1;
        let Some(cut) = SkeletonLine::cut(line.bytes) else {
            continue;
        };
        match runs.last_mut() {
            Some(run) if *run.index == *cut.index => run.bytes.end = line.end,
            _ => {
                let bytes = line.start..line.end;
                runs.push(Run { index: cut.index.into(), bytes, first_line: line.number });
            }
        }
    }
    (block, runs, rows)
}

/// A line that waits for its group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LateLine<'a> {
    /// Its file, among the skeleton files.
    pub(crate) file: u32,
    pub(crate) line: Line<'a>,
}

impl<'a> LateLine<'a> {
    fn write(&self, record: &mut Vec<u8>) {
        record.clear();
        record.extend(self.file.to_le_bytes());
        record.extend(self.line.number.to_le_bytes());
        record.push(u8::from(self.line.cut));
        record.extend_from_slice(self.line.bytes);
    }

    /// `None` when the bytes are none.
    pub(crate) fn read(record: &'a [u8]) -> Option<Self> {
        let (file, rest) = record.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (cut, bytes) = rest.split_first()?;
        let number = u64::from_le_bytes(*number);
        let line = Line { bytes, number, start: 0, end: bytes.len(), cut: *cut == 1 };
        Some(Self { file: u32::from_le_bytes(*file), line })
    }
}
