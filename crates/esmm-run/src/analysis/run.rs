//! The analysis of a run, put together split by split.

use esmm_data::loader::UnknownShares;
use esmm_data::{FittedEncoders, TrainedRows};
use esmm_metrics::Evaluator;

use super::analyzer::Analyzer;
use super::{FORMAT_VERSION, PeriodCounter, RunAnalysis, Wanted, tables};
use crate::config::NegativeRate;
use crate::metrics::BestWeights;

/// Collects `analysis.json` while the splits are measured.
#[derive(Debug)]
pub struct RunAnalyzer<'a> {
    encoders: &'a FittedEncoders,
    stages: Vec<String>,
    negative_rate: Option<NegativeRate>,
    /// The ids that the training took as unknown.
    taken: &'a UnknownShares,
    found: RunAnalysis,
    trained: Option<TrainedRows>,
}

impl<'a> RunAnalyzer<'a> {
    /// For the weights `best` of a funnel with these stages, whose training took some ids as unknown, and the share of impressions
    /// without a click that the rows still hold.
    pub fn new(
        encoders: &'a FittedEncoders,
        stages: &[String],
        negative_rate: Option<NegativeRate>,
        best: BestWeights,
        taken: &'a UnknownShares,
    ) -> Self {
        let step = best.step;
        let epoch = best.epoch;
        let found = RunAnalysis { format_version: FORMAT_VERSION, step, epoch, ..RunAnalysis::default() };
        Self { encoders, stages: stages.to_vec(), negative_rate, taken, found, trained: None }
    }

    /// What watches the split of this name. Table rows are looked for in the training split; rates by feature value in the
    /// others, or in the training split where it is `alone`; not where rows are weighted, as rates count rows. Later splits are
    /// counted in the bins of the training split, which comes first.
    pub fn split(&self, split: &str, alone: bool) -> Analyzer<'a> {
        let train = split == "train";
        let values = (!train || alone) && self.negative_rate.is_none();
        let first = self.found.splits.iter().find(|found| found.split == "train");
        let like = first.and_then(|found| found.period.as_ref());
        let period = PeriodCounter::new(self.encoders, &self.stages, self.negative_rate, like);
        Analyzer::new(self.encoders, split, Wanted { tables: train, values }, period)
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
