//! Third pass: impressions with their groups, in the order of first use, to the files of a split.

use std::path::Path;
use std::sync::Arc;

use rayon::{Scope, ThreadPool};

use crate::common::Common;
use crate::error::AliCcpError;
use crate::field::Table;
use crate::index::GroupIndex;
use crate::output::{GROUPS_FILE, IMPRESSIONS_FILE};
use crate::pair::TableWriter;
use crate::parse::SkeletonLine;
use crate::passes::{Halt, Passes};
use crate::progress::StepKind;
use crate::queue::Ordered;
use crate::report::SplitReport;
use crate::rows::{Known, Piece, RowReader, read_block};
use crate::scan::{LateLine, Scan};
use crate::segment::{Encoded, Encoders, Segment};
use crate::sorter::Sorted;

/// Reads the skeleton files once more and writes the split into a folder.
pub(crate) fn convert(
    passes: &mut Passes<'_, '_>,
    pool: &ThreadPool,
    scan: Scan,
    common: Common,
    folder: &Path,
) -> Result<SplitReport, Halt> {
    let blocks = passes.begin(StepKind::Convert)?;
    let layout = passes.layout;
    let impressions = TableWriter::create(folder.join(IMPRESSIONS_FILE), Table::Skeleton, layout)?;
    let groups = TableWriter::create(folder.join(GROUPS_FILE), Table::Common, layout)?;
    let encoders = Encoders { impressions: impressions.encoder(), groups: groups.encoder(), layout };
    let known = Known { index: &scan.index, present: &common.present, layout };
    let report = SplitReport {
        skeleton_rows: scan.rows,
        common_rows: common.rows,
        repeated_common_rows: common.repeated,
        unused_common_rows: common.unused,
        ..SplitReport::default()
    };
    pool.in_place_scope(|scope| {
        let mut assembler = Assembler {
            index: &scan.index,
            known,
            groups: common.sorted,
            late: scan.late,
            paths: passes.files.skeleton.iter().map(|path| path.as_path().into()).collect(),
            current: None,
            segment: Segment::default(),
            scope,
            encoding: Ordered::new(passes.memory.ahead),
            encoders: &encoders,
            writers: [impressions, groups],
            report,
        };
        let mut queue = Ordered::new(passes.memory.ahead);
        for (block, floor) in blocks.into_iter().zip(scan.floors.iter().copied()) {
            let block = block?;
            if queue.is_full() {
                assembler.take(queue.next(), passes)?;
            }
            queue.submit(scope, move || read_block(known, &block, floor));
        }
        while let Some(next) = queue.next() {
            assembler.take(Some(next), passes)?;
        }
        assembler.finish(passes)
    })
}

struct Assembler<'a, 'scope, 'env> {
    index: &'a GroupIndex,
    known: Known<'a>,
    groups: Sorted,
    late: Sorted,
    paths: Vec<Arc<Path>>,
    /// The group of the last impression, by first use.
    current: Option<u32>,
    segment: Segment,
    scope: &'env Scope<'scope>,
    encoding: Ordered<Result<Encoded, AliCcpError>>,
    encoders: &'scope Encoders,
    writers: [TableWriter; 2],
    report: SplitReport,
}

