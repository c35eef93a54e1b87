//! The analysis of a run, put together split by split.

use esmm_data::FittedEncoders;
use esmm_metrics::Evaluator;

use super::analyzer::Analyzer;
use super::{FORMAT_VERSION, RunAnalysis, Wanted};
use crate::metrics::BestWeights;

/// Collects `analysis.json` while the splits are measured.
#[derive(Debug)]
pub struct RunAnalyzer<'a> {
    encoders: &'a FittedEncoders,
    stages: usize,
    found: RunAnalysis,
}

impl<'a> RunAnalyzer<'a> {
    /// For the weights `best` of a funnel of `stages` stages.
    pub fn new(encoders: &'a FittedEncoders, stages: usize, best: BestWeights) -> Self {
        let step = best.step;
        let epoch = best.epoch;
        let found = RunAnalysis { format_version: FORMAT_VERSION, step, epoch, ..RunAnalysis::default() };
        Self { encoders, stages, found }
    }

    /// What watches the split of this name. Table rows are looked for in the training split; rates by feature value in the
    /// others, or in the training split where it is `alone`; not where rows are `weighted`, as rates count rows.
    pub fn split(&self, split: &str, alone: bool, weighted: bool) -> Analyzer<'a> {
        let train = split == "train";
        let values = (!train || alone) && !weighted;
        Analyzer::new(self.encoders, self.stages, split, Wanted { tables: train, values })
    }

    /// Takes what was found on a split, whose scores are all in `scores`.
    pub fn add(&mut self, analyzer: Analyzer<'_>, scores: &Evaluator) {
        let (split, tables) = analyzer.finish(scores);
        self.found.splits.push(split);
        if let Some(tables) = tables {
            self.found.tables = tables;
        }
    }

    /// All of it.
    pub fn finish(self) -> RunAnalysis {
        self.found
    }
}
