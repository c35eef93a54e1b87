//! Means over rows that do not count alike.
//!
//! The kernels of the loss know one mean over all rows. They are used as they are: scaling the gradient of a row's logits by
//! its weight, without changing their values, scales what the row adds to the gradient of every weight. The value of the
//! mean is computed beside it. Rows that all count once never come here.

use burn::tensor::{Tensor, TensorData};
use esmm_core::{EsmmBackend, FunnelLogits};
use esmm_data::RowCounts;

/// What each row counts in the mean of a task: B in all, or nothing where no row counts for it.
fn shares(rows: usize, weight: impl Fn(usize) -> f32) -> Vec<f32> {
    let weights: Vec<f64> = (0..rows).map(|row| f64::from(weight(row))).collect();
    let sum: f64 = weights.iter().sum();
    let share = |weight: f64| if sum > 0.0 { (weight * rows as f64 / sum) as f32 } else { 0.0 };
    weights.into_iter().map(share).collect()
}

/// Mean cross-entropy of reaching each stage, weighted, `[K]`. A task for which no row counts is 0.
pub(super) fn weighted_losses<B: EsmmBackend>(
    logits: &FunnelLogits<B>,
    reached: Tensor<B, 2>,
    counts: &RowCounts,
) -> Tensor<B, 1> {
    let [rows, stages] = logits.conditional.dims();
    let device = logits.conditional.device();
    let weight = |row: usize| counts.weight.as_ref().map_or(1.0, |weights| weights[row]);
    let first = shares(rows, weight);
    // The later stages have other rows where the outcome of some is open.
    let later = counts.open.as_ref();
    let later = later.map(|open| shares(rows, |row| if open[row] { 0.0 } else { weight(row) }));
    let of_stage = |stage: usize| later.as_ref().filter(|_| stage > 0).unwrap_or(&first);
    let cells: Vec<f32> = (0..rows * stages).map(|cell| of_stage(cell % stages)[cell / stages]).collect();
    let cells = Tensor::<B, 2>::from_data(TensorData::new(cells, [rows, stages]), &device);
    let logs = FunnelLogits { conditional: logits.conditional.clone().detach() }.reach_logs();
    let missed = reached.clone().neg() + 1.0;
    let losses = (reached.clone() * logs.log_reach + missed * logs.log_not_reach).neg();
    let value = (losses * cells).mean_dim(0).squeeze_dim::<1>(0);

    let slope = scaled(logits, &first).losses(reached.clone());
    let slope = match &later {
        None => slope,
        Some(later) => {
            let others = scaled(logits, later).losses(reached);
            Tensor::cat(vec![slope.slice(0..1), others.slice(1..stages)], 0)
        }
    };
    slope.clone() - slope.detach() + value
}

/// The same logits, whose gradient is multiplied by a share of each row.
fn scaled<B: EsmmBackend>(logits: &FunnelLogits<B>, shares: &[f32]) -> FunnelLogits<B> {
    let device = logits.conditional.device();
    let shares = TensorData::new(shares.to_vec(), [shares.len(), 1]);
    let product = logits.conditional.clone() * Tensor::<B, 2>::from_data(shares, &device);
    FunnelLogits { conditional: product.clone() - product.detach() + logits.conditional.clone().detach() }
}

#[cfg(test)]
mod tests {
    use burn::backend::Autodiff;
    use burn_ndarray::NdArray;

    use super::*;
    use crate::learner::EsmmLoss;

    type Plain = NdArray;
    type Auto = Autodiff<NdArray>;

    const LOGITS: [f32; 12] = [0.5, -1.0, 2.0, -2.0, 0.25, 1.5, 1.0, 1.0, -0.5, 0.0, -3.0, 0.75];
    const DEPTH: [u8; 4] = [1, 0, 3, 2];

    /// Value of each task, the gradient of their sum by the logits.
    fn loss(logits: &[f32], depth: &[u8], counts: &RowCounts, loss: &EsmmLoss) -> (Vec<f64>, Vec<f64>) {
        let device = Default::default();
        let rows = depth.len();
        let data = TensorData::new(logits.to_vec(), [rows, 3]);
        let leaf = Tensor::<Auto, 2>::from_data(data, &device).require_grad();
        let reached: Vec<f32> = depth
            .iter()
            .flat_map(|depth| (0..3).map(move |stage| f32::from(u8::from(*depth > stage))))
            .collect();
        let reached = Tensor::<Auto, 2>::from_data(TensorData::new(reached, [rows, 3]), &device);
        let found = loss.of_rows(&FunnelLogits { conditional: leaf.clone() }, reached, counts);
        let grads = found.backward();
        let values = |data: TensorData| data.iter::<f64>().collect();
        let gradient: Tensor<Plain, 2> = leaf.grad(&grads).unwrap();
        (values(found.tasks.into_data()), values(gradient.into_data()))
    }

