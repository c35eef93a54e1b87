//! The threads that make batches: one that orders the rows (for rows in files, one that reads them as well), and as many
//! builders as the machine has room for.
//!
//! Builder `i` of `n` makes the batches `i`, `i + n`, `i + 2n` of a pass, and the training asks the builders in turn: the
//! order of the batches, and what is in them, does not depend on the number of builders.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};
use std::thread;

use esmm_core::{BatchBuilder, FeatureSchema};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{BatchLoaderConfig, LoadedBatch, Purpose};
use crate::load::rows::SplitRows;
use crate::processors::processors;
use crate::stream::{FileRows, WindowSizes};
use crate::{DataError, Dataset};

/// Batches of each builder that may wait for the training.
const READ_AHEAD: usize = 1;
/// Builders at most.
const MOST_BUILDERS: usize = 12;
/// Bytes that the stamps of all builders may take: each has one of [`STAMP`] bytes for each row of the tables.
const STAMPS: usize = 1 << 30;
const STAMP: usize = 4;

/// What a thread sends.
pub(super) enum Sent {
    /// The next batch.
    Batch(LoadedBatch),
    /// The pass is cut short.
    Failed(DataError),
    /// All batches of the pass were sent.
    End,
}

/// The batches of a pass, in their order.
pub(super) struct Feed {
    receivers: Vec<Receiver<Sent>>,
    /// The builder that is asked next.
    next: usize,
}

impl Feed {
    /// Waits for the next batch.
    ///
    /// # Errors
    /// When the threads have ended without a word.
    pub(super) fn recv(&mut self) -> Result<Sent, RecvError> {
        let sent = self.receivers[self.next].recv();
        self.next = (self.next + 1) % self.receivers.len();
        sent
    }
}

/// Starts a pass without its first batches.
pub(super) fn start(
    rows: &SplitRows,
    config: &BatchLoaderConfig,
    builder: &BatchBuilder,
    pass: u64,
    skip: usize,
    threads: LoaderThreads,
) -> Feed {
    let LoaderThreads { readers, builders } = threads;
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..builders.max(1)).map(|_| sync_channel(READ_AHEAD)).unzip();
    let builders = senders.into_iter().map(|sender| Builder { builder: builder.clone(), sender }).collect();
    let work = Work { config: config.clone(), builders, pass, skipped: skip, sent: 0 };
    match rows.clone() {
        SplitRows::Memory(dataset) => {
            thread::spawn(move || work.all_of(&dataset, pass, skip));
        }
        SplitRows::Files(files) => {
            thread::spawn(move || work.windows_of(files, pass, skip, readers));
        }
    }
    Feed { receivers, next: 0 }
}

/// How many threads make the batches of a pass. Neither the batches nor their order depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderThreads {
    /// Threads that read the blocks of files and encode their rows; 0 counts as 1.
    pub readers: usize,
    /// Threads that build batches; 0 counts as 1.
    pub builders: usize,
}

impl LoaderThreads {
    /// What a machine with so many processors has room for beside a training: see [`FileRows::num_readers`] and
    /// [`num_builders`].
    pub fn of(schema: &FeatureSchema, processors: usize) -> Self {
        Self { readers: FileRows::num_readers(processors), builders: num_builders(schema, processors) }
    }

    /// The same of the processors that this process may use.
    pub fn here(schema: &FeatureSchema) -> Self {
        Self::of(schema, processors())
    }
}

/// How many threads build batches of a schema on a machine with so many processors: three quarters as many, up to 12, fewer
/// where the tables are so large that their stamps would fill the memory.
pub fn num_builders(schema: &FeatureSchema, processors: usize) -> usize {
    let room = STAMPS / (STAMP * schema.num_rows()).max(1);
    (processors * 3 / 4).min(MOST_BUILDERS).min(room).max(1)
}

/// What is said when a thread ends without a word, as after a panic, which has said its own.
pub(super) fn stopped() -> DataError {
    DataError::setting("data", "the thread that makes batches has stopped")
}

struct Builder {
    builder: BatchBuilder,
    sender: SyncSender<Sent>,
}

struct Work {
    config: BatchLoaderConfig,
    builders: Vec<Builder>,
    pass: u64,
    /// Batches of this pass that were left out at its start.
    skipped: usize,
    /// Batches of this pass that were handed to builders.
    sent: usize,
}

impl Work {
    fn all_of(mut self, dataset: &Dataset, pass: u64, skip: usize) {
        let order = self.order(dataset, pass);
        if self.send(dataset, &order, skip).is_continue() {
            self.say(Sent::End);
        }
    }