impl Assembler<'_, '_, '_> {
    fn take(&mut self, next: Option<Piece>, passes: &mut Passes<'_, '_>) -> Result<(), Halt> {
        let Some(mut piece) = next else {
            return Ok(());
        };
        std::mem::take(&mut piece.bad).into_iter().try_for_each(|row| passes.bad.add(row))?;
        if let Some((field, place)) = piece.too_narrow {
            return Err(Halt::Widen { field, place });
        }
        self.report.dropped_conversions_without_click += piece.orphans;
        let lines = piece.lines;
        let read = piece.read;
        let piece = Arc::new(piece);
        let mut start = 0;
        for run in piece.groups.chunk_by(|group, next| group == next) {
            self.late_before(run[0], passes)?;
            self.append(run[0], &piece, start, start + run.len())?;
            start += run.len();
        }
        Ok(passes.meter.advance(lines, read)?)
    }

    /// Appends the late impressions of all groups before this one.
    fn late_before(&mut self, group: u32, passes: &mut Passes<'_, '_>) -> Result<(), Halt> {
        while let Some(late) = self.late.peek()?.filter(|late| *late < group) {
            let mut reader = RowReader::new(self.known);
            while self.late.peek()? == Some(late) {
                let record = self.late.next()?.and_then(|(_, record)| LateLine::read(record));
                let found = record.and_then(|record| Some((record, SkeletonLine::cut(record.line.bytes)?)));
                let (LateLine { file, line }, cut) = found
                    .ok_or_else(|| AliCcpError::file(&passes.spill("late"), "is damaged on the disk"))?;
                reader.push(&self.paths[file as usize], line, cut, Some(late));
            }
            let mut piece = reader.finish();
            std::mem::take(&mut piece.bad).into_iter().try_for_each(|row| passes.bad.add(row))?;
            if let Some((field, place)) = piece.too_narrow {
                return Err(Halt::Widen { field, place });
            }
            self.report.dropped_conversions_without_click += piece.orphans;
            self.report.moved_impressions += piece.groups.len() as u64;
            let rows = piece.groups.len();
            self.append(late, &Arc::new(piece), 0, rows)?;
        }
        Ok(())
    }

    /// Appends rows of a group.
    fn append(
        &mut self,
        group: u32,
        piece: &Arc<Piece>,
        mut start: usize,
        end: usize,
    ) -> Result<(), AliCcpError> {
        if start < end && self.current != Some(group) {
            self.begin(group)?;
        }
        while start < end {
            if self.segment.room() == 0 {
                let whole = self.segment.cut();
                self.encode(whole)?;
            }
            let stop = end.min(start + self.segment.room());
            self.segment.push(piece, start..stop);
            start = stop;
        }
        Ok(())
    }

    /// Begins a group, and a segment if the one before is whole.
    fn begin(&mut self, group: u32) -> Result<(), AliCcpError> {
        if self.segment.is_whole() {
            let whole = std::mem::take(&mut self.segment);
            self.encode(whole)?;
        }
        while let Some((key, packed)) = self.groups.next()? {
            if key == group {
                self.segment.begin(self.report.groups as u32, self.index.key(group), packed);
                self.report.groups += 1;
                self.current = Some(group);
                return Ok(());
            }
            // All impressions of that group were dropped.
            self.report.unused_common_rows += 1;
        }
        Err(AliCcpError::file("sorted groups".as_ref(), "lack one, the disk is damaged"))
    }

    fn encode(&mut self, segment: Segment) -> Result<(), AliCcpError> {
        if self.encoding.is_full() {
            self.write_next()?;
        }
        let encoders = self.encoders;
        self.encoding.submit(self.scope, move || segment.encode(encoders));
        Ok(())
    }

    /// Writes the oldest segment that is being encoded; false when there is none.
    fn write_next(&mut self) -> Result<bool, AliCcpError> {
        let Some(encoded) = self.encoding.next() else {
            return Ok(false);
        };
        let Encoded { impressions, groups, report } = encoded?;
        let [impressions_writer, groups_writer] = &mut self.writers;
        impressions_writer.append(impressions)?;
        groups_writer.append(groups)?;
        self.report.segments += 1;
        self.report.add(&report);
        Ok(true)
    }

    fn finish(mut self, passes: &mut Passes<'_, '_>) -> Result<SplitReport, Halt> {
        self.late_before(u32::MAX, passes)?;
        if !self.segment.is_empty() {
            let last = std::mem::take(&mut self.segment);
            self.encode(last)?;
        }
        while self.write_next()? {}
        while self.groups.next()?.is_some() {
            self.report.unused_common_rows += 1;
        }
        self.writers.into_iter().try_for_each(TableWriter::finish)?;
        Ok(self.report)
    }
}