    fn near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found}, {expected}");
        }
    }

    fn repeat(copies: &[usize]) -> (Vec<f32>, Vec<u8>) {
        let logits = LOGITS.chunks(3).zip(copies).flat_map(|(row, copies)| row.repeat(*copies));
        (
            logits.collect(),
            DEPTH.iter().zip(copies).flat_map(|(depth, copies)| vec![*depth; *copies]).collect(),
        )
    }

    /// The value, and for each row the gradient of all of its copies together.
    fn of_copies(copies: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let (logits, depth) = repeat(copies);
        let (value, all) = loss(&logits, &depth, &RowCounts::default(), &EsmmLoss::new(3));
        let (mut gradient, mut next) = (Vec::new(), all.chunks(3));
        for copies in copies {
            let mut sum = [0.0; 3];
            for row in next.by_ref().take(*copies) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            gradient.extend(sum);
        }
        (value, gradient)
    }

    #[test]
    fn weights_are_copies_in_value_and_gradient() {
        for copies in [[2, 2, 2, 2], [2, 1, 3, 1], [0, 1, 2, 0], [1, 0, 0, 0]] {
            let weight = Some(copies.map(|copies| copies as f32).to_vec());
            let counts = RowCounts { weight, ..RowCounts::default() };
            let found = loss(&LOGITS, &DEPTH, &counts, &EsmmLoss::new(3));
            let expected = of_copies(&copies);
            near(&found.0, &expected.0);
            near(&found.1, &expected.1);
        }
    }

    #[test]
    fn weights_of_one_change_no_bit_of_the_gradient() {
        let counts = RowCounts { weight: Some(vec![1.0; 4]), ..RowCounts::default() };
        let one = loss(&LOGITS, &DEPTH, &counts, &EsmmLoss::new(3));
        let plain = loss(&LOGITS, &DEPTH, &RowCounts::default(), &EsmmLoss::new(3));
        assert_eq!(one.1, plain.1);
        near(&one.0, &plain.0);
    }

    #[test]
    fn no_weight_at_all_is_no_loss() {
        let counts = RowCounts { weight: Some(vec![0.0; 4]), ..RowCounts::default() };
        let (value, gradient) = loss(&LOGITS, &DEPTH, &counts, &EsmmLoss::new(3));
        assert!(value.iter().chain(&gradient).all(|value| *value == 0.0), "{value:?}, {gradient:?}");
    }

    /// Open rows are in the mean of the first stage, and in no other.
    #[test]
    fn open_rows_count_for_the_first_stage_only() {
        let open = [false, true, true, false];
        let weight = [1.0_f32, 2.0, 1.0, 3.0];
        let counts =
            RowCounts { weight: Some(weight.to_vec()), open: Some(open.to_vec()), negative_rate: None };
        let tasks = |weights: [f64; 3]| EsmmLoss { task_weights: weights.to_vec(), negative_rate: None };
        let with = |weights: &[f32], task_weights| {
            let counts = RowCounts { weight: Some(weights.to_vec()), ..RowCounts::default() };
            loss(&LOGITS, &DEPTH, &counts, &tasks(task_weights))
        };
        let found = loss(&LOGITS, &DEPTH, &counts, &tasks([1.0; 3]));
        let first = with(&weight, [1.0, 0.0, 0.0]);
        let others = with(&[1.0, 0.0, 0.0, 3.0], [0.0, 1.0, 1.0]);
        near(&found.0, &[first.0[0], others.0[1], others.0[2]]);
        let sum: Vec<f64> = first.1.iter().zip(&others.1).map(|(first, other)| first + other).collect();
        near(&found.1, &sum);
    }

    /// A rate for each row is the same as one for all where they are alike.
    #[test]
    fn rates_of_rows_raise_the_logit_of_a_click() {
        let rate = esmm_run::config::NegativeRate::new(0.25).unwrap();
        let constant = EsmmLoss { negative_rate: rate, ..EsmmLoss::new(3) };
        let counts = RowCounts { negative_rate: Some(vec![0.25; 4]), ..RowCounts::default() };
        let found = loss(&LOGITS, &DEPTH, &counts, &EsmmLoss::new(3));
        assert_eq!(found, loss(&LOGITS, &DEPTH, &RowCounts::default(), &constant));
        let rates = [0.25_f32, 1.0, 0.5, 0.1];
        let raised: Vec<f32> = LOGITS
            .iter()
            .enumerate()
            .map(
                |(cell, logit)| {
                    if cell % 3 == 0 { logit - f64::from(rates[cell / 3]).ln() as f32 } else { *logit }
                },
            )
            .collect();
        let counts = RowCounts { negative_rate: Some(rates.to_vec()), ..RowCounts::default() };
        let found = loss(&LOGITS, &DEPTH, &counts, &EsmmLoss::new(3));
        assert_eq!(found, loss(&raised, &DEPTH, &RowCounts::default(), &EsmmLoss::new(3)));
    }
}