    fn windows_of(mut self, files: Arc<FileRows>, pass: u64, skip: usize, readers: usize) {
        let batch_size = self.config.batch_size;
        let (sizes, shuffle) = match self.config.purpose {
            Purpose::Training { seed } => (files.shuffle_windows(batch_size), Some((seed, pass))),
            Purpose::Scoring => (WindowSizes::equal(batch_size), None),
        };
        let (first, start) = sizes.find(skip as u64 * batch_size as u64);
        let mut skip = skip - start as usize / batch_size;
        // No room in the channel: a window is read while the one before is handed over, and waits in the reader's hands.
        let (window_sender, windows) = sync_channel::<Result<Dataset, DataError>>(0);
        let reader = thread::spawn(move || {
            let mut send = |window| window_sender.send(Ok(window)).is_ok();
            if let Err(error) = files.windows_by(readers, shuffle, sizes, first, &mut send) {
                let _ = window_sender.send(Err(error));
            }
        });
        for (number, window) in (u64::from(first)..).zip(windows) {
            let sent = match window {
                Ok(window) => {
                    let order = self.order(&window, (pass + 1) << 32 | number);
                    self.send(&window, &order, std::mem::take(&mut skip))
                }
                Err(error) => {
                    self.say(Sent::Failed(error));
                    ControlFlow::Break(())
                }
            };
            if sent.is_break() {
                return;
            }
        }
        let end = if reader.join().is_ok() { Sent::End } else { Sent::Failed(stopped()) };
        self.say(end);
    }

    /// Takes the place of the next batch.
    fn say(&self, word: Sent) {
        let _ = self.builders[self.sent % self.builders.len()].sender.send(word);
    }

    /// The order of some rows; `stream` tells it from others of the same seed. Rows that share their user stay together:
    /// then the groups are shuffled, so that a batch has few of them.
    fn order(&self, dataset: &Dataset, stream: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..dataset.rows as u32).collect();
        let Purpose::Training { seed } = self.config.purpose else {
            return order;
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        match &dataset.users {
            None => {
                order.shuffle(&mut rng);
                order
            }
            Some(users) => {
                let group_of = |row: &u32| users.of_rows[*row as usize];
                let mut groups: Vec<&[u32]> =
                    order.chunk_by(|left, right| group_of(left) == group_of(right)).collect();
                groups.shuffle(&mut rng);
                groups.concat()
            }
        }
    }

    /// Sends rows in batches; breaks when nobody wants them any more. Builders have ended when it returns, so rows that
    /// were read from files do not outlive their window.
    fn send(&mut self, dataset: &Dataset, order: &[u32], skip: usize) -> ControlFlow<()> {
        let Self { config, builders, pass, skipped, sent } = self;
        let count = builders.len();
        let batches: Vec<&[u32]> = order.chunks(config.batch_size).skip(skip).collect();
        let config = &*config;
        let batches = batches.as_slice();
        let first = *sent;
        let number = |place: usize| *pass << 32 | (*skipped + first + place) as u64;
        let wanted = thread::scope(|scope| {
            let of_builder = |(index, builder): (usize, &'_ mut Builder)| {
                // The first batch whose turn is this builder's.
                let start = (index + count - first % count) % count;
                let mut own = batches.iter().enumerate().skip(start).step_by(count);
                own.all(|(place, rows)| builder.send(dataset, rows, number(place), config))
            };
            if count == 1 {
                return builders.iter_mut().enumerate().all(of_builder);
            }
            let threads: Vec<_> = builders
                .iter_mut()
                .enumerate()
                .map(|builder| scope.spawn(move || of_builder(builder)))
                .collect();
            let results: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
            results.into_iter().all(|wanted| matches!(wanted, Ok(true)))
        });
        *sent += batches.len();
        if wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

impl Builder {
    /// Whether the batch was wanted.
    fn send(&mut self, dataset: &Dataset, rows: &[u32], number: u64, config: &BatchLoaderConfig) -> bool {
        let alarm = Alarm(&self.sender);
        let (batch, labels) = dataset.host_batch(rows, number, config, &mut self.builder);
        let reached = labels.reached_cells(config.stages);
        let loaded = LoadedBatch { features: batch, reached, labels: Box::new(labels) };
        alarm.0.send(Sent::Batch(loaded)).is_ok()
    }
}

/// Tells the training when its builder panics: the others would wait for room, and the training for that builder.
struct Alarm<'a>(&'a SyncSender<Sent>);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(Sent::Failed(stopped()));
        }
    }
}

#[cfg(test)]
mod tests;
