//! Guard rails: what is suspicious about data and model before anyone believes a metric.

use std::path::PathBuf;

use esmm_core::{DenseFeature, one_line};
use esmm_data::{Dataset, SourceSpec, SparseColumn};
use esmm_metrics::{SplitMetrics, auc};

/// A single feature that ranks a label better than this knows the label.
const LEAK_AUC: f64 = 0.99;
/// A sparse feature of which more validation rows than this are unknown has learned little.
const UNKNOWN_SHARE: f64 = 0.5;
/// Rows that the leak check looks at.
const LEAK_ROWS: usize = 200_000;
/// A spread of pCVR logits below this is a constant.
const COLLAPSED_SPREAD: f64 = 1e-3;

/// A dense feature whose root mean square is above this drowns the others, which lie near 1.
const LARGE: f64 = 100.0;

/// Names that the checks speak of.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// Sparse features in the order of the dataset.
    pub sparse: &'a [String],
    /// Dense features in the order of the dataset.
    pub dense: &'a [DenseFeature],
    /// Stages of the funnel.
    pub stages: &'a [String],
}

/// Warnings about files that are read more than once, by whatever name or link. Files that are not there are left to who
/// reads them.
pub fn check_repeated(source: &SourceSpec) -> Vec<String> {
    let mut files = source.repeated_files().unwrap_or_default();
    files.sort();
    files.dedup();
    let warning = |file: &PathBuf| {
        format!(
            "{}: is read more than once: its rows count as often, on whichever side of a split; name each file once",
            one_line(&file.display().to_string())
        )
    };
    files.iter().map(warning).collect()
}

/// Warnings about the training split, of which these are all rows or the first of `all_rows`: features that know a
/// label, constant features.
pub fn check_features(train: &Dataset, all_rows: u64, names: Names<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    let looked_at = match train.rows as u64 {
        rows if rows == all_rows => "every training row".to_owned(),
        rows => format!("the first {rows} training rows"),
    };
    let sparse = names.sparse.iter().zip(&train.sparse).map(|(name, column)| (name, Column::Sparse(column)));
    let dense = names.dense.iter().zip(&train.dense);
    let dense = dense.map(|(feature, numbers)| (&feature.name, Column::Dense(numbers)));
    for (name, column) in sparse.chain(dense) {
        if column.is_constant() {
            warnings.push(format!("feature `{name}` has the same value in {looked_at}: it cannot help"));
            continue;
        }
        for (stage, label) in names.stages.iter().enumerate() {
            if let Some(area) = column.single_auc(train, stage).filter(|area| *area > LEAK_AUC) {
                warnings.push(format!(
                    "feature `{name}` alone ranks `{label}` with an AUC of {area:.4}: it probably knows the label"
                ));
                break;
            }
        }
    }
    warnings
}

/// Warnings about dense features whose values, as the model reads them, are out of all proportion to embeddings.
pub fn check_scale(train: &Dataset, names: Names<'_>) -> Vec<String> {
    // Of a position among bins the model reads shares, which are at most 1.
    let numbers = names.dense.iter().zip(&train.dense).filter(|(feature, _)| feature.bins.is_none());
    let sizes = numbers.map(|(feature, values)| (&feature.name, root_mean_square(values)));
    sizes
        .filter(|(_, size)| *size > LARGE)
        .map(|(name, size)| {
            format!(
                "feature `{name}` has values of about {}, the others lie near 1: it will drown them; \
                 say encode = \"standardize\", or \"log1p\" for amounts",
                rounded(size)
            )
        })
        .collect()
}

fn root_mean_square(values: &[f32]) -> f64 {
    let squares: f64 = values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    (squares / values.len().max(1) as f64).sqrt()
}

/// Two digits: `430`, `1.2e7`.
fn rounded(value: f64) -> String {
    if value < 1e4 { format!("{value:.0}") } else { format!("{value:.1e}") }
}

/// A warning when weights are worse than saying the base rate of each task to everyone.
pub fn check_constant(split: &str, metrics: &SplitMetrics) -> Option<String> {
    let entropies = metrics.tasks.iter().filter_map(|(name, task)| Some((name, task.normalized_entropy?)));
    let worse: Vec<String> = entropies
        .filter(|(_, value)| *value > 1.0)
        .map(|(name, value)| format!("{name} {value:.3}"))
        .collect();
    (!worse.is_empty()).then(|| {
        format!(
            "the kept weights are worse than a constant on the {split} split, normalized entropy {} (a constant has 1): \
             there may be too few rows, too many epochs, or too high a learning rate",
            worse.join(", ")
        )
    })
}

