//! What watches the batches of the final evaluation go by.

use esmm_data::loader::EncodedRows;
use esmm_data::{FittedEncoders, MISSING, SparseColumn, TrainedRows, UnknownRow};
use esmm_metrics::Evaluator;

use super::feature::FeatureSums;
use super::period::PeriodCounter;
use super::sums::RowTasks;
use super::{FeatureAnalysis, NamedCurves, SplitAnalysis, UnknownIds};
use crate::evaluation::HostScores;

/// Ranges of a dense feature at most, of about equal size in the first batch.
const RANGES: usize = 10;

/// Collects what there is to say about one split beside its metrics.
#[derive(Debug)]
pub struct Analyzer<'a> {
    encoders: &'a FittedEncoders,
    split: SplitAnalysis,
    /// The row of unknown values of each sparse feature.
    unknown_rows: Vec<Option<UnknownRow>>,
    tasks: RowTasks,
    trained: Option<TrainedRows>,
    values: Option<Values>,
    period: PeriodCounter,
}

/// Sums by value of all features, the ranges of the dense ones cut by the first batch.
#[derive(Debug)]
struct Values {
    sparse: Vec<FeatureSums>,
    dense: Vec<FeatureSums>,
    edges: Option<Vec<Vec<f32>>>,
}

/// What is asked of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Which table rows it has: of the training split.
    pub tables: bool,
    /// Rates by feature value.
    pub values: bool,
}

impl<'a> Analyzer<'a> {
    /// For a split of a funnel, whose rows `period` counts.
    pub fn new(encoders: &'a FittedEncoders, split: &str, wanted: Wanted, period: PeriodCounter) -> Self {
        let schema = encoders.schema();
        let tasks = RowTasks::new(period.stages());
        let unknown = |feature: &esmm_core::SparseFeature| UnknownIds {
            feature: feature.name.clone(),
            ..UnknownIds::default()
        };
        Self {
            encoders,
            split: SplitAnalysis {
                split: split.to_owned(),
                unknown: schema.sparse().map(unknown).collect(),
                ..SplitAnalysis::default()
            },
            unknown_rows: encoders.unknown_rows(),
            trained: wanted.tables.then(|| TrainedRows::none(schema)),
            values: wanted.values.then(|| Values::new(encoders, tasks.count())),
            tasks,
            period,
        }
    }

    /// Counts the rows of a scored batch; batches come in the order of the split.
    pub fn push(&mut self, scores: &HostScores) {
        if scores.labels.counts.weight.is_some() || scores.labels.counts.negative_rate.is_some() {
            // Rates by value count rows, which would be wrong.
            self.values = None;
        }
        self.period.push(scores, self.encoders);
        let Some(encoded) = &scores.labels.encoded else { return };
        let rows = scores.labels.depth.len();
        for (feature, (column, unknown)) in encoded.sparse.iter().zip(&mut self.split.unknown).enumerate() {
            for row in 0..rows {
                let ids = ids(column, encoded.sparse_entry(feature, row));
                let count = |row: u32| ids.iter().filter(|id| **id == row).count() as u64;
                unknown.ids += ids.len() as u64;
                let unknown_row = self.unknown_rows[feature];
                unknown.unknown += unknown_row.map_or(0, |unknown| count(unknown.row()));
                if unknown_row != Some(UnknownRow::OfMissing) {
                    unknown.missing += count(MISSING);
                }
                if let Some(trained) = &mut self.trained {
                    trained.add(feature, ids);
                }
            }
        }
        if let Some(values) = &mut self.values {
            values.push(encoded, self.split.rows, scores, &mut self.tasks);
        }
        self.split.rows += rows as u64;
    }

    /// What was found, with the curves of the scores; and which rows of the tables were seen, where it was asked for.
    pub fn finish(self, scores: &Evaluator) -> (SplitAnalysis, Option<TrainedRows>) {
        let curves = scores.curves().into_iter();
        let split = SplitAnalysis {
            tasks: curves.map(|(task, curves)| NamedCurves { task, curves }).collect(),
            features: self.values.map(|values| values.finish(self.encoders)).unwrap_or_default(),
            period: Some(self.period.finish()),
            ..self.split
        };
        (split, self.trained)
    }
}

impl Values {
    fn new(encoders: &FittedEncoders, tasks: usize) -> Self {
        let tables = encoders.schema().row_ranges();
        let dense = encoders.schema().dense();
        Self {
            sparse: tables.iter().map(|table| FeatureSums::new(table.len, tasks)).collect(),
            dense: dense.map(|_| FeatureSums::new(RANGES, tasks)).collect(),
            edges: None,
        }
    }

