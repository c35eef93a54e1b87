//! What to expect of the draft: its features in a linear model, learned from the first rows and measured on the last ones.
//!
//! A linear model of single values is learned in a second and comes near to what a training reaches; it knows no
//! interactions. So its AUC on later rows is about what a training of the draft should at least come to, and where it is
//! near 0.5 there is little in the features for any model.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

use esmm_metrics::auc;

use crate::column::Column;
use crate::feature::{Encoding, FeatureGuess};
use crate::label::Labels;

/// Weights that values share by their hash.
const SLOTS: usize = 1 << 18;
/// Ranges that numbers are cut into.
const RANGES: usize = 16;
/// One of so many rows is measured on.
const MEASURED: usize = 5;
/// Passes over the rows.
const PASSES: usize = 2;
/// Learning rate of Adagrad.
const RATE: f32 = 0.1;
/// Fewer events than this among the measured rows tell nothing.
const FEWEST_EVENTS: usize = 30;

/// AUCs of the trial.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expected {
    /// Rows that were measured.
    pub(crate) rows: usize,
    /// Whether they are later than those that were learned from.
    pub(crate) later: bool,
    /// CTR, CVR and CTCVR, each with its 95% interval; `None` where events are too few.
    pub(crate) tasks: [Option<(f64, [f64; 2])>; 3],
}

/// Slots of each row.
struct Rows {
    offsets: Vec<usize>,
    slots: Vec<u32>,
}

impl Expected {
    /// Tries the features; `time` is the column that rows are in order of. `None` where too few rows clicked.
    pub(crate) fn of(
        features: &[FeatureGuess],
        columns: &[Column],
        labels: &Labels,
        time: Option<&str>,
    ) -> Option<Self> {
        let click = &labels.click.flags;
        let both: Vec<bool> = click
            .iter()
            .zip(&labels.conversion.flags)
            .map(|(click, conversion)| *click && *conversion)
            .collect();
        let find = |name: &str| columns.iter().find(|column| column.name == name);
        let order = order(click.len(), time.and_then(find));
        let (learned, measured) = order.split_at(click.len() - click.len() / MEASURED);
        let rows = Rows::of(features, columns, click.len(), learned);
        let clicked = |part: &[usize]| part.iter().copied().filter(|row| click[*row]).collect::<Vec<_>>();
        let tasks = [
            tried(&rows, click, learned, measured),
            tried(&rows, &both, &clicked(learned), &clicked(measured)),
            tried(&rows, &both, learned, measured),
        ];
        tasks[0]?;
        Some(Self { rows: measured.len(), later: time.is_some(), tasks })
    }
}

impl fmt::Display for Expected {
    /// `AUC of CTR 0.646 (0.638 to 0.654), of CVR ...`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, task): (&str, &Option<(f64, [f64; 2])>)| match task {
            Some((auc, [low, high])) => format!("of {name} {auc:.3} ({low:.3} to {high:.3})"),
            None => format!("of {name} unknown, events are too few"),
        };
        let tasks: Vec<String> = ["CTR", "CVR", "CTCVR"].into_iter().zip(&self.tasks).map(shown).collect();
        let which = if self.later { "the latest fifth" } else { "a fifth" };
        write!(
            f,
            "expected of this draft: AUC {}; that is what a linear model of its features reaches on {which} of the rows looked \
             at, and a training usually comes to about that or a little more",
            tasks.join(", ")
        )
    }
}

/// Rows by their time, or mixed.
fn order(rows: usize, time: Option<&Column>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    match time {
        None => order.sort_by_key(|row| hashed(&(*row, "mixed"))),
        Some(column) => {
            let ranks = column.time_ranks();
            order.sort_by_key(|row| ranks[*row]);
        }
    }
    order
}

impl Rows {
    fn of(features: &[FeatureGuess], columns: &[Column], rows: usize, learned: &[usize]) -> Self {
        let mut per_row: Vec<Vec<u32>> = vec![Vec::with_capacity(features.len()); rows];
        for (place, feature) in features.iter().enumerate() {
            let Some(column) = columns.iter().find(|column| column.name == feature.column) else { continue };
            let slot = |value: &str| (hashed(&(place, value)) % SLOTS as u64) as u32;
            match feature.encoding {
                Encoding::Ple { .. } | Encoding::Standardize { .. } => {
                    let numbers: Vec<Option<f64>> =
                        column.cells().map(|cell| cell.and_then(|cell| cell.parse().ok())).collect();
                    let edges = edges(&numbers, learned);
                    for (slots, number) in per_row.iter_mut().zip(&numbers) {
                        let range = number.map(|number| edges.partition_point(|edge| *edge <= number));
                        slots.push(slot(&format!("{range:?}")));
                    }
                }
                Encoding::Vocabulary { .. } | Encoding::Hash { .. } => {
                    values(column, feature, &mut per_row, slot);
                }
            }
        }
        let mut offsets = vec![0];
        let mut slots = Vec::new();
        for row in per_row {
            slots.extend(row);
            offsets.push(slots.len());
        }
        Self { offsets, slots }
    }

