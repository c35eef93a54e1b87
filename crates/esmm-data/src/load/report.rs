//! What was read: rows, stages reached, rows left out, values that no encoder knows.

use serde::Serialize;

use crate::dataset::{Dataset, RowCounts};
use crate::encode::encoder::FittedEncoders;
use crate::encode::feature::FeatureKind;
use crate::outcome::label::LabelSpec;

/// Rows of a split that are looked at where not all have all of their features at hand.
pub(crate) const SAMPLE_ROWS: usize = 200_000;

/// What was read into each split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadReport {
    /// The training split.
    pub train: SplitReport,
    /// The validation split.
    pub valid: Option<SplitReport>,
    /// The test split.
    pub test: Option<SplitReport>,
}

impl LoadReport {
    /// The splits that there are, by name.
    pub fn splits(&self) -> impl Iterator<Item = (&'static str, &SplitReport)> {
        let others = [("valid", &self.valid), ("test", &self.test)];
        let others = others.into_iter().filter_map(|(name, report)| Some((name, report.as_ref()?)));
        std::iter::once(("train", &self.train)).chain(others)
    }
}

/// What was read into a split.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SplitReport {
    /// Rows, without those that were dropped.
    pub rows: u64,
    /// Rows that reached each stage: clicks, conversions, ...
    pub reached: Vec<u64>,
    /// Rows that were dropped because they reached a stage but not the one before.
    pub orphans_dropped: u64,
    /// What all rows weigh: their number where they have no weights.
    pub weight: f64,
    /// Rows whose outcome after the first stage is still open.
    pub open: u64,
    /// For each stage what the rows weigh that tell its rate, in the full log where rows without a click were sampled.
    pub rates: Vec<StageWeights>,
    /// For each sparse feature in schema order, its name and the share of unknown ids among those that are there, in `[0,
    /// 1]`; of a table with one row for both, of missing and unknown ones among all.
    pub unknown_rate: Vec<(String, f64)>,
}

/// What the rows weigh that tell the conditional rate of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct StageWeights {
    /// Rows that reached the stage before and are not open for this one; of the first stage all rows.
    pub before: f64,
    /// Those among them that reached the stage.
    pub reached: f64,
}

/// Weights of rows, counted one by one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WeightSums {
    pub(crate) weight: f64,
    pub(crate) open: u64,
    pub(crate) rates: Vec<StageWeights>,
}

impl WeightSums {
    /// For a funnel of so many stages.
    pub(crate) fn new(stages: usize) -> Self {
        Self { weight: 0.0, open: 0, rates: vec![StageWeights::default(); stages] }
    }

    /// Counts a row that reached `depth` stages.
    pub(crate) fn add(&mut self, counts: &RowCounts, row: usize, depth: u8) {
        let weight = counts.weight(row, depth);
        self.weight += counts.weight.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
        let is_open = counts.is_open(row);
        self.open += u64::from(is_open);
        let depth = usize::from(depth);
        let known = if is_open { 1 } else { self.rates.len() };
        for (stage, sums) in self.rates[..known].iter_mut().enumerate().take(depth + 1) {
            sums.before += weight;
            if depth > stage {
                sums.reached += weight;
            }
        }
    }
}

impl SplitReport {
    /// Counts the rows of a split.
    pub(crate) fn of(
        data: &Dataset,
        encoders: &FittedEncoders,
        labels: &LabelSpec,
        orphans_dropped: u64,
    ) -> Self {
        let sparse = encoders.specs().iter().filter(|spec| matches!(spec.kind, FeatureKind::Sparse { .. }));
        let sample = data.written_out(SAMPLE_ROWS);
        let columns = sample.sparse.iter().zip(encoders.unknown_rows());
        let unknown = sparse.zip(columns).map(|(spec, (column, row))| {
            let rate = row.map_or(0.0, |row| row.rate(column));
            (spec.name.clone(), rate)
        });
        let reached = (1..=labels.columns.len())
            .map(|stage| data.depth.iter().filter(|depth| usize::from(**depth) >= stage).count() as u64);
        let mut sums = WeightSums::new(labels.columns.len());
        data.depth.iter().enumerate().for_each(|(row, depth)| sums.add(&data.counts, row, *depth));
        let WeightSums { weight, open, rates } = sums;
        Self {
            rows: data.rows as u64,
            reached: reached.collect(),
            orphans_dropped,
            weight,
            open,
            rates,
            unknown_rate: unknown.collect(),
        }
    }
}
