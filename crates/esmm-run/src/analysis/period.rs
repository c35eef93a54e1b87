//! What some rows are like: how often things happen, and how the values of each feature are spread.

use esmm_core::DenseFeature;
use esmm_data::loader::EncodedRows;
use esmm_data::{FeatureKind, FittedEncoders, SparseEncoding, UnknownRow};
use serde::{Deserialize, Serialize};

use super::analyzer::{brief, cut, ids, range_name};
use super::sums::RowTasks;
use crate::config::NegativeRate;
use crate::evaluation::HostScores;

/// Values of a sparse feature that are counted one by one, the lowest rows of its table: of a vocabulary the most frequent.
const SINGLE: usize = 62;

/// What some rows are like. `analysis.json` has one of each split; those of later rows are held against the training's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Period {
    /// Number of impressions.
    pub rows: u64,
    /// How often each task happens, in the order of the metrics.
    pub rates: Vec<TaskRate>,
    /// How the values of each feature are spread: the sparse ones, then the dense ones.
    pub features: Vec<FeatureDistribution>,
}

/// How often a task happens, and how often the model expects it to. Weights are those of the metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskRate {
    /// The task, as in `metrics.json`.
    pub task: String,
    /// Impressions that it is measured on.
    pub rows: u64,
    /// Events among them.
    pub events: u64,
    /// What these impressions weigh.
    pub weight: f64,
    /// What the events weigh.
    pub happened: f64,
    /// Sum of the predicted probabilities, weighted.
    pub predicted: f64,
}

/// How the values of a feature are spread over bins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureDistribution {
    /// The feature.
    pub feature: String,
    /// Whether the bins are ranges of a dense feature.
    pub dense: bool,
    /// Where the ranges of a dense feature are cut, as the model sees its numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<f32>,
    /// Names of the bins.
    pub bins: Vec<String>,
    /// What the values in each bin weigh; ids of a list count one by one.
    pub weights: Vec<f64>,
}

/// Name of the bin of missing and unknown values.
pub(super) const UNKNOWN: &str = "missing or new";

impl TaskRate {
    /// Share of the impressions on which it happens.
    pub fn observed(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.happened / self.weight)
    }

    /// Mean of the predicted probabilities.
    pub fn expected(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.predicted / self.weight)
    }
}

impl FeatureDistribution {
    /// What all of its values weigh.
    pub fn total(&self) -> f64 {
        self.weights.iter().sum()
    }
}

/// Counts what some rows are like while their scores go by.
#[derive(Debug)]
pub struct PeriodCounter {
    period: Period,
    tasks: RowTasks,
    sparse: Vec<SparseBins>,
    /// Edges of the dense features, of the training rows or of the first batch.
    edges: Option<Vec<Vec<f32>>>,
    /// Decoded names of the ranges are made at the end.
    negative_rate: Option<NegativeRate>,
}

/// Where the ids of a sparse feature are counted.
#[derive(Debug)]
struct SparseBins {
    /// Whether ids beyond the single ones are others of a vocabulary, and not spread over all bins.
    by_frequency: bool,
    single: usize,
    /// The id of values that training does not know, where it is one of its own.
    unknown: Option<u32>,
}

impl SparseBins {
    /// The bin of an id: 0 is missing or unknown; then single values, all others, and rows without any value.
    fn bin(&self, id: u32) -> usize {
        if self.unknown == Some(id) {
            return 0;
        }
        let id = id as usize;
        match id {
            _ if id <= self.single => id,
            _ if self.by_frequency => self.single + 1,
            _ => 1 + (id - 1) % self.single.max(1),
        }
    }

    fn empty(&self) -> usize {
        self.single + 2
    }
}

