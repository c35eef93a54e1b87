//! Updates of touched rows, in place.

use std::ops::Range;

use multiversion::multiversion;

use super::tasks;
use super::work::{AHEAD, prefetch};
use crate::backend::rows::bias_correction;
use crate::backend::{RowUpdate, TableRule};

/// Touched rows that make a task worth its start.
const ROWS: usize = 512;
/// One row in this many decides where bands end.
const SAMPLE: usize = 16;

/// Tables of one height that change together: the table itself, then its moments.
struct Band<'a> {
    /// The rows of the tables that this task owns.
    range: Range<usize>,
    tables: Vec<&'a mut [f32]>,
}

/// Changes the rows `rows` of `tables` (table, then moments), each of the width in `widths`.
///
/// Tasks own bands of consecutive table rows, so no two write to the same row, and each row changes by itself: the
/// bands do not show in the result.
///
/// # Panics
/// When the rule keeps other moments.
pub(super) fn update(
    tables: Vec<&mut [f32]>,
    widths: &[usize],
    rows: &[u32],
    grads: &[f32],
    update: &RowUpdate,
) {
    let dim = widths[0];
    let expected: Vec<usize> = std::iter::once(dim).chain(update.rule.widths(dim)).collect();
    assert_eq!(widths, expected, "widths of a table and of what {:?} keeps", update.rule);
    let height = tables[0].len() / dim;
    let step = Step::new(update);
    let bands = bands(tables, widths, &boundaries(rows, height));
    tasks::each("update of touched rows", bands, |band| update_band(band, widths, rows, grads, step));
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
fn update_band(mut band: Band<'_>, widths: &[usize], rows: &[u32], grads: &[f32], step: Step) {
    for (index, (&row, grad)) in rows.iter().zip(grads.chunks_exact(widths[0])).enumerate() {
        let ahead = rows.get(index + AHEAD).map(|&row| row as usize);
        if let Some(row) = ahead.filter(|row| band.range.contains(row)) {
            for (table, width) in band.tables.iter().zip(widths) {
                prefetch(table, (row - band.range.start) * width, *width);
            }
        }
        let row = row as usize;
        if band.range.contains(&row) {
            step.apply(&mut band.tables, widths, row - band.range.start, grad);
        }
    }
}

/// Table rows at which bands end, so that each has about as many touched rows, as a sample of them tells.
fn boundaries(rows: &[u32], height: usize) -> Vec<usize> {
    let tasks = (rows.len() / ROWS).clamp(1, 2 * rayon::current_num_threads());
    let mut sample: Vec<u32> = rows.iter().copied().step_by(SAMPLE).collect();
    sample.sort_unstable();
    let inner = (1..tasks).map(|task| sample[task * sample.len() / tasks] as usize);
    inner.chain([height]).collect()
}

fn bands<'a>(tables: Vec<&'a mut [f32]>, widths: &[usize], ends: &[usize]) -> Vec<Band<'a>> {
    let mut rest = tables;
    let mut start = 0;
    let mut bands = Vec::with_capacity(ends.len());
    for &end in ends {
        let cut = |(table, width): (&'a mut [f32], &usize)| table.split_at_mut((end - start) * width);
        let (tables, after) = rest.into_iter().zip(widths).map(cut).unzip();
        bands.push(Band { range: start..end, tables });
        (rest, start) = (after, end);
    }
    bands
}

/// A [`RowUpdate`] in f32, with what all rows have in common worked out.
#[derive(Debug, Clone, Copy)]
enum Step {
    Sgd { rate: f32, l2: f32 },
    Adagrad { rate: f32, l2: f32, epsilon: f32 },
    LazyAdam(Adam),
    RowWiseAdam(Adam),
}

/// Constants of Adam: `rate` with the bias corrections; `take_1` and `take_2` are 1 - beta.
#[derive(Debug, Clone, Copy)]
struct Adam {
    rate: f32,
    l2: f32,
    epsilon: f32,
    take_1: f32,
    take_2: f32,
}

impl Step {
    fn new(update: &RowUpdate) -> Self {
        let rate = update.learning_rate as f32;
        let l2 = update.l2 as f32;
        let adam = |beta_1: f64, beta_2: f64, epsilon: f64| Adam {
            rate: (update.learning_rate * bias_correction(beta_1, beta_2, update.step)) as f32,
            l2,
            epsilon: epsilon as f32,
            take_1: (1.0 - beta_1) as f32,
            take_2: (1.0 - beta_2) as f32,
        };
        match update.rule {
            TableRule::Sgd => Self::Sgd { rate, l2 },
            TableRule::Adagrad { epsilon } => Self::Adagrad { rate, l2, epsilon: epsilon as f32 },
            TableRule::LazyAdam { beta_1, beta_2, epsilon } => Self::LazyAdam(adam(beta_1, beta_2, epsilon)),
            TableRule::RowWiseAdam { beta_1, beta_2, epsilon } => {
                Self::RowWiseAdam(adam(beta_1, beta_2, epsilon))
            }
        }
    }

    /// Changes one row. `tables` were counted by [`update`].
    #[inline(always)]
    fn apply(self, tables: &mut [&mut [f32]], widths: &[usize], row: usize, grad: &[f32]) {
        let dim = grad.len();
        let Some((table, moments)) = tables.split_first_mut() else { return };
        let weights = &mut table[row * dim..][..dim];
        match self {
            Self::Sgd { rate, l2 } => {
                for (w, g) in weights.iter_mut().zip(grad) {
                    *w -= rate * (g + l2 * *w);
                }
            }
            Self::Adagrad { rate, l2, epsilon } => {
                let squares = sum_of_squares(weights, grad, l2);
                let sum = &mut moments[0][row * widths[1]];
                *sum += squares / dim as f32;
                let rate = rate / (sum.sqrt() + epsilon);
                for (w, g) in weights.iter_mut().zip(grad) {
                    *w -= rate * (g + l2 * *w);
                }
            }
            Self::RowWiseAdam(Adam { rate, l2, epsilon, take_1, take_2 }) => {
                let squares = sum_of_squares(weights, grad, l2);
                let second = &mut moments[1][row * widths[2]];
                *second += (squares / dim as f32 - *second) * take_2;
                let rate = rate / (second.sqrt() + epsilon);
                for ((w, g), m) in weights.iter_mut().zip(grad).zip(&mut moments[0][row * dim..][..dim]) {
                    *m += (g + l2 * *w - *m) * take_1;
                    *w -= *m * rate;
                }
            }
            Self::LazyAdam(Adam { rate, l2, epsilon, take_1, take_2 }) => {
                let [first, second, ..] = moments else { return };
                let moments = first[row * dim..][..dim].iter_mut().zip(&mut second[row * dim..][..dim]);
                for ((w, g), (m, v)) in weights.iter_mut().zip(grad).zip(moments) {
                    let g = g + l2 * *w;
                    *m += (g - *m) * take_1;
                    *v += (g * g - *v) * take_2;
                    *w -= *m * rate / (v.sqrt() + epsilon);
                }
            }
        }
    }
}

#[inline(always)]
fn sum_of_squares(weights: &[f32], grad: &[f32], l2: f32) -> f32 {
    weights.iter().zip(grad).map(|(w, g)| (g + l2 * w) * (g + l2 * w)).sum()
}
