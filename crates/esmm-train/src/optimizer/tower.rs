//! Adam, AdamW and SGD of the towers, chosen when the program runs; Burn's optimizer around them keeps the states.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{GradientsParams, MultiGradientsParams, Optimizer, SimpleOptimizer};
use burn::record::Record;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorPrimitive};
use esmm_core::backend::{Kernels, WeightRule, WeightUpdate, WithMoments};
use esmm_core::{EsmmBackend, TrainBackend};
use esmm_run::config::TowerOptimizerConfig;

/// The rule of a [`TowerOptimizerConfig`], for one tensor at a time.
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

    fn update(&self, learning_rate: f64, step: u64) -> WeightUpdate {
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
        let steps = state.as_ref().map_or(0, |state| state.steps) + 1;
        let update = self.update(lr, steps as u64);
        let moments =
            state.map_or_else(|| vec![tensor.zeros_like(); update.rule.num_moments()], |state| state.moments);
        let state =
            WithMoments { tensor: primitive(tensor), moments: moments.into_iter().map(primitive).collect() };
        let state = B::Kernels::update_weights(state, primitive(grad), update);
        let moments = state.moments.into_iter().map(float).collect();
        (float(state.tensor), Some(TowerRuleState { steps, moments }))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &B::Device) -> Self::State<D> {
        let moments = state.moments.into_iter().map(|moment| moment.to_device(device)).collect();
        TowerRuleState { moments, ..state }
    }
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

fn float<B: Backend, const D: usize>(primitive: B::FloatTensorPrimitive) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

type Adaptor<M, B> = OptimizerAdaptor<TowerRule, M, B>;

/// An optimizer with a second handle: Burn's Learner owns one and hides it, checkpoints read the other.
#[derive(Clone)]
pub struct SharedOptimizer<M, B>(Arc<Mutex<Adaptor<M, B>>>)
where
    M: AutodiffModule<B>,
    B: TrainBackend;

impl<M, B> SharedOptimizer<M, B>
where
    M: AutodiffModule<B>,
    B: TrainBackend,
{
    /// Builds the optimizer.
    pub fn new(config: &TowerOptimizerConfig) -> Self {
        Self(Arc::new(Mutex::new(OptimizerAdaptor::from(TowerRule::new(config)))))
    }

    fn lock(&self) -> MutexGuard<'_, Adaptor<M, B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M, B> Optimizer<M, B> for SharedOptimizer<M, B>
where
    M: AutodiffModule<B>,
    B: TrainBackend,
{
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
