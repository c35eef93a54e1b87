//! The rows of one split, in files.

use std::fmt;
use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::windows::{WindowSizes, Windows};
use crate::data::blocks::Block;
use crate::data::chunk::Chunk;
use crate::data::dataset::{Dataset, Outcome};
use crate::data::encoder::{EncodedChunk, FittedEncoders, unique};
use crate::data::error::DataError;
use crate::data::grouped::{Segment, Segments};
use crate::data::label::LabelSpec;
use crate::data::outcomes::Outcomes;
use crate::data::source::SourceSpec;
use crate::data::split::{Divider, Part};
use crate::data::truth::TruthSpec;
use crate::data::user_groups::{Sides, UserGroups, users_stand_apart};

/// The first window of a pass has this share of the rows of the largest.
const FIRST_WINDOW: usize = 16;

/// The rows of one split, in files. Cheap to clone.
#[derive(Clone)]
pub struct FileRows {
    pub(super) reading: Arc<Reading>,
    pub(super) part: Part,
    /// Blocks with rows of this split and how many each has, in order; `None` where nobody has counted.
    pub(super) blocks: Option<Arc<[(usize, u64)]>>,
    /// Rows of a window when rows are shuffled.
    pub(super) shuffle_rows: usize,
    /// Whether user features are held once for each group of rows, and groups are shuffled instead of rows.
    pub(super) by_group: bool,
}

/// How the rows of all splits are read.
pub(super) struct Reading {
    pub(super) sources: Vec<ReadSource>,
    pub(super) blocks: Vec<(usize, Block)>,
    pub(super) encoders: FittedEncoders,
    pub(super) outcomes: Outcomes,
}

/// A source with what divides it, and the columns that are read of it.
pub(super) struct ReadSource {
    pub(super) source: SourceSpec,
    pub(super) divider: Divider,
    pub(super) columns: Vec<String>,
}

impl FileRows {
    /// All rows of a labelled source, in order, encoded with encoders that are fitted already. With `by_group` what the rows
    /// of a group share is read once, where the source has it apart.
    ///
    /// # Errors
    /// Settings that cannot be, a file that is missing or lacks a column.
    pub fn open(
        source: &SourceSpec,
        encoders: &FittedEncoders,
        labels: &LabelSpec,
        group: Option<&str>,
        truth: Option<&TruthSpec>,
        by_group: bool,
    ) -> Result<Self, DataError> {
        let outcomes = Outcomes::new(labels, group, truth)?;
        let apart =
            by_group && users_stand_apart(source, encoders.specs(), outcomes.columns_of_impressions())?;
        let divider = Divider::All(Part::Test);
        let source = ReadSource::new(source, divider, encoders, &outcomes);
        source.source.open(&source.columns)?;
        let (sources, encoders) = (vec![source], encoders.clone());
        let reading = Arc::new(Reading { sources, blocks: Vec::new(), encoders, outcomes });
        Ok(Self { reading, part: Part::Test, blocks: None, shuffle_rows: 0, by_group: apart })
    }

    /// Number of rows; 0 where nobody has counted.
    pub fn rows(&self) -> u64 {
        self.blocks.iter().flat_map(|blocks| blocks.iter()).map(|(_, rows)| rows).sum()
    }

    /// The encoders that make rows of what the files hold.
    pub fn encoders(&self) -> &FittedEncoders {
        &self.reading.encoders
    }

    /// Whether rows of one group stay together, and what they share is held once.
    pub fn by_group(&self) -> bool {
        self.by_group
    }

    /// Whether the rows have groups, for GAUC.
    pub fn has_group(&self) -> bool {
        self.reading.outcomes.group.is_some()
    }

    /// Whether the rows have true rates.
    pub fn has_truth(&self) -> bool {
        self.reading.outcomes.truth.is_some()
    }

    /// Windows in which batches of so many rows are shuffled.
    pub fn shuffle_windows(&self, batch_size: usize) -> WindowSizes {
        let whole_batches = |rows: usize| batch_size * (rows / batch_size).max(1);
        let most = whole_batches(self.shuffle_rows);
        WindowSizes { first: whole_batches(most / FIRST_WINDOW), most }
    }

    /// Gives all rows in windows to `take` until it says that it has enough; windows before `first` are left out. The
    /// blocks are in the order of the files, or in that of a shuffle by seed and pass.
    ///
    /// # Errors
    /// Whatever is wrong with the data, with file and line; files that have changed since they were counted.
    pub fn windows(
        &self,
        shuffle: Option<(u64, u64)>,
        sizes: WindowSizes,
        first: u32,
        take: &mut dyn FnMut(Dataset) -> bool,
    ) -> Result<(), DataError> {
        let reading = &self.reading;
        let mut windows = Windows::new(reading.empty(self.by_group), sizes, first, take);
        let mut rows = 0;
        match &self.blocks {
            None => {
                let each = |encoded: &EncodedChunk, outcome: &Outcome| {
                    rows += encoded.rows;
                    windows.push(encoded, outcome)
                };
                if !self.read_all(each)? {
                    return Ok(());
                }
            }
            Some(blocks) => {
                let mut order = blocks.to_vec();
                if let Some((seed, pass)) = shuffle {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    rng.set_stream(pass);
                    order.shuffle(&mut rng);
                }
                for (block, expected) in order {
                    rows += expected as usize;
                    if windows.skip >= expected {
                        windows.skip -= expected;
                    } else if !self.read_block(block, expected, &mut windows)? {
                        return Ok(());
                    }
                }
            }
        }
        windows.finish();
        match rows {
            0 => Err(self.part.empty(0)),
            _ => Ok(()),
        }
    }

