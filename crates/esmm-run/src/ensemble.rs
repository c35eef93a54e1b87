//! The trained models of a run directory as one: of several the probabilities are averaged.
//!
//! With `P_k` the probability of reaching stage k, the mean over the models of each `P_k` is again a funnel. Its
//! conditional logit is `ln(mean P_k) - ln(mean (P_(k-1) - P_k))`, where `P_(k-1) - P_k = P_(k-1) s(-l_k)`: sums of terms of
//! one sign, so nothing cancels, whatever the rates. What follows sees one funnel and needs to know of no models.

use burn::tensor::backend::BackendTypes;
use burn::tensor::{Tensor, TensorData};
use esmm_core::{Esmm, EsmmBackend, EsmmConfig, FeatureBatch, FunnelLogits, StateDict};
use esmm_data::loader::EsmmBatch;

use crate::error::RunError;
use crate::evaluation::{HostScores, ScoreBatch};
use crate::run_dir::RunDir;

/// What becomes of the columns of predictions where several models score together: `pCTR and pCTCVR are averaged, pCVR is
/// the quotient`.
pub fn averaged(stages: &[String]) -> String {
    let [first @ .., last] = stages else { return String::new() };
    if first.len() == 1 {
        return "pCTR and pCTCVR are averaged, pCVR is the quotient".to_owned();
    }
    let first: Vec<String> = first.iter().map(|stage| format!("p_{stage}")).collect();
    format!("{} and p_{last} are averaged, the probabilities in between are quotients", first.join(", "))
}

/// One trained model, or several of different seeds whose pCTR and pCTCVR are averaged.
#[derive(Debug, Clone)]
pub struct Ensemble<B: EsmmBackend> {
    members: Vec<Esmm<B>>,
}

impl<B: EsmmBackend> Ensemble<B> {
    /// Loads the best weights of all `seeds` models of a run directory. `prefix` is taken off the names of the weights.
    ///
    /// # Errors
    /// Weights that are missing, damaged, not finite, or of another model; a prefix that no name has.
    pub fn load(
        config: &EsmmConfig,
        run: &RunDir,
        seeds: u64,
        prefix: Option<&str>,
        device: &<B as BackendTypes>::Device,
    ) -> Result<Self, RunError> {
        let mut members = Vec::new();
        for member in run.members(seeds) {
            let path = member.weights();
            if seeds > 1 && !path.exists() {
                let reason = "is not there: the training of its models is under way or was interrupted, and only all of \
                              them together score; go on with --resume";
                return Err(RunError::file(&path, reason));
            }
            let mut dict = StateDict::read(&path)?;
            if let Some(prefix) = prefix {
                dict = dict.strip_prefix(prefix)?;
            }
            members.push(config.init(device)?.load_state_dict(dict)?);
        }
        Ok(Self { members })
    }

    /// The models, in the order of their seeds.
    pub fn members(&self) -> &[Esmm<B>] {
        &self.members
    }

    /// Conditional logits of the mean funnel, `[B, K]`; of one model its own, to the bit.
    pub fn forward(&self, batch: &FeatureBatch<B>) -> FunnelLogits<B> {
        match self.members.as_slice() {
            [one] => one.forward(batch),
            members => {
                let logits: Vec<FunnelLogits<B>> =
                    members.iter().map(|member| member.forward(batch)).collect();
                average(&logits)
            }
        }
    }
}

impl<B: EsmmBackend> ScoreBatch<B> for Ensemble<B> {
    fn score(&self, batch: EsmmBatch<B>) -> HostScores {
        HostScores::new(&self.forward(&batch.features), batch.labels)
    }
}

/// The funnel whose reach probabilities are the means of those of some funnels, computed in f64.
fn average<B: EsmmBackend>(logits: &[FunnelLogits<B>]) -> FunnelLogits<B> {
    let [rows, stages] = logits[0].conditional.dims();
    let device = logits[0].conditional.device();
    let host: Vec<Vec<f32>> =
        logits.iter().map(|logits| logits.conditional.clone().into_data().iter::<f32>().collect()).collect();
    let mut mean = Vec::with_capacity(rows * stages);
    let mut log_reach = vec![0.0_f64; host.len()];
    let mut reached = vec![0.0_f64; host.len()];
    let mut missed = vec![0.0_f64; host.len()];
    for row in 0..rows {
        log_reach.fill(0.0);
        for stage in 0..stages {
            for (member, values) in host.iter().enumerate() {
                let logit = f64::from(values[row * stages + stage]);
                reached[member] = log_reach[member] + log_sigmoid(logit);
                missed[member] = log_reach[member] + log_sigmoid(-logit);
            }
            mean.push((log_sum(&reached) - log_sum(&missed)) as f32);
            log_reach.copy_from_slice(&reached);
        }
    }
    let data = TensorData::new(mean, [rows, stages]);
    FunnelLogits { conditional: Tensor::from_data(data, &device) }
}

/// `ln(1 / (1 + e^-x))`.
fn log_sigmoid(x: f64) -> f64 {
    match x >= 0.0 {
        true => -(-x).exp().ln_1p(),
        false => x - x.exp().ln_1p(),
    }
}

/// `ln(sum e^x)`; NaN where one is.
fn log_sum(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + values.iter().map(|value| (value - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use burn_ndarray::NdArray;

    use super::*;

    fn funnel(logits: &[[f32; 3]]) -> FunnelLogits<NdArray> {
        let values: Vec<f32> = logits.iter().flatten().copied().collect();
        let data = TensorData::new(values, [logits.len(), 3]);
        FunnelLogits { conditional: Tensor::from_data(data, &Default::default()) }
    }

    fn host(tensor: Tensor<NdArray, 2>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    fn sigmoid(logit: f32) -> f64 {
        1.0 / (1.0 + (-f64::from(logit)).exp())
    }

    #[test]
    fn every_reach_probability_is_the_mean() {
        let rows = [
            [[0.0_f32, 1.0, -2.0], [-3.0, 4.0, 0.5], [2.0, -1.0, 0.0]],
            [[-9.0, -8.0, -1.0], [-8.5, -9.5, 0.0], [-7.0, -7.5, 3.0]],
        ];
        let members: Vec<_> = (0..3).map(|member| funnel(&[rows[0][member], rows[1][member]])).collect();
        let found = host(average(&members).reach_probs());
        for (row, members) in rows.iter().enumerate() {
            for stage in 0..3 {
                let reach = |logits: &[f32; 3]| logits[..=stage].iter().map(|l| sigmoid(*l)).product::<f64>();
                let expected = members.iter().map(reach).sum::<f64>() / 3.0;
                let value = found[row * 3 + stage];
                assert!(
                    (value / expected - 1.0).abs() < 2e-6,
                    "row {row}, stage {stage}: {value} {expected}"
                );
            }
        }
    }

    #[test]
    fn equal_models_are_as_one_even_at_the_edges() {
        let logits = [[0.25_f32, -30.0, 60.0], [80.0, 80.0, -80.0]];
        let found = host(average(&[funnel(&logits), funnel(&logits)]).conditional);
        for (found, expected) in found.iter().zip(logits.iter().flatten()) {
            assert!(
                (found - f64::from(*expected)).abs() <= 1e-5 * f64::from(expected.abs()),
                "{found} {expected}"
            );
        }
    }

    #[test]
    fn nan_is_not_averaged_away() {
        let found = host(average(&[funnel(&[[0.0, f32::NAN, 0.0]]), funnel(&[[0.0; 3]])]).conditional);
        assert!(found[0] == 0.0 && found[1].is_nan() && found[2].is_nan(), "{found:?}");
    }
}
