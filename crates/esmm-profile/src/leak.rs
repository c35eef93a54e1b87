//! Columns that know a label: they hold something only where it is 1, or rank it nearly without error.

use std::collections::HashMap;

use esmm_metrics::auc;

use crate::column::Column;
use crate::label::{Labels, Stage};

/// A column that ranks a label better than this knows it.
const AUC: f64 = 0.99;
/// A share of rows with the label, where something stands, that gives it away.
const SHARE: f64 = 0.99;
/// Chance that so many rows have the label by accident, at most.
const CHANCE: f64 = 1e-9;
/// Rows with the label that an AUC needs at least.
const POSITIVES: usize = 10;

/// How a column knows a label; `None` when it does not.
pub(crate) fn knows(column: &Column, labels: &Labels) -> Option<String> {
    let filled = column.filled();
    [&labels.conversion, &labels.click]
        .into_iter()
        .find_map(|label| by_presence(&filled, label).or_else(|| by_rank(column, label)))
}

fn by_presence(filled: &[bool], label: &Stage) -> Option<String> {
    let here = filled.iter().filter(|filled| **filled).count();
    let with = filled.iter().zip(&label.flags).filter(|(filled, flag)| **filled && **flag).count();
    let base = label.count as f64 / filled.len().max(1) as f64;
    let surprising = base < 1.0 && here as f64 * base.max(f64::MIN_POSITIVE).ln() < CHANCE.ln();
    let gives_away = here < filled.len() && surprising && with as f64 >= SHARE * here as f64;
    gives_away.then(|| match with == here {
        true => format!("holds a value only where `{}` is 1", label.column),
        false => format!("holds a value nearly only where `{}` is 1", label.column),
    })
}

/// Numbers rank by themselves; texts by their rate of the label in every other row, measured on the rows between, so
/// that a value that is seen once proves nothing.
fn by_rank(column: &Column, label: &Stage) -> Option<String> {
    if column.lengths.is_some() || label.count < POSITIVES {
        return None;
    }
    let (scores, flags): (Vec<f32>, Vec<bool>) = match column.stats.all_numbers() {
        true => column.cells().zip(&label.flags).map(|(cell, flag)| (number(cell), *flag)).unzip(),
        false => rates(column, label),
    };
    let area = auc(&scores, &flags).ok()?.value;
    let area = area.max(1.0 - area);
    (area > AUC).then(|| format!("alone ranks `{}` with an AUC of {area:.4}", label.column))
}

fn number(cell: Option<&str>) -> f32 {
    cell.and_then(|cell| cell.parse().ok()).filter(|number: &f32| !number.is_nan()).unwrap_or(0.0)
}

fn rates(column: &Column, label: &Stage) -> (Vec<f32>, Vec<bool>) {
    let mut counts: HashMap<Option<&str>, (u32, u32)> = HashMap::new();
    let rows = || column.cells().zip(&label.flags);
    for (cell, flag) in rows().step_by(2) {
        let count = counts.entry(cell).or_default();
        *count = (count.0 + u32::from(*flag), count.1 + 1);
    }
    let base = label.count as f32 / label.flags.len().max(1) as f32;
    let rate = |cell: Option<&str>| {
        let (hits, seen) = counts.get(&cell).copied().unwrap_or_default();
        (hits as f32 + base) / (seen as f32 + 1.0)
    };
    rows().skip(1).step_by(2).map(|(cell, flag)| (rate(cell), *flag)).unzip()
}
