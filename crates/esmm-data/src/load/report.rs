//! What was read: rows, stages reached, rows left out, values that no encoder knows.

use serde::Serialize;

use crate::dataset::Dataset;
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
    /// For each sparse feature in schema order, its name and the share of unknown ids among those that are there, in `[0,
    /// 1]`; of a table with one row for both, of missing and unknown ones among all.
    pub unknown_rate: Vec<(String, f64)>,
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
        Self {
            rows: data.rows as u64,
            reached: reached.collect(),
            orphans_dropped,
            unknown_rate: unknown.collect(),
        }
    }
}
