//! Fits and counts in one pass, and leaves the rows where they are.

use std::sync::Arc;

use super::report::{LoadReport, SAMPLE_ROWS, SplitReport, WeightSums};
use super::spec::DataSpec;
use super::users::stand_apart;
use crate::dataset::Dataset;
use crate::encode::encoder::{FittedEncoders, unique};
use crate::encode::feature::FeatureSpec;
use crate::encode::fit::EncoderFitter;
use crate::error::DataError;
use crate::outcome::label::LabelSpec;
use crate::outcome::outcomes::Outcomes;
use crate::read::blocks::{Block, scan};
use crate::read::source::SourceSpec;
use crate::split::divider::Divider;
use crate::split::spec::Part;
use crate::stream::FileRows;
use crate::stream::reading::{ReadSource, Reading};

/// Rows that tell how large a row is.
const MEASURED_ROWS: usize = 8192;
/// Windows of shuffled rows take this share of the memory, each: one is handed over while the next one is read.
const WINDOW_SHARE: u64 = 4;

/// How much may be in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamOptions {
    /// Bytes that encoded rows may take.
    pub(crate) memory: u64,
    /// Rows that are shuffled together at most.
    pub(crate) shuffle_rows: usize,
    /// Whether rows of one group stay together where the data has groups and user features stand in them: what the group
    /// shares is then read, encoded and held once.
    pub(crate) by_group: bool,
}

/// Encoders that were fitted on the training rows, and where the rows of each split are.
#[derive(Debug, Clone)]
pub(crate) struct StreamedSplits {
    /// The encoders.
    pub(crate) encoders: FittedEncoders,
    /// Training rows, at least one.
    pub(crate) train: FileRows,
    /// Validation rows, at least one.
    pub(crate) valid: Option<FileRows>,
    /// Test rows, at least one.
    pub(crate) test: Option<FileRows>,
    /// What was read. Unknown values were counted in the first 200,000 rows of each split.
    pub(crate) report: LoadReport,
    /// The first training rows, 200,000 at most.
    pub(crate) sample: Dataset,
}

/// About what all splits would take in memory as [`in_memory`](super::memory::in_memory) holds them, encoded, in bytes.
///
/// # Errors
/// Settings that cannot be, a file that is missing or damaged.
pub(crate) fn encoded_bytes(data: &DataSpec, by_group: bool) -> Result<u64, DataError> {
    let DataSpec { split: spec, features, unknown_share: _, labels, group, truth, counting } = data;
    let outcomes = Outcomes::new(labels, group.as_deref(), truth.as_ref(), counting)?;
    let once = by_group && stand_apart(spec, features, &outcomes)?;
    let columns = unique(features.iter().flat_map(FeatureSpec::columns));
    spec.sources().into_iter().map(|source| source.encoded_bytes(&columns, once)).sum()
}

/// Fits the encoders on the training rows and counts the rows of all splits, which stay in their files.
///
/// # Errors
/// As [`in_memory`](super::memory::in_memory), but for values in columns that need no fit: those are found when they
/// are read.
pub(crate) fn in_files(data: &DataSpec, options: StreamOptions) -> Result<StreamedSplits, DataError> {
    let DataSpec { split: spec, features, unknown_share: _, labels, group, truth, counting } = data;
    let outcomes = Outcomes::new(labels, group.as_deref(), truth.as_ref(), counting)?;
    let mut fitter = data.fitter()?;
    let all = features.iter().flat_map(FeatureSpec::columns).chain(outcomes.columns()).chain(spec.column());
    let all = unique(all);
    for source in spec.sources() {
        source.open(&all)?;
    }
    let outcomes = outcomes.resolved(&spec.sources())?;
    let mut counts = Counts::new(labels);
    let dividers = spec.dividers()?;
    for (number, (source, divider)) in dividers.iter().enumerate() {
        counts.scan(number, source, divider, &outcomes, &mut fitter)?;
    }
    let encoders = fitter.finish()?;
    let sources = dividers.into_iter();
    let sources = sources.map(|(source, divider)| ReadSource::new(source, divider, &encoders, &outcomes));
    let by_group = options.by_group && stand_apart(spec, features, &outcomes)?;
    let reading = Arc::new(Reading {
        sources: sources.collect(),
        blocks: std::mem::take(&mut counts.blocks),
        encoders: encoders.clone(),
        outcomes,
    });
    let split = |part: Part| -> Result<Option<FileRows>, DataError> {
        match (spec.has(part), counts.split(part, &reading, by_group)) {
            (false, _) => Ok(None),
            (true, rows) if rows.rows() == 0 => Err(part.empty(counts.orphans[part as usize])),
            (true, rows) => {
                let weight = counts.sums[part as usize].weight;
                reading.outcomes.counting.check_weight(part.name(), weight)?;
                Ok(Some(rows))
            }
        }
    };
    let [train, valid, test] = [split(Part::Train)?, split(Part::Valid)?, split(Part::Test)?];
    let Some(mut train) = train else {
        return Err(Part::Train.empty(0));
    };
    let fitting = |rows: &FileRows| -> Result<usize, DataError> {
        let measured = rows.first(MEASURED_ROWS)?;
        let row_bytes = (measured.bytes() as u64).div_ceil(measured.rows as u64).max(1);
        Ok((options.memory / WINDOW_SHARE / row_bytes) as usize)
    };
    train.shuffle_rows = options.shuffle_rows.min(fitting(&train)?);
    // The guard rails look at rows that have all of their features.
    let sample_rows = SAMPLE_ROWS.min(fitting(&train.flat())?);
    let sample = train.flat().first(sample_rows)?;
    let report = |rows: &FileRows, sample: &Dataset| counts.report(rows.part, sample, &encoders, labels);
    let other = |rows: &Option<FileRows>| -> Result<Option<SplitReport>, DataError> {
        rows.as_ref().map(|rows| Ok(report(rows, &rows.flat().first(sample_rows)?))).transpose()
    };
    let report = LoadReport { train: report(&train, &sample), valid: other(&valid)?, test: other(&test)? };
    Ok(StreamedSplits { encoders, train, valid, test, report, sample })
}

