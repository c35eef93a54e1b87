//! Counts what the cells of scored rows are to the encoders, chunk by chunk.

use std::sync::{Mutex, PoisonError};

use super::encoder::FittedEncoders;
use super::feature::FeatureKind;
use super::trained_rows::TrainedRows;
use crate::dataset::{EncodedChunk, ValueCounts};

/// Counts the values of the rows that are encoded, from any thread.
#[derive(Debug)]
pub struct ValueCounter {
    counts: Mutex<ValueCounts>,
    trained: Option<TrainedRows>,
    /// Places of the sparse features among all of them.
    sparse: Vec<usize>,
}

impl ValueCounter {
    /// For rows that these encoders encode; `trained` where somebody noted which rows of the tables were trained.
    pub fn new(encoders: &FittedEncoders, trained: Option<TrainedRows>) -> Self {
        let specs = encoders.specs().iter().enumerate();
        let sparse = specs.filter(|(_, spec)| matches!(spec.kind, FeatureKind::Sparse { .. }));
        Self { counts: Mutex::default(), trained, sparse: sparse.map(|(place, _)| place).collect() }
    }

    /// Adds the rows of a chunk that has all features.
    pub fn add(&self, encoded: &EncodedChunk) {
        let mut counts = encoded.counts.clone();
        if let Some(trained) = &self.trained {
            for (feature, (place, column)) in self.sparse.iter().zip(&encoded.sparse).enumerate() {
                let untrained = column.ids().iter().filter(|id| !trained.has(feature, **id)).count();
                counts.features[*place].untrained = Some(untrained as u64);
            }
        }
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).add(&counts);
    }

    /// The counts of all rows so far.
    pub fn counts(&self) -> ValueCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
