//! What it saves to give the features of a user once a group and not once a row: whole steps of training and inference
//! on batches like those of Ali-CCP, 58 impressions a user.
//!
//! ```sh
//! cargo bench --bench groups [-- --seconds N] [--rounds N] [--device NAME] [--groups N]
//! ```
//!
//! Sizes of tables are the largest ids of the raw files' fields; a user has 500 weighted tokens in four fields, as there
//! (how they are spread over the fields is not known: evenly here), an impression 13 ids. D = 18, towers 360-200-80.

#[path = "../workload/mod.rs"]
#[allow(
    clippy::expect_used,
    dead_code,
    unused_imports,
    reason = "a bench ends where it fails, and this one uses a part"
)]
mod workload;

use std::time::{Duration, Instant};

use clap::Parser;
use esmm_core::{
    BatchInput, EsmmConfig, Feature, FeatureSchema, Pooling, RowGroups, Side, SparseInput, TrainBackend,
};
use esmm_train::{DeviceName, OnDevice, TrainError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use workload::{Inference, Training, Workload};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a group.
const ROWS_OF_GROUP: usize = 58;
const BATCHES: usize = 8;
/// Steps that a device has queued at most.
const WAITS_AFTER: usize = 20;
/// Tables of a user's single ids (101, 121, 122, 124 to 129) and behaviour fields (109_14, 110_14, 127_14, 150_14).
const USER: [usize; 9] = [294_736, 98, 14, 3, 8, 4, 4, 3, 5];
const BEHAVIOUR: [usize; 4] = [6_086, 116_741, 58_015, 33_786];
const TOKENS: usize = 125;
/// Tables of an impression: 205, 206, 207, 210, 216, 301, 508, 509, 702, 853.
const ITEM: [usize; 10] = [3_078_306, 8_581, 604_498, 96_258, 208_179, 4, 7_735, 384_343, 142_632, 74_317];

#[derive(Debug, Parser)]
#[command(about = "Samples per second with and without groups")]
struct Options {
    /// Length of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds, both ways in turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A device whose backend is compiled in, as `esmm train` takes it
    #[arg(long, default_value = "ndarray")]
    device: DeviceName,
    /// Groups of a batch: 35 are 2030 rows, 283 are 16414
    #[arg(long, default_value_t = 35)]
    groups: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A batch: ids and weights of a user by group, ids of an impression by row.
struct Batch {
    user: Vec<Vec<u32>>,
    behaviour: Vec<(Vec<u32>, Vec<f32>)>,
    item: Vec<Vec<u32>>,
    of_rows: Vec<u32>,
}

impl Batch {
    fn random(rng: &mut ChaCha8Rng, groups: usize) -> Self {
        let rows = groups * ROWS_OF_GROUP;
        // As in the other workloads: small ids come often.
        let mut ids = |size: usize, count: usize| -> Vec<u32> {
            (0..count)
                .map(|_| ((rng.random::<f64>().powi(3) * size as f64) as u32).min(size as u32 - 1))
                .collect()
        };
        let user = USER.iter().map(|&size| ids(size, groups)).collect();
        let item = ITEM.iter().map(|&size| ids(size, rows)).collect();
        let tokens: Vec<_> = BEHAVIOUR.iter().map(|&size| ids(size, groups * TOKENS)).collect();
        let weights = |ids: Vec<u32>| (ids.iter().map(|id| (2.0 + (id % 50) as f32).ln()).collect(), ids);
        let behaviour = tokens.into_iter().map(weights).map(|(weights, ids)| (ids, weights)).collect();
        let of_rows = (0..rows).map(|row| (row / ROWS_OF_GROUP) as u32).collect();
        Self { user, behaviour, item, of_rows }
    }

    /// The same with the user's columns written out for every row.
    fn written_out(&self) -> Self {
        let by_row = |ids: &Vec<u32>| self.of_rows.iter().map(|&group| ids[group as usize]).collect();
        let tokens = |(ids, weights): &(Vec<u32>, Vec<f32>)| {
            let groups = || self.of_rows.iter().map(|&group| group as usize * TOKENS);
            let ids = groups().flat_map(|start| ids[start..][..TOKENS].to_vec()).collect();
            (ids, groups().flat_map(|start| weights[start..][..TOKENS].to_vec()).collect())
        };
        Self {
            user: self.user.iter().map(by_row).collect(),
            behaviour: self.behaviour.iter().map(tokens).collect(),
            item: self.item.clone(),
            of_rows: self.of_rows.clone(),
        }
    }

    fn with_input<R>(&self, work: impl FnOnce(BatchInput<'_>) -> R) -> R {
        let users = self.user[0].len();
        let offsets: Vec<usize> = (0..=users).map(|user| user * TOKENS).collect();
        let single = |ids| SparseInput::Single(ids);
        let bag = |(ids, weights)| SparseInput::Bag { offsets: &offsets, ids, weights: Some(weights) };
        let user = self.user.iter().map(|ids| single(ids));
        let behaviour = self.behaviour.iter().map(|(ids, weights)| bag((ids.as_slice(), weights.as_slice())));
        let sparse: Vec<_> = user.chain(behaviour).chain(self.item.iter().map(|ids| single(ids))).collect();
        let rows = self.of_rows.len();
        let groups = (users < rows).then_some(RowGroups { count: users, of_rows: &self.of_rows });
        work(BatchInput { rows, sparse: &sparse, dense: &[], groups })
    }
}

fn config() -> EsmmConfig {
    let single =
        |side| move |(index, &size): (usize, &usize)| Feature::sparse(format!("{side:?}{index}"), side, size);
    let bag = |(index, &size)| Feature::bag(format!("behaviour{index}"), Side::User, size, Pooling::Sum);
    let user = USER.iter().enumerate().map(single(Side::User));
    let item = ITEM.iter().enumerate().map(single(Side::Item));
    let features = user.chain(BEHAVIOUR.iter().enumerate().map(bag)).chain(item);
    let schema = FeatureSchema::new(features.collect()).unwrap_or_else(|error| panic!("{error}"));
    EsmmConfig { towers: Workload::aliccp().config().towers, ..EsmmConfig::new(schema) }
}

/// Rows a second of steps on the batches in turn; `wait` returns when the device is done.
fn rate(options: &Options, mut step: impl FnMut(usize), wait: impl Fn()) -> f64 {
    let start = Instant::now();
    let mut steps = 0;
    while start.elapsed() < Duration::from_secs_f64(options.seconds) || steps < 2 {
        step(steps % BATCHES);
        steps += 1;
        if steps.is_multiple_of(WAITS_AFTER) {
            wait();
        }
    }
    wait();
    (steps * options.groups * ROWS_OF_GROUP) as f64 / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let options = Options::parse();
    let device = options.device;
    device.run(Compared(options)).unwrap_or_else(|error| panic!("{error}"));
}

/// Training and inference, both ways each.
struct Compared(Options);

impl OnDevice for Compared {
    type Output = ();

    fn run<B>(self, device: B::Device) -> Result<(), TrainError>
    where
        B: TrainBackend,
    {
        let Self(options) = self;
        let Options { groups, .. } = options;
        let mut rng = ChaCha8Rng::seed_from_u64(58);
        let grouped: Vec<_> = (0..BATCHES).map(|_| Batch::random(&mut rng, groups)).collect();
        let written_out: Vec<_> = grouped.iter().map(Batch::written_out).collect();
        let sides = [("written out", &written_out), ("by group", &grouped)];
        let depth: Vec<u8> = (0..groups * ROWS_OF_GROUP).map(|row| u8::from(row % 25 == 0)).collect();
        let config = config();

        let threads = rayon::current_num_threads();
        println!("{threads} threads, {groups} groups of {ROWS_OF_GROUP} rows a batch, {}", options.device);
        println!("mode   user's columns   samples/s   of written out");
        let wait = || drop(B::sync(&device));
        let mut training = Training::<B>::of(&config, device.clone());
        let mut train = |batch: &Batch| {
            batch.with_input(|input| drop(training.step_of(input, &depth, workload::Rows::Touched)));
        };
        report("train", &options, sides, &mut train, wait);
        let mut inference = Inference::<B>::of(&config, device.clone());
        let mut infer = |batch: &Batch| batch.with_input(|input| drop(inference.step_of(input)));
        report("infer", &options, sides, &mut infer, wait);
        Ok(())
    }
}

/// Both ways in turn, after a step of each that compiles kernels; medians over the rounds.
fn report(
    mode: &str,
    options: &Options,
    sides: [(&str, &Vec<Batch>); 2],
    step: &mut impl FnMut(&Batch),
    wait: impl Fn() + Copy,
) {
    sides.iter().for_each(|(_, batches)| step(&batches[0]));
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..options.rounds.max(1) {
        for ((_, batches), rates) in sides.iter().zip(&mut rates) {
            rates.push(rate(options, |index| step(&batches[index]), wait));
        }
    }
    let rates = rates.map(median);
    for ((name, _), value) in sides.iter().zip(rates) {
        println!("{mode:<6} {name:<14} {value:>11.0} {:>16.2}", value / rates[0]);
    }
}