/// What a pass over all sources finds, for each split.
struct Counts {
    /// The blocks, each with the number of its source.
    blocks: Vec<(usize, Block)>,
    /// Rows that are kept, of each block.
    kept: Vec<[u64; 3]>,
    /// Kept rows that reached each stage.
    reached: [Vec<u64>; 3],
    /// Rows that are left out.
    orphans: [u64; 3],
    /// What kept rows weigh.
    sums: [WeightSums; 3],
}

impl Counts {
    fn new(labels: &LabelSpec) -> Self {
        let reached = Part::ALL.map(|_| vec![0; labels.columns.len()]);
        let sums = Part::ALL.map(|_| WeightSums::new(labels.columns.len()));
        Self { blocks: Vec::new(), kept: Vec::new(), reached, orphans: [0; 3], sums }
    }

    /// Reads a source, and shows its training rows to the fitter.
    fn scan(
        &mut self,
        number: usize,
        source: &SourceSpec,
        divider: &Divider,
        outcomes: &Outcomes,
        fitter: &mut EncoderFitter,
    ) -> Result<(), DataError> {
        let Outcomes { labels, counting, .. } = outcomes;
        let fits = divider.may_train() && fitter.needs_data();
        let needed = if fits { fitter.required_columns() } else { Vec::new() };
        let columns = needed.iter().chain(&labels.columns).map(String::as_str).chain(divider.column());
        let columns = columns.chain(counting.spec.columns());
        let first = self.blocks.len();
        let found = scan(source, &unique(columns), |block, chunk| {
            self.kept.resize(self.kept.len().max(first + block + 1), [0; 3]);
            let parts = divider.assign(&chunk)?;
            let depth = labels.read(&chunk)?;
            let counts = counting.read(&chunk)?;
            for (row, (part, depth)) in parts.iter().zip(&depth).enumerate() {
                let part = *part as usize;
                let Some(depth) = depth else {
                    self.orphans[part] += 1;
                    continue;
                };
                self.kept[first + block][part] += 1;
                self.sums[part].add(&counts, row, *depth);
                self.reached[part].iter_mut().take(usize::from(*depth)).for_each(|reached| *reached += 1);
            }
            if fits {
                let trains =
                    parts.iter().zip(&depth).map(|(part, depth)| *part == Part::Train && depth.is_some());
                fitter.observe(&chunk, &trains.collect::<Vec<bool>>())?;
            }
            Ok(())
        })?;
        self.blocks.extend(found.into_iter().map(|block| (number, block)));
        self.kept.resize(self.blocks.len(), [0; 3]);
        Ok(())
    }

    fn split(&self, part: Part, reading: &Arc<Reading>, by_group: bool) -> FileRows {
        let kept = self.kept.iter().map(|kept| kept[part as usize]).enumerate();
        let blocks = kept.filter(|(_, rows)| *rows > 0).collect();
        FileRows {
            reading: reading.clone(),
            part,
            blocks: Some(blocks),
            shuffle_rows: 0,
            by_group,
            counter: None,
        }
    }

    fn report(
        &self,
        part: Part,
        sample: &Dataset,
        encoders: &FittedEncoders,
        labels: &LabelSpec,
    ) -> SplitReport {
        let part = part as usize;
        let WeightSums { weight, open, rates } = self.sums[part].clone();
        SplitReport {
            weight,
            open,
            rates,
            rows: self.kept.iter().map(|kept| kept[part]).sum(),
            reached: self.reached[part].clone(),
            ..SplitReport::of(sample, encoders, labels, self.orphans[part])
        }
    }
}
