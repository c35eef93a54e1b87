//! Scoring that is watched: corrected where the run has a correction, and counted for the drift.

use std::cell::RefCell;

use esmm_core::EsmmBackend;
use esmm_data::FittedEncoders;
use esmm_data::loader::EsmmBatch;

use crate::analysis::PeriodCounter;
use crate::correction::Correction;
use crate::ensemble::Ensemble;
use crate::evaluation::{HostScores, ScoreBatch};

/// A model whose probabilities are corrected where they are; what its rows are like is counted of the model as it was trained,
/// as it was of the training rows.
pub(super) struct Watched<'a, B: EsmmBackend> {
    pub(super) model: &'a Ensemble<B>,
    pub(super) correction: Option<&'a Correction>,
    pub(super) encoders: &'a FittedEncoders,
    pub(super) period: RefCell<Option<PeriodCounter>>,
}

impl<B: EsmmBackend> ScoreBatch<B> for Watched<'_, B> {
    fn score(&self, batch: EsmmBatch<B>) -> HostScores {
        let scores = self.model.score(batch);
        if let Some(period) = self.period.borrow_mut().as_mut() {
            period.push(&scores, self.encoders);
        }
        match self.correction {
            Some(correction) => scores.corrected(correction),
            None => scores,
        }
    }
}