/// Warnings about a split: stages that no row reached. `reached` counts the rows that did.
pub fn check_labels(split: &str, reached: &[u64], stages: &[String]) -> Vec<String> {
    let missing = stages.iter().zip(reached).filter(|(_, reached)| **reached == 0);
    missing
        .map(|(label, _)| format!("the {split} split has no row with `{label}`: its metrics are undefined"))
        .collect()
}

/// Warnings about sparse features whose values are mostly unknown in a split: name and share of each.
pub fn check_unknown(split: &str, unknown: &[(String, f64)]) -> Vec<String> {
    let mostly = unknown.iter().filter(|(_, share)| *share > UNKNOWN_SHARE);
    mostly
        .map(|(name, share)| {
            let percent = 100.0 * share;
            format!("feature `{name}`: {percent:.0}% of the {split} split's values are unknown in training")
        })
        .collect()
}

/// A warning when the conversion tower says the same of every impression.
pub fn check_collapse(spread: f64) -> Option<String> {
    (spread < COLLAPSED_SPREAD).then(|| {
        format!(
            "pCVR has collapsed to a constant (standard deviation of its logits {spread:.1e}): \
             there may be too few conversions, or too high a learning rate"
        )
    })
}

enum Column<'a> {
    Sparse(&'a SparseColumn),
    Dense(&'a [f32]),
}

impl Column<'_> {
    fn is_constant(&self) -> bool {
        match self {
            Self::Dense(values) => values.windows(2).all(|pair| pair[0] == pair[1]),
            Self::Sparse(SparseColumn::Single(ids)) => ids.windows(2).all(|pair| pair[0] == pair[1]),
            Self::Sparse(SparseColumn::Bag { offsets, ids, .. }) => {
                let bags = || offsets.windows(2).map(|pair| &ids[pair[0]..pair[1]]);
                bags().zip(bags().skip(1)).all(|(left, right)| left == right)
            }
        }
    }

    /// AUC of this feature alone, in the better direction. Ids are scored by their rate in the even rows and measured
    /// on the odd ones, so that an id that is seen once proves nothing.
    fn single_auc(&self, data: &Dataset, stage: usize) -> Option<f64> {
        let rows = data.rows.min(LEAK_ROWS);
        let label = |row: usize| usize::from(data.depth[row]) > stage;
        let (scores, labels): (Vec<f32>, Vec<bool>) = match self {
            Self::Dense(values) => (0..rows).map(|row| (values[row], label(row))).unzip(),
            Self::Sparse(column) => {
                let rates = rates(column, rows, &label);
                (1..rows).step_by(2).map(|row| (mean_rate(column, row, &rates), label(row))).unzip()
            }
        };
        let area = auc(&scores, &labels).ok()?.value;
        Some(area.max(1.0 - area))
    }
}

fn ids(column: &SparseColumn, row: usize) -> &[u32] {
    match column {
        SparseColumn::Single(ids) => &ids[row..=row],
        SparseColumn::Bag { offsets, ids, .. } => &ids[offsets[row]..offsets[row + 1]],
    }
}

/// Smoothed rate of a label for each id, over the even rows.
fn rates(column: &SparseColumn, rows: usize, label: &impl Fn(usize) -> bool) -> Vec<f32> {
    let all = match column {
        SparseColumn::Single(ids) | SparseColumn::Bag { ids, .. } => ids,
    };
    let mut counts = vec![(0_u32, 0_u32); all.iter().max().map_or(0, |id| *id as usize + 1)];
    let even = || (0..rows).step_by(2);
    for row in even() {
        for &id in ids(column, row) {
            let count = &mut counts[id as usize];
            *count = (count.0 + u32::from(label(row)), count.1 + 1);
        }
    }
    let base = even().filter(|row| label(*row)).count() as f32 / even().count().max(1) as f32;
    counts.into_iter().map(|(hits, seen)| (hits as f32 + base) / (seen as f32 + 1.0)).collect()
}