    fn push(&mut self, rows: &EncodedRows, before: u64, scores: &HostScores, tasks: &mut RowTasks) {
        let cut_all = || rows.dense.iter().map(|numbers| cut(numbers)).collect();
        let edges = self.edges.get_or_insert_with(cut_all);
        for row in 0..scores.labels.depth.len() {
            let number = before + row as u64;
            let tasks = tasks.of(scores, row);
            for (feature, (sums, column)) in self.sparse.iter_mut().zip(&rows.sparse).enumerate() {
                sums.add(number, ids(column, rows.sparse_entry(feature, row)), tasks);
            }
            let dense = self.dense.iter_mut().zip(&rows.dense).zip(edges.iter()).enumerate();
            for (feature, ((sums, numbers), edges)) in dense {
                let value = numbers[rows.dense_entry(feature, row)];
                let range = edges.partition_point(|edge| *edge <= value);
                sums.add(number, &[range as u32], tasks);
            }
        }
    }

    fn finish(self, encoders: &FittedEncoders) -> Vec<FeatureAnalysis> {
        let schema = encoders.schema();
        let mut found = Vec::new();
        for (place, (feature, sums)) in schema.sparse().zip(&self.sparse).enumerate() {
            let name = |id| encoders.sparse_value(place, id).unwrap_or_else(|| format!("row {id}"));
            found.push(sums.finish(&feature.name, name));
        }
        let edges = self.edges.unwrap_or_default();
        for (place, ((feature, sums), edges)) in schema.dense().zip(&self.dense).zip(&edges).enumerate() {
            let value = |edge: &f32| encoders.dense_value(place, *edge).map_or_else(String::new, brief);
            found.push(sums.finish_ranges(&feature.name, |range| range_name(edges, range as usize, value)));
        }
        found
    }
}

/// The ids of one row.
pub(super) fn ids(column: &SparseColumn, row: usize) -> &[u32] {
    match column {
        SparseColumn::Single(ids) => &ids[row..=row],
        SparseColumn::Bag { offsets, ids, .. } => &ids[offsets[row]..offsets[row + 1]],
    }
}

/// Edges of at most [`RANGES`] ranges of about equal size: range r begins at edge r - 1.
pub(super) fn cut(column: &[f32]) -> Vec<f32> {
    let mut sample = column.to_vec();
    sample.sort_unstable_by(f32::total_cmp);
    let mut edges: Vec<f32> =
        (1..RANGES).filter_map(|range| sample.get(sample.len() * range / RANGES)).copied().collect();
    edges.dedup();
    edges.retain(|edge| sample.first().is_some_and(|least| edge > least));
    edges
}

pub(super) fn range_name(edges: &[f32], range: usize, value: impl Fn(&f32) -> String) -> String {
    match (range.checked_sub(1).and_then(|before| edges.get(before)), edges.get(range)) {
        (None, None) => "all".to_owned(),
        (None, Some(end)) => format!("below {}", value(end)),
        (Some(start), None) => format!("{} or more", value(start)),
        (Some(start), Some(end)) => format!("{} up to {}", value(start), value(end)),
    }
}

/// A number with four digits that count.
pub(super) fn brief(value: f64) -> String {
    let digits = (3 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 9);
    let text = format!("{value:.*}", digits as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{brief, cut, range_name};

    #[test]
    fn ranges_have_about_equal_size_and_names() {
        let column: Vec<f32> = (0..1000).map(|row| (row * 7 % 1000) as f32).collect();
        let edges = cut(&column);
        assert_eq!(edges, [100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0, 900.0]);
        assert_eq!(cut(&[1.0, 1.0, 1.0, 5.0]), [5.0]);
        assert!(cut(&[]).is_empty() && cut(&[2.0; 50]).is_empty());
        let name = |edges: &[f32], range| range_name(edges, range, |edge| brief(f64::from(*edge)));
        assert_eq!(name(&edges, 0), "below 100");
        assert_eq!(name(&edges, 1), "100 up to 200");
        assert_eq!(name(&edges, 9), "900 or more");
        assert_eq!(name(&[], 0), "all");
    }

    #[test]
    fn numbers_are_brief() {
        let shown = [0.0, 19.899_999, 1234.56, -0.012_345_6, 3.0, 1e6].map(brief);
        assert_eq!(shown, ["0", "19.9", "1235", "-0.01235", "3", "1000000"]);
    }
}
