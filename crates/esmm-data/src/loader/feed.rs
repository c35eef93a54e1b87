//! The threads that make batches: one for rows in memory; for rows in files one that reads and one that builds.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use esmm_core::{BatchBuilder, HostBatch};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{BatchLoaderConfig, Purpose, RowLabels};
use crate::load::rows::SplitRows;
use crate::stream::{FileRows, WindowSizes};
use crate::{DataError, Dataset};

/// Batches that may wait for the training.
const READ_AHEAD: usize = 2;

/// What a thread sends.
pub(super) enum Sent {
    Batch(HostBatch, RowLabels),
    /// The pass is cut short.
    Failed(DataError),
    /// All batches of the pass were sent.
    End,
}

/// Starts a pass without its first batches.
pub(super) fn start(rows: &SplitRows, config: &BatchLoaderConfig, pass: u64, skip: usize) -> Receiver<Sent> {
    let (sender, receiver) = sync_channel(READ_AHEAD);
    let feed = Feed { config: config.clone(), builder: BatchBuilder::new(&config.schema), sender };
    match rows.clone() {
        SplitRows::Memory(dataset) => {
            thread::spawn(move || feed.all_of(&dataset, pass, skip));
        }
        SplitRows::Files(files) => {
            thread::spawn(move || feed.windows_of(files, pass, skip));
        }
    }
    receiver
}

/// What is said when a thread ends without a word, as after a panic, which has said its own.
pub(super) fn stopped() -> DataError {
    DataError::setting("data", "the thread that makes batches has stopped")
}

struct Feed {
    config: BatchLoaderConfig,
    builder: BatchBuilder,
    sender: SyncSender<Sent>,
}

impl Feed {
    fn all_of(mut self, dataset: &Dataset, pass: u64, skip: usize) {
        let order = self.order(dataset, pass);
        if self.send(dataset, &order, skip).is_continue() {
            let _ = self.sender.send(Sent::End);
        }
    }

    fn windows_of(mut self, files: Arc<FileRows>, pass: u64, skip: usize) {
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
            if let Err(error) = files.windows(shuffle, sizes, first, &mut send) {
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
                    let _ = self.sender.send(Sent::Failed(error));
                    ControlFlow::Break(())
                }
            };
            if sent.is_break() {
                return;
            }
        }
        let end = if reader.join().is_ok() { Sent::End } else { Sent::Failed(stopped()) };
        let _ = self.sender.send(end);
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

    /// Sends rows in batches; breaks when nobody wants them any more.
    fn send(&mut self, dataset: &Dataset, order: &[u32], skip: usize) -> ControlFlow<()> {
        for rows in order.chunks(self.config.batch_size).skip(skip) {
            let (batch, labels) = dataset.host_batch(rows, &self.config, &mut self.builder);
            if self.sender.send(Sent::Batch(batch, labels)).is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}