impl PeriodCounter {
    /// For rows of `encoders` and a funnel whose stages have these names. Dense features are cut as in `like`, or else where
    /// the first batch falls into ranges of about equal size.
    pub fn new(
        encoders: &FittedEncoders,
        stages: &[String],
        negative_rate: Option<NegativeRate>,
        like: Option<&Period>,
    ) -> Self {
        let tables = encoders.schema().row_ranges();
        let kinds = encoders.specs().iter().filter_map(|spec| match &spec.kind {
            FeatureKind::Sparse { encoding, .. } => Some(encoding),
            FeatureKind::Dense { .. } => None,
        });
        let unknown = encoders.unknown_rows();
        let sparse = tables.iter().zip(kinds).zip(unknown).map(|((table, encoding), unknown)| SparseBins {
            by_frequency: matches!(encoding, SparseEncoding::Vocabulary { .. }),
            single: SINGLE.min(table.len.saturating_sub(1)),
            unknown: unknown.map(UnknownRow::row),
        });
        let sparse: Vec<SparseBins> = sparse.collect();
        let dense = encoders.schema().dense();
        let edges = like.map(|like| {
            let of = |feature: &DenseFeature| {
                let found = like.features.iter().find(|other| other.dense && other.feature == feature.name);
                found.map(|found| found.edges.clone()).unwrap_or_default()
            };
            encoders.schema().dense().map(of).collect()
        });
        let mut features = Vec::new();
        for (place, (feature, bins)) in encoders.schema().sparse().zip(&sparse).enumerate() {
            let mut names = vec![UNKNOWN.to_owned()];
            for id in 1..=bins.single as u32 {
                let name = match bins.by_frequency || tables[place].len <= SINGLE + 1 {
                    true => encoders.sparse_value(place, id).unwrap_or_else(|| format!("row {id}")),
                    false => format!("group {id} of {}", bins.single),
                };
                names.push(name);
            }
            names.extend(["all others".to_owned(), "no value".to_owned()]);
            features.push(FeatureDistribution {
                feature: feature.name.clone(),
                weights: vec![0.0; names.len()],
                bins: names,
                ..FeatureDistribution::default()
            });
        }
        let named = dense.map(|feature| FeatureDistribution {
            feature: feature.name.clone(),
            dense: true,
            ..FeatureDistribution::default()
        });
        features.extend(named);
        let rates = task_names(stages).into_iter().map(|task| TaskRate { task, ..TaskRate::default() });
        let period = Period { rows: 0, rates: rates.collect(), features };
        let mut counter = Self { period, tasks: RowTasks::new(stages.len()), sparse, edges, negative_rate };
        counter.name_ranges(encoders);
        counter
    }

    /// Counts the rows of a scored batch.
    pub fn push(&mut self, scores: &HostScores, encoders: &FittedEncoders) {
        let Some(rows) = &scores.labels.encoded else { return };
        if self.edges.is_none() {
            self.edges = Some(rows.dense.iter().map(|numbers| cut(numbers)).collect());
            self.name_ranges(encoders);
        }
        let weights = scores.weights(self.negative_rate);
        for row in 0..scores.labels.depth.len() {
            let weight = weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
            self.period.rows += 1;
            for (rate, task) in self.period.rates.iter_mut().zip(self.tasks.of(scores, row)) {
                let Some(task) = task else { continue };
                rate.rows += 1;
                rate.events += u64::from(task.positive);
                rate.weight += weight;
                rate.happened += if task.positive { weight } else { 0.0 };
                rate.predicted += weight * task.probability;
            }
            self.count(rows, row, weight);
        }
    }

    fn count(&mut self, rows: &EncodedRows, row: usize, weight: f64) {
        let (sparse, dense) = self.period.features.split_at_mut(self.sparse.len());
        for (place, (feature, bins)) in sparse.iter_mut().zip(&self.sparse).enumerate() {
            match ids(&rows.sparse[place], rows.sparse_entry(place, row)) {
                [] => feature.weights[bins.empty()] += weight,
                ids => ids.iter().for_each(|id| feature.weights[bins.bin(*id)] += weight),
            }
        }
        for (place, (feature, numbers)) in dense.iter_mut().zip(&rows.dense).enumerate() {
            let value = numbers[rows.dense_entry(place, row)];
            let range = feature.edges.partition_point(|edge| *edge <= value);
            feature.weights[range] += weight;
        }
    }

    /// Gives the dense features their ranges, once the edges are known.
    fn name_ranges(&mut self, encoders: &FittedEncoders) {
        let Some(edges) = &self.edges else { return };
        let dense = self.period.features.iter_mut().skip(self.sparse.len());
        for (place, (feature, edges)) in dense.zip(edges).enumerate() {
            let value = |edge: &f32| encoders.dense_value(place, *edge).map_or_else(String::new, brief);
            feature.bins = (0..=edges.len()).map(|range| range_name(edges, range, value)).collect();
            feature.weights = vec![0.0; feature.bins.len()];
            feature.edges.clone_from(edges);
        }
    }

    /// Number of stages of the funnel.
    pub(super) fn stages(&self) -> usize {
        self.period.rates.len().div_ceil(2)
    }

    /// All of it.
    pub fn finish(self) -> Period {
        self.period
    }
}

/// The tasks in the order and under the names of `metrics.json`.
fn task_names(stages: &[String]) -> Vec<String> {
    if stages.len() == 2 {
        return ["ctr", "cvr", "ctcvr"].map(str::to_owned).to_vec();
    }
    let mut names = Vec::new();
    for (place, stage) in stages.iter().enumerate() {
        if place > 0 {
            names.push(format!("{stage}|{}", stages[place - 1]));
        }
        names.push(stage.clone());
    }
    names
}