    /// Hands over all rows in the order of the files; `false` when `each` had enough.
    fn read_all(&self, mut each: impl FnMut(&EncodedChunk, &Outcome) -> bool) -> Result<bool, DataError> {
        let reading = &self.reading;
        let mut pass = |kept: Option<(EncodedChunk, Outcome)>| kept.is_none_or(|kept| each(&kept.0, &kept.1));
        for source in &reading.sources {
            if self.by_group
                && let Some(files) = source.source.open_grouped(&source.columns)?
            {
                for segment in Segments::new(files) {
                    if !pass(reading.kept_of_segment(source, self.part, segment?)?) {
                        return Ok(false);
                    }
                }
                continue;
            }
            for chunk in source.source.open(&source.columns)? {
                if !pass(reading.kept(source, self.part, &chunk?)?) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Hands over the rows of a block; `false` when there are enough.
    fn read_block(&self, number: usize, expected: u64, windows: &mut Windows<'_>) -> Result<bool, DataError> {
        let (source, block) = &self.reading.blocks[number];
        let source = &self.reading.sources[*source];
        let (mut rows, mut more) = (0, true);
        let mut pass = |kept: Option<(EncodedChunk, Outcome)>| {
            if let Some((encoded, outcome)) = kept {
                rows += encoded.rows as u64;
                more = windows.push(&encoded, &outcome);
            }
            more
        };
        if self.by_group {
            let segment = source.source.read_segment(block, &source.columns)?;
            pass(self.reading.kept_of_segment(source, self.part, segment)?);
        } else {
            let each = |chunk: Chunk| Ok(pass(self.reading.kept(source, self.part, &chunk)?));
            source.source.read_block(block, &source.columns, each)?;
        }
        match !more || rows == expected {
            true => Ok(more),
            false => Err(block.changed()),
        }
    }

    /// The same rows, each with all of its features.
    pub(super) fn flat(&self) -> Self {
        Self { by_group: false, ..self.clone() }
    }

    /// The first rows, in the order of the files.
    pub(super) fn first(&self, rows: usize) -> Result<Dataset, DataError> {
        let mut found = self.reading.empty(self.by_group);
        self.windows(None, WindowSizes::equal(rows.max(1)), 0, &mut |window| {
            found = window;
            false
        })?;
        Ok(found)
    }
}

impl fmt::Debug for FileRows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FileRows({:?}, {} rows)", self.part, self.rows())
    }
}

impl ReadSource {
    pub(super) fn new(
        source: &SourceSpec,
        divider: Divider,
        encoders: &FittedEncoders,
        outcomes: &Outcomes,
    ) -> Self {
        let features = encoders.required_columns();
        let features = features.iter().map(String::as_str);
        let columns = unique(features.chain(outcomes.columns()).chain(divider.column()));
        Self { source: source.clone(), divider, columns }
    }
}

impl Reading {
    fn empty(&self, by_group: bool) -> Dataset {
        let sides = || Arc::new(Sides::of(self.encoders.specs()));
        let users = by_group.then(|| UserGroups::empty(sides()));
        Dataset { users, ..Dataset::empty(&self.encoders, &self.outcomes) }
    }

    /// As [`kept`](Self::kept), of impressions beside their groups.
    fn kept_of_segment(
        &self,
        source: &ReadSource,
        part: Part,
        segment: Segment,
    ) -> Result<Option<(EncodedChunk, Outcome)>, DataError> {
        let Segment { impressions, groups, group_of, .. } = segment;
        let keep = kept(&self.outcomes.labels, &source.divider, part, &impressions)?;
        if !keep.contains(&true) {
            return Ok(None);
        }
        let of_rows: Vec<u32> =
            group_of.into_iter().zip(&keep).filter(|(_, keep)| **keep).map(|(group, _)| group).collect();
        let own = impressions.filter(&keep)?;
        let outcome = self.outcomes.read_beside(&own, &groups, &of_rows);
        let encoded = self.encoders.encode_users(&own, &groups, of_rows);
        // A row of filtered impressions does not know its place, the whole segment does.
        let encoded = encoded.or_else(|error| {
            self.encoders.encode_users(&impressions, &groups, Vec::new())?;
            Err(error)
        });
        Ok(Some((encoded?, outcome?)))
    }

    /// The rows of a chunk that belong to a split and are no orphans, encoded; `None` where there are none.
    fn kept(
        &self,
        source: &ReadSource,
        part: Part,
        chunk: &Chunk,
    ) -> Result<Option<(EncodedChunk, Outcome)>, DataError> {
        let keep = kept(&self.outcomes.labels, &source.divider, part, chunk)?;
        match keep.iter().filter(|keep| **keep).count() {
            0 => Ok(None),
            all if all == keep.len() => Ok(Some((self.encoders.encode(chunk)?, self.outcomes.read(chunk)?))),
            _ => {
                let filtered = chunk.filter(&keep)?;
                // A row of a filtered chunk does not know its place, the whole chunk does.
                let encoded = self.encoders.encode(&filtered).or_else(|error| {
                    self.encoders.encode(chunk)?;
                    Err(error)
                });
                let outcome = self.outcomes.read(&filtered).or_else(|error| {
                    self.outcomes.read(chunk)?;
                    Err(error)
                });
                Ok(Some((encoded?, outcome?)))
            }
        }
    }
}

/// Which rows of a chunk belong to a split and are no orphans.
fn kept(labels: &LabelSpec, divider: &Divider, part: Part, chunk: &Chunk) -> Result<Vec<bool>, DataError> {
    let (parts, depth) = (divider.assign(chunk)?, labels.read(chunk)?);
    Ok(parts.iter().zip(&depth).map(|(own, depth)| *own == part && depth.is_some()).collect())
}
