//! The rows of one split, in files.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::reading::{ReadSource, Reading};
use super::windows::{WindowSizes, Windows};
use crate::dataset::{Dataset, EncodedChunk, Outcome};
use crate::encode::counter::ValueCounter;
use crate::encode::encoder::FittedEncoders;
use crate::encode::users::users_stand_apart;
use crate::error::DataError;
use crate::outcome::counting::CountSpec;
use crate::outcome::label::LabelSpec;
use crate::outcome::outcomes::Outcomes;
use crate::outcome::truth::TruthSpec;
use crate::processors::processors;
use crate::read::pieces::Piece;
use crate::read::source::SourceSpec;
use crate::split::divider::Divider;
use crate::split::spec::Part;

/// The first window of a pass has this share of the rows of the largest.
const FIRST_WINDOW: usize = 16;

/// Readers at most.
const MOST_READERS: usize = 8;
/// Chunks of each reader that may wait for their turn.
const CHUNKS_AHEAD: usize = 16;

/// Rows of a chunk that belong to a split.
type ReadChunk = (EncodedChunk, Outcome);

/// The rows of one split, in files. Cheap to clone.
#[derive(Clone)]
pub struct FileRows {
    pub(crate) reading: Arc<Reading>,
    pub(crate) part: Part,
    /// Blocks with rows of this split and how many each has, in order; `None` where nobody has counted.
    pub(crate) blocks: Option<Arc<[(usize, u64)]>>,
    /// Rows of a window when rows are shuffled.
    pub(crate) shuffle_rows: usize,
    /// Whether user features are held once for each group of rows, and groups are shuffled instead of rows.
    pub(crate) by_group: bool,
    /// What counts the values of the rows that are read.
    pub(crate) counter: Option<Arc<ValueCounter>>,
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
        counting: &CountSpec,
        by_group: bool,
    ) -> Result<Self, DataError> {
        let outcomes = Outcomes::new(labels, group, truth, counting)?;
        let apart =
            by_group && users_stand_apart(source, encoders.specs(), outcomes.columns_of_impressions())?;
        let divider = Divider::All(Part::Test);
        let source = ReadSource::new(source, divider, encoders, &outcomes);
        source.source.open(&source.columns)?;
        let outcomes = outcomes.resolved(&[&source.source])?;
        let (sources, encoders) = (vec![source], encoders.clone());
        let reading = Arc::new(Reading { sources, blocks: Vec::new(), encoders, outcomes });
        Ok(Self { reading, part: Part::Test, blocks: None, shuffle_rows: 0, by_group: apart, counter: None })
    }

    /// The same rows; what is read of them is added to a counter.
    pub fn counted_by(self, counter: Arc<ValueCounter>) -> Self {
        Self { counter: Some(counter), ..self }
    }

    /// How many threads read the blocks of a pass on a machine with so many processors: half as many, up to 8, for the others
    /// build batches and train.
    pub fn num_readers(processors: usize) -> usize {
        (processors / 2).clamp(1, MOST_READERS)
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

    /// Hands over all rows in windows to `take` until it says that it has enough; windows before `first` are left out. The
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
        self.windows_by(Self::num_readers(processors()), shuffle, sizes, first, take)
    }

    /// The same by so many threads that read blocks, where blocks were counted.
    pub(crate) fn windows_by(
        &self,
        readers: usize,
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
                rows += order.iter().map(|(_, rows)| *rows as usize).sum::<usize>();
                let skipped = order.iter().take_while(|(_, rows)| {
                    let all = windows.skip >= *rows;
                    windows.skip -= if all { *rows } else { 0 };
                    all
                });
                let skipped = skipped.count();
                if !self.read_blocks(&order[skipped..], readers, &mut windows)? {
                    return Ok(());
                }
            }
        }
        windows.finish();
        match rows {
            0 => Err(self.part.empty(0)),
            _ => Ok(()),
        }
    }

    /// The rows of a piece that belong to this split, counted; `None` where there are none.
    fn kept(&self, source: &ReadSource, piece: Piece) -> Result<Option<(EncodedChunk, Outcome)>, DataError> {
        let kept = self.reading.kept(source, self.part, piece)?;
        if let (Some((encoded, _)), Some(counter)) = (&kept, &self.counter) {
            counter.add(encoded);
        }
        Ok(kept)
    }

    /// Hands over all rows in the order of the files; `false` when `each` had enough.
    fn read_all(&self, mut each: impl FnMut(&EncodedChunk, &Outcome) -> bool) -> Result<bool, DataError> {
        let mut pass = |kept: Option<(EncodedChunk, Outcome)>| kept.is_none_or(|kept| each(&kept.0, &kept.1));
        for source in &self.reading.sources {
            for piece in source.source.pieces(&source.columns, self.by_group)? {
                if !pass(self.kept(source, piece?)?) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Hands over the rows of blocks, in their order, whatever the number of threads that read them; `false` when there are
    /// enough. Reader `i` of `n` reads the blocks `i`, `i + n`, `i + 2n`.
    fn read_blocks(
        &self,
        order: &[(usize, u64)],
        readers: usize,
        windows: &mut Windows<'_>,
    ) -> Result<bool, DataError> {
        let readers = readers.min(order.len());
        if readers < 2 {
            for (block, expected) in order {
                let mut more = true;
                self.read_block(*block, *expected, &mut |encoded, outcome| {
                    more = windows.push(&encoded, &outcome);
                    more
                })?;
                if !more {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        thread::scope(|scope| {
            let receivers: Vec<_> = (0..readers)
                .map(|reader| {
                    let (sender, receiver) = sync_channel(CHUNKS_AHEAD);
                    scope.spawn(move || self.read_every(order, reader, readers, &sender));
                    receiver
                })
                .collect();
            for place in 0..order.len() {
                // What a reader sends comes in its order: the chunks of a block, then its end.
                while let Some((encoded, outcome)) = received(&receivers[place % readers])? {
                    if !windows.push(&encoded, &outcome) {
                        return Ok(false);
                    }
                }
            }
            Ok(true)
        })
    }

    /// Sends the chunks of the blocks of one reader, after each block `None`; ends after an error, and where nobody listens.
    fn read_every(
        &self,
        order: &[(usize, u64)],
        reader: usize,
        readers: usize,
        sender: &SyncSender<Result<Option<ReadChunk>, DataError>>,
    ) {
        for (block, expected) in order.iter().skip(reader).step_by(readers) {
            let read = self.read_block(*block, *expected, &mut |encoded, outcome| {
                sender.send(Ok(Some((encoded, outcome)))).is_ok()
            });
            let failed = read.is_err();
            if sender.send(read.map(|()| None)).is_err() || failed {
                return;
            }
        }
    }

    /// Hands over the rows of a block until `take` says that it has enough.
    fn read_block(
        &self,
        number: usize,
        expected: u64,
        take: &mut dyn FnMut(EncodedChunk, Outcome) -> bool,
    ) -> Result<(), DataError> {
        let (source, block) = &self.reading.blocks[number];
        let source = &self.reading.sources[*source];
        let (mut rows, mut more) = (0, true);
        let mut pass = |kept: Option<(EncodedChunk, Outcome)>| {
            if let Some((encoded, outcome)) = kept {
                rows += encoded.rows as u64;
                more = take(encoded, outcome);
            }
            more
        };
        let each = |piece: Piece| Ok(pass(self.kept(source, piece)?));
        source.source.block_pieces(block, &source.columns, self.by_group, each)?;
        match !more || rows == expected {
            true => Ok(()),
            false => Err(block.changed()),
        }
    }

    /// The same rows, each with all of its features.
    pub(crate) fn flat(&self) -> Self {
        Self { by_group: false, ..self.clone() }
    }

    /// The first rows, in the order of the files.
    pub(crate) fn first(&self, rows: usize) -> Result<Dataset, DataError> {
        let mut found = self.reading.empty(self.by_group);
        self.windows(None, WindowSizes::equal(rows.max(1)), 0, &mut |window| {
            found = window;
            false
        })?;
        Ok(found)
    }
}

/// The next chunk of a block; `None` at its end.
fn received(
    receiver: &Receiver<Result<Option<ReadChunk>, DataError>>,
) -> Result<Option<ReadChunk>, DataError> {
    receiver
        .recv()
        .unwrap_or_else(|_| Err(DataError::setting("data", "a thread that reads files has stopped")))
}

impl fmt::Debug for FileRows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FileRows({:?}, {} rows)", self.part, self.rows())
    }
}
