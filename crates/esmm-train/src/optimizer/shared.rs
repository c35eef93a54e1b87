//! An optimizer with a second handle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::AutodiffModule;
use burn::optim::{GradientsParams, MultiGradientsParams, Optimizer};
use esmm_core::TrainBackend;
use esmm_run::config::TowerOptimizerConfig;

use super::towers::TowerOptimizer;

/// A [`TowerOptimizer`] with a second handle: Burn's Learner owns one and hides it, checkpoints read the other.
#[derive(Clone)]
pub struct SharedOptimizer<M, B>(Arc<Mutex<TowerOptimizer<M, B>>>)
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
        Self(Arc::new(Mutex::new(TowerOptimizer::new(config))))
    }

    fn lock(&self) -> MutexGuard<'_, TowerOptimizer<M, B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M, B> Optimizer<M, B> for SharedOptimizer<M, B>
where
    M: AutodiffModule<B>,
    B: TrainBackend,
{
    type Record = <TowerOptimizer<M, B> as Optimizer<M, B>>::Record;

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
