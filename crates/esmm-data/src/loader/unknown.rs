//! Known ids that a training takes as unknown, so that the row of unknown values learns what an average new value does.
//!
//! Without it that row keeps its initial values wherever the training rows know all of their values, and the rows of new
//! users and items are scored with those. Each pass takes others, by the seed and the number of the batch, so that no value
//! loses its own row, and a pass that goes on where it was interrupted takes the same.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::encode::encoder::FittedEncoders;
use crate::encode::unknown_row::UnknownRow;
use crate::load::report::SplitReport;
use crate::{Dataset, SparseColumn};

/// Tells these draws from those of the order, which have the same seed.
const DRAWS: u64 = 0x554E_4B4E_4F57_4E21; // "UNKNOWN!"

/// For each sparse feature the share of its known ids that a training takes as unknown, in `[0, 1)`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UnknownShares {
    pub(super) shares: Vec<f64>,
}

impl UnknownShares {
    /// So many that at least the share `least` of the ids of each vocabulary are unknown, those included that `min_count`
    /// left without a row in the training split.
    pub fn of(least: f64, encoders: &FittedEncoders, train: &SplitReport) -> Self {
        let tables = encoders.unknown_rows().into_iter().zip(&train.unknown_rate);
        let share = |(row, (_, found)): (Option<UnknownRow>, &(String, f64))| match row {
            Some(UnknownRow::Own) if *found < least => (least - found) / (1.0 - found),
            Some(UnknownRow::Own | UnknownRow::OfMissing) | None => 0.0,
        };
        Self { shares: tables.map(share).collect() }
    }

    /// Whether ids of the `feature`-th sparse feature are taken.
    pub fn takes(&self, feature: usize) -> bool {
        self.shares.get(feature).is_some_and(|share| *share > 0.0)
    }

    /// Takes ids of a batch as unknown. `batch` tells it from all others of the same seed.
    pub(super) fn apply(&self, dataset: &mut Dataset, seed: u64, batch: u64) {
        if self.shares.iter().all(|share| *share == 0.0) {
            return;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ DRAWS);
        rng.set_stream(batch);
        for (column, share) in dataset.sparse.iter_mut().zip(&self.shares) {
            take(column, *share, &mut rng);
        }
    }
}

fn take(column: &mut SparseColumn, share: f64, rng: &mut ChaCha8Rng) {
    let limit = (share * 2.0_f64.powi(32)) as u32;
    if limit == 0 {
        return;
    }
    let unknown = UnknownRow::Own;
    for id in column.ids_mut() {
        if rng.random::<u32>() < limit && *id >= unknown.first_key() {
            *id = unknown.row();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(rows: u32) -> Dataset {
        let ids: Vec<u32> = (0..rows).map(|row| row % 7).collect();
        let bag = SparseColumn::Bag { offsets: vec![0; rows as usize + 1], ids: ids.clone(), weights: None };
        let sparse = vec![SparseColumn::Single(ids.clone()), SparseColumn::Single(ids), bag];
        Dataset { rows: rows as usize, sparse, ..Dataset::default() }
    }

    fn shares(shares: &[f64]) -> UnknownShares {
        UnknownShares { shares: shares.to_vec() }
    }

    #[test]
    fn a_share_of_the_known_ids_is_taken_and_nothing_else_changes() {
        let before = dataset(70_000);
        let mut after = before.clone();
        shares(&[0.0, 0.1, 0.1]).apply(&mut after, 3, 5);
        assert_eq!(after.sparse[0], before.sparse[0]);
        for feature in [1, 2] {
            let pairs = || before.sparse[feature].ids().iter().zip(after.sparse[feature].ids());
            assert!(pairs().all(|(old, new)| new == old || *new == 1 && *old > 1));
            let taken = pairs().filter(|(old, new)| old != new).count();
            // Of 50,000 ids; the standard deviation is 67.
            assert!((4700..5300).contains(&taken), "{taken}");
        }
        assert_ne!(after.sparse[1].ids(), after.sparse[2].ids(), "features are drawn apart");
    }

    #[test]
    fn draws_depend_on_seed_and_batch_alone() {
        let drawn = |seed, batch| {
            let mut data = dataset(1000);
            shares(&[0.5, 0.5, 0.5]).apply(&mut data, seed, batch);
            data
        };
        assert_eq!(drawn(1, 2), drawn(1, 2));
        assert_ne!(drawn(1, 2), drawn(1, 3));
        assert_ne!(drawn(1, 2), drawn(2, 2));
    }
}
