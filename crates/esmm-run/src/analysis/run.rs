//! The analysis of a run, put together split by split.

use esmm_data::loader::UnknownShares;
use esmm_data::{FittedEncoders, TrainedRows};
use esmm_metrics::Evaluator;

use super::analyzer::Analyzer;
use super::{FORMAT_VERSION, RunAnalysis, Wanted, tables};
use crate::metrics::BestWeights;

/// Collects `analysis.json` while the splits are measured.
#[derive(Debug)]
pub struct RunAnalyzer<'a> {
    encoders: &'a FittedEncoders,
    stages: usize,
    /// The ids that the training took as unknown.
    taken: &'a UnknownShares,
    found: RunAnalysis,
    trained: Option<TrainedRows>,
}

impl<'a> RunAnalyzer<'a> {
    /// For the weights `best` of a funnel of `stages` stages, whose training took some ids as unknown.
    pub fn new(
        encoders: &'a FittedEncoders,
        stages: usize,
        best: BestWeights,
        taken: &'a UnknownShares,
    ) -> Self {
        let step = best.step;
        let epoch = best.epoch;
        let found = RunAnalysis { format_version: FORMAT_VERSION, step, epoch, ..RunAnalysis::default() };
        Self { encoders, stages, taken, found, trained: None }
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
        let (split, trained) = analyzer.finish(scores);
        self.found.splits.push(split);
        let Some(mut trained) = trained else { return };
        for (feature, row) in self.encoders.unknown_rows().into_iter().enumerate() {
            if let Some(row) = row.filter(|_| self.taken.takes(feature)) {
                trained.add(feature, &[row.row()]);
            }
        }
        self.found.tables = tables::usage(self.encoders, &trained);
        self.trained = Some(trained);
    }

    /// All of it, and which rows of the tables were trained, if the training split was among the splits.
    pub fn finish(self) -> (RunAnalysis, Option<TrainedRows>) {
        (self.found, self.trained)
    }
}