fn mean_rate(column: &SparseColumn, row: usize, rates: &[f32]) -> f32 {
    let ids = ids(column, row);
    ids.iter().map(|&id| rates[id as usize]).sum::<f32>() / ids.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use esmm_core::Side;

    use super::*;

    fn data() -> Dataset {
        let rows = 2000_u32;
        let depth: Vec<u8> = (0..rows).map(|row| u8::from(row * 7919 % 13 < 4)).collect();
        Dataset {
            rows: rows as usize,
            sparse: vec![
                SparseColumn::Single(depth.iter().map(|depth| u32::from(*depth) + 1).collect()),
                SparseColumn::Single((0..rows).collect()),
                SparseColumn::Single((0..rows).map(|row| row % 3 / 2).collect()),
            ],
            dense: vec![vec![1.0; rows as usize], depth.iter().map(|depth| -f32::from(*depth)).collect()],
            depth,
            group: None,
            truth: None,
            counts: esmm_data::RowCounts::default(),
            users: None,
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Dense features whose numbers the model reads.
    fn dense(names: &[&str]) -> Vec<DenseFeature> {
        let feature = |name: &&str| DenseFeature { name: (*name).to_owned(), side: Side::Item, bins: None };
        names.iter().map(feature).collect()
    }

    #[test]
    fn leaks_and_constants_are_found_and_single_ids_are_not() {
        let sparse = names(&["leak", "row_id", "third"]);
        let dense = dense(&["one", "minus_label"]);
        let stages = names(&["click", "conversion"]);
        let warnings =
            check_features(&data(), 2000, Names { sparse: &sparse, dense: &dense, stages: &stages });
        let text = warnings.join("\n");
        assert_eq!(warnings.len(), 3, "{text}");
        assert!(text.contains("`leak` alone ranks `click` with an AUC of 1.0000"), "{text}");
        assert!(text.contains("`minus_label` alone ranks `click`"), "{text}");
        assert!(text.contains("`one` has the same value in every training row"), "{text}");
        let first = check_features(&data(), 2001, Names { sparse: &sparse, dense: &dense, stages: &stages });
        assert!(first.join("\n").contains("the same value in the first 2000 training rows"), "{first:?}");
    }

    #[test]
    fn numbers_out_of_proportion_are_named() {
        let mut data = data();
        data.dense = vec![vec![3.0, -4.0, 99.0], vec![1.0e7, 2.0e7, 3.0e7], vec![900.0, 1000.0, 1024.0]];
        let mut dense = dense(&["price", "cents", "bins"]);
        dense[2].bins = Some(1024);
        let warnings = check_scale(&data, Names { sparse: &[], dense: &dense, stages: &[] });
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        // The root of (1 + 4 + 9) / 3 is 2.16.
        assert!(warnings[0].starts_with("feature `cents` has values of about 2.2e7,"), "{warnings:?}");
    }

    #[test]
    fn worse_than_a_constant() {
        let task = |entropy| esmm_metrics::TaskMetrics {
            normalized_entropy: Some(entropy),
            ..esmm_metrics::TaskMetrics::default()
        };
        let metrics = |ctr, cvr| SplitMetrics {
            tasks: vec![("ctr".to_owned(), task(ctr)), ("cvr".to_owned(), task(cvr))],
            ..SplitMetrics::default()
        };
        assert_eq!(check_constant("test", &metrics(0.9, 1.0)), None);
        let warning = check_constant("test", &metrics(0.9, 1.25)).unwrap();
        assert!(
            warning.contains("on the test split, normalized entropy cvr 1.250 (a constant has 1)"),
            "{warning}"
        );
    }

    #[test]
    fn missing_labels_unknown_values_and_collapse() {
        let warnings = check_labels("valid", &[3, 0], &names(&["click", "conversion"]));
        assert_eq!(warnings, ["the valid split has no row with `conversion`: its metrics are undefined"]);
        let unknown = [("half".to_owned(), 0.5), ("third".to_owned(), 2.0 / 3.0)];
        let warnings = check_unknown("valid", &unknown);
        assert_eq!(warnings, ["feature `third`: 67% of the valid split's values are unknown in training"]);
        assert!(check_collapse(1e-5).is_some() && check_collapse(0.5).is_none());
    }
}
