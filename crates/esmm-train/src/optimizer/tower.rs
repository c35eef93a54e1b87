//! Adam, AdamW and SGD of the towers, chosen when the program runs, and what they keep for a tensor.

use burn::optim::SimpleOptimizer;
use burn::record::Record;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use esmm_core::EsmmBackend;
use esmm_core::backend::{Kernels, WeightRule, WeightUpdate, WithGrad, WithMoments};
use esmm_run::config::TowerOptimizerConfig;

/// The rule of a [`TowerOptimizerConfig`]. It is one of Burn's simple optimizers too, for one tensor at a time: records
/// are in its name, so that those of any version of this crate can be loaded.
#[derive(Debug, Clone, Copy)]
pub struct TowerRule {
    config: TowerOptimizerConfig,
}

/// What a rule keeps for one tensor.
#[derive(Record, Clone)]
pub struct TowerRuleState<B: Backend, const D: usize> {
    /// Steps done.
    pub steps: usize,
    /// The velocity of SGD, or the two moments of Adam.
    pub moments: Vec<Tensor<B, D>>,
}

impl TowerRule {
    /// The rule of a configuration.
    pub fn new(config: &TowerOptimizerConfig) -> Self {
        Self { config: *config }
    }

    pub(super) fn update(&self, learning_rate: f64, step: u64) -> WeightUpdate {
        let adam = |beta_1, beta_2, epsilon| WeightRule::Adam { beta_1, beta_2, epsilon };
        let (rule, l2, decay) = match self.config {
            TowerOptimizerConfig::Adam { beta_1, beta_2, epsilon, weight_decay } => {
                (adam(beta_1, beta_2, epsilon), weight_decay, 0.0)
            }
            TowerOptimizerConfig::AdamW { beta_1, beta_2, epsilon, weight_decay } => {
                (adam(beta_1, beta_2, epsilon), 0.0, weight_decay)
            }
            TowerOptimizerConfig::Sgd { momentum, weight_decay } => {
                (WeightRule::Sgd { momentum }, weight_decay, 0.0)
            }
        };
        WeightUpdate { rule, step, learning_rate, l2, decay }
    }
}

impl<B: EsmmBackend> SimpleOptimizer<B> for TowerRule {
    type State<const D: usize> = TowerRuleState<B, D>;

    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<B, D>,
        grad: Tensor<B, D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<B, D>, Option<Self::State<D>>) {
        let (weight, steps) = state_of(tensor, state, self);
        let weight = WithGrad { weight, grad: primitive(grad) };
        let mut updated = B::Kernels::update_weights(vec![weight], self.update(lr, steps as u64));
        let Some(WithMoments { tensor, moments }) = updated.pop() else {
            panic!("an update lost its weight")
        };
        let moments = moments.into_iter().map(float).collect();
        (float(tensor), Some(TowerRuleState { steps, moments }))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &B::Device) -> Self::State<D> {
        let moments = state.moments.into_iter().map(|moment| moment.to_device(device)).collect();
        TowerRuleState { moments, ..state }
    }
}

/// A weight with its moments, zero at first, and the number of the step that is to be done, from 1.
pub(super) fn state_of<B: Backend, const D: usize>(
    weight: Tensor<B, D>,
    state: Option<TowerRuleState<B, D>>,
    rule: &TowerRule,
) -> (WithMoments<FloatTensor<B>>, usize) {
    let steps = state.as_ref().map_or(0, |state| state.steps) + 1;
    let moments = match state {
        Some(state) => state.moments,
        None => vec![weight.zeros_like(); rule.update(0.0, 1).rule.num_moments()],
    };
    let moments = moments.into_iter().map(primitive).collect();
    (WithMoments { tensor: primitive(weight), moments }, steps)
}

pub(super) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

pub(super) fn float<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}