    fn row(&self, row: usize) -> &[u32] {
        &self.slots[self.offsets[row]..self.offsets[row + 1]]
    }
}

/// Adds the slots of the values of a column, of lists those of their items.
fn values(column: &Column, feature: &FeatureGuess, per_row: &mut [Vec<u32>], slot: impl Fn(&str) -> u32) {
    let form = feature.bag.as_ref().and_then(|bag| bag.form.as_ref());
    let mut cells = column.cells();
    for (row, slots) in per_row.iter_mut().enumerate() {
        match (&column.lengths, form) {
            (Some(lengths), _) => {
                let items = cells.by_ref().take(lengths[row]).flatten();
                slots.extend(items.map(&slot));
            }
            (None, Some(form)) => {
                let items = cells.next().flatten().unwrap_or_default().split(form.separator);
                let id = |item: &str| match form.weight {
                    Some(weight) => slot(item.rsplit_once(weight).map_or(item, |(id, _)| id)),
                    None => slot(item),
                };
                slots.extend(items.map(id));
            }
            (None, None) => slots.push(slot(cells.next().flatten().unwrap_or_default())),
        }
    }
}

/// Where numbers are cut into ranges of about equal count.
fn edges(numbers: &[Option<f64>], learned: &[usize]) -> Vec<f64> {
    let mut sorted: Vec<f64> = learned.iter().filter_map(|row| numbers[*row]).collect();
    sorted.sort_by(f64::total_cmp);
    let mut edges: Vec<f64> =
        (1..RANGES).filter_map(|range| sorted.get(sorted.len() * range / RANGES)).copied().collect();
    edges.dedup();
    edges
}

/// Learns from some rows and measures on others: the AUC with its interval.
fn tried(rows: &Rows, labels: &[bool], learned: &[usize], measured: &[usize]) -> Option<(f64, [f64; 2])> {
    let events = |part: &[usize]| part.iter().filter(|row| labels[**row]).count();
    if events(learned) < FEWEST_EVENTS || events(measured) < FEWEST_EVENTS {
        return None;
    }
    let rate = events(learned) as f32 / learned.len() as f32;
    let base = (rate / (1.0 - rate).max(1e-6)).ln();
    let mut weights = vec![0.0_f32; SLOTS];
    let mut squares = vec![1.0_f32; SLOTS];
    let logit = |weights: &[f32], row: usize| {
        base + rows.row(row).iter().map(|slot| weights[*slot as usize]).sum::<f32>()
    };
    let mut mixed = learned.to_vec();
    for pass in 0..PASSES {
        mixed.sort_by_key(|row| hashed(&(*row, pass)));
        for row in &mixed {
            let label = f32::from(u8::from(labels[*row]));
            let gradient = 1.0 / (1.0 + (-logit(&weights, *row)).exp()) - label;
            for slot in rows.row(*row) {
                let slot = *slot as usize;
                squares[slot] += gradient * gradient;
                weights[slot] -= RATE * gradient / squares[slot].sqrt();
            }
        }
    }
    let scores: Vec<f32> = measured.iter().map(|row| logit(&weights, *row)).collect();
    let labels: Vec<bool> = measured.iter().map(|row| labels[*row]).collect();
    let area = auc(&scores, &labels).ok()?;
    let (low, high) = area.ci95().ok()?;
    Some((area.value, [low, high]))
}

/// The same in every process.
fn hashed(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn rows(ids: &[u32]) -> Rows {
        let slots = ids.iter().map(|id| (hashed(&id) % SLOTS as u64) as u32).collect();
        Rows { offsets: (0..=ids.len()).collect(), slots }
    }

    #[test]
    fn what_ids_tell_is_found_and_nothing_is_not() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let ids: Vec<u32> = (0..20_000).map(|_| rng.random_range(0..50)).collect();
        let labels: Vec<bool> =
            ids.iter().map(|id| rng.random::<f64>() < if id % 2 == 0 { 0.4 } else { 0.1 }).collect();
        let chance: Vec<bool> = ids.iter().map(|_| rng.random::<f64>() < 0.25).collect();
        let order: Vec<usize> = (0..ids.len()).collect();
        let (learned, measured) = order.split_at(16_000);
        // Of a pair of an event and a row without one, where half of the rows have a rate of 0.4 and half of 0.1: the event
        // is of the better half 4 times in 5, the other row 2 times in 5; ties count half.
        let expected = 0.8 * 0.6 + 0.5 * (0.8 * 0.4 + 0.2 * 0.6);
        let (auc, [low, high]) = tried(&rows(&ids), &labels, learned, measured).unwrap();
        assert!((auc - expected).abs() < 0.02 && low < auc && auc < high, "{auc}, expected {expected}");
        let (auc, [low, high]) = tried(&rows(&ids), &chance, learned, measured).unwrap();
        assert!(low < 0.5 && 0.5 < high, "{auc}");
        assert_eq!(tried(&rows(&ids), &[false; 20_000], learned, measured), None);
    }
}
