//! Adam, AdamW and SGD of Burn behind one type, chosen when the program runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    Adam, AdamConfig, AdamState, AdamW, AdamWConfig, AdamWState, GradientsParams, MultiGradientsParams,
    Optimizer, Sgd, SgdConfig, SgdState, SimpleOptimizer,
};
use burn::record::Record;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};

/// The optimizer of the towers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "optimizer", rename_all = "lowercase")]
pub enum TowerOptimizerConfig {
    /// Adam; weight decay is added to the gradient.
    Adam {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// L2 penalty.
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Share of a weight that a learning rate of 1 would remove.
        weight_decay: f64,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Momentum, 0 for none.
        momentum: f64,
        /// L2 penalty.
        weight_decay: f64,
    },
}

/// One of Burn's optimizers.
#[derive(Clone)]
pub enum TowerRule<B: Backend> {
    /// Adam.
    Adam(Adam),
    /// AdamW.
    AdamW(AdamW),
    /// SGD.
    Sgd(Sgd<B>),
}

/// What a rule keeps for one tensor.
#[derive(Record, Clone)]
pub enum TowerRuleState<B: Backend, const D: usize> {
    /// Of Adam.
    Adam(AdamState<B, D>),
    /// Of AdamW.
    AdamW(AdamWState<B, D>),
    /// Of SGD.
    Sgd(SgdState<B, D>),
}

impl TowerOptimizerConfig {
    /// Builds the rule.
    pub fn build<B: Backend>(&self) -> TowerRule<B> {
        let penalty = |decay: f64| (decay > 0.0).then(|| WeightDecayConfig::new(decay as f32));
        match *self {
            Self::Adam { beta_1, beta_2, epsilon, weight_decay } => {
                let config = AdamConfig::new().with_beta_1(beta_1 as f32).with_beta_2(beta_2 as f32);
                let config = config.with_epsilon(epsilon as f32).with_weight_decay(penalty(weight_decay));
                TowerRule::Adam(config.build())
            }
            Self::AdamW { beta_1, beta_2, epsilon, weight_decay } => {
                let config = AdamWConfig::new().with_beta_1(beta_1 as f32).with_beta_2(beta_2 as f32);
                let config = config.with_epsilon(epsilon as f32).with_weight_decay(weight_decay as f32);
                TowerRule::AdamW(config.build())
            }
            Self::Sgd { momentum, weight_decay } => {
                let momentum = (momentum > 0.0)
                    .then(|| MomentumConfig::new().with_momentum(momentum).with_dampening(0.0));
                let config =
                    SgdConfig::new().with_momentum(momentum).with_weight_decay(penalty(weight_decay));
                TowerRule::Sgd(config.build())
            }
        }
    }
}

impl<B: Backend> SimpleOptimizer<B> for TowerRule<B> {
    type State<const D: usize> = TowerRuleState<B, D>;

    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<B, D>,
        grad: Tensor<B, D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<B, D>, Option<Self::State<D>>) {
        match self {
            Self::Adam(rule) => {
                let state =
                    state.and_then(
                        |state| {
                            if let TowerRuleState::Adam(state) = state { Some(state) } else { None }
                        },
                    );
                let (tensor, state) = rule.step(lr, tensor, grad, state);
                (tensor, state.map(TowerRuleState::Adam))
            }
            Self::AdamW(rule) => {
                let state =
                    state.and_then(
                        |state| {
                            if let TowerRuleState::AdamW(state) = state { Some(state) } else { None }
                        },
                    );
                let (tensor, state) = rule.step(lr, tensor, grad, state);
                (tensor, state.map(TowerRuleState::AdamW))
            }
            Self::Sgd(rule) => {
                let state =
                    state.and_then(
                        |state| {
                            if let TowerRuleState::Sgd(state) = state { Some(state) } else { None }
                        },
                    );
                let (tensor, state) = rule.step(lr, tensor, grad, state);
                (tensor, state.map(TowerRuleState::Sgd))
            }
        }
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &B::Device) -> Self::State<D> {
        match state {
            TowerRuleState::Adam(state) => {
                TowerRuleState::Adam(<Adam as SimpleOptimizer<B>>::to_device(state, device))
            }
            TowerRuleState::AdamW(state) => {
                TowerRuleState::AdamW(<AdamW as SimpleOptimizer<B>>::to_device(state, device))
            }
            TowerRuleState::Sgd(state) => TowerRuleState::Sgd(Sgd::<B>::to_device(state, device)),
        }
    }
}

type Adaptor<M, B> = OptimizerAdaptor<TowerRule<<B as AutodiffBackend>::InnerBackend>, M, B>;

/// An optimizer with a second handle: Burn's Learner owns one and hides it, checkpoints read the other.
#[derive(Clone)]
pub struct SharedOptimizer<M: AutodiffModule<B>, B: AutodiffBackend>(Arc<Mutex<Adaptor<M, B>>>);

impl<M: AutodiffModule<B>, B: AutodiffBackend> SharedOptimizer<M, B> {
    /// Builds the optimizer.
    pub fn new(config: &TowerOptimizerConfig) -> Self {
        Self(Arc::new(Mutex::new(OptimizerAdaptor::from(config.build()))))
    }

    fn lock(&self) -> MutexGuard<'_, Adaptor<M, B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: AutodiffModule<B>, B: AutodiffBackend> Optimizer<M, B> for SharedOptimizer<M, B> {
    type Record = <Adaptor<M, B> as Optimizer<M, B>>::Record;

    fn step(&mut self, lr: f64, module: M, grads: GradientsParams) -> M {
        self.lock().step(lr, module, grads)
    }

    fn step_multi(&mut self, lr: f64, module: M, grads: MultiGradientsParams) -> M {
        self.lock().step_multi(lr, module, grads)
    }

    fn to_record(&self) -> Self::Record {
        self.lock().to_record()
    }

    fn load_record(self, record: Self::Record) -> Self {
        let loaded = self.lock().clone().load_record(record);
        *self.lock() = loaded;
        self
    }
}
