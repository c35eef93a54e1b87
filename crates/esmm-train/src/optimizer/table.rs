//! Row-wise optimizers: they change the rows that a batch touched, in place, and no other.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{AutodiffModule, Content, Module, ModuleDisplay, ModuleDisplayDefault};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorPrimitive};
use esmm_core::backend::{RowRule, RowState, RowUpdate};
use esmm_core::{EmbeddingArena, EsmmBackend, RowGrads, StateTensor};
use esmm_run::config::{TableOptimizerConfig, TableRule};

/// A row-wise optimizer with its state, which records save with the model.
#[derive(Module, Debug)]
pub struct TableOptimizer<B: Backend> {
    moments: Vec<StateTensor<B, 2>>,
    pending: PendingRows<B>,
    #[module(skip)]
    config: TableOptimizerConfig,
}

impl<B: Backend> TableOptimizer<B> {
    /// The optimizer of an arena, its state zero.
    pub fn new(config: &TableOptimizerConfig, arena: &EmbeddingArena<B>) -> Self {
        let table = arena.table.value();
        let ([rows, dim], device) = (table.dims(), table.device());
        let widths: &[usize] = match config.rule {
            TableRule::Sgd => &[],
            TableRule::Adagrad { .. } => &[1],
            TableRule::LazyAdam { .. } => &[dim, dim],
            TableRule::RowWiseAdam { .. } => &[dim, 1],
        };
        let zeros = |&width| StateTensor::new(Tensor::zeros([rows, width], &device));
        let moments = widths.iter().map(zeros).collect();
        Self { moments, pending: PendingRows::default(), config: *config }
    }

    /// Keeps the gradients of a backward pass until [`step`](Self::step).
    pub fn register(&self, grads: RowGrads<B>) {
        *self.pending.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(grads);
    }
}

impl<B: EsmmBackend> TableOptimizer<B> {
    /// Applies the registered gradients to the arena; `step` counts from 1, `learning_rate` is the towers'.
    pub fn step(&self, arena: &EmbeddingArena<B>, learning_rate: f64, step: u64) {
        let pending = self.pending.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(RowGrads { rows, grads }) = pending else {
            return;
        };
        let rule = match self.config.rule {
            TableRule::Sgd => RowRule::Sgd,
            TableRule::Adagrad { epsilon } => RowRule::RowWiseAdagrad { epsilon },
            TableRule::LazyAdam { beta_1, beta_2, epsilon } => {
                RowRule::LazyAdam { beta_1, beta_2, epsilon, step }
            }
            TableRule::RowWiseAdam { beta_1, beta_2, epsilon } => {
                RowRule::RowWiseAdam { beta_1, beta_2, epsilon, step }
            }
        };
        let learning_rate = learning_rate * self.config.learning_rate_ratio;
        let update = RowUpdate { rule, learning_rate, l2: self.config.l2 };
        let state = RowState::<B> {
            table: primitive(arena.table.take()),
            moments: self.moments.iter().map(|moment| primitive(moment.take())).collect(),
        };
        let state = B::update_rows(state, rows.into_primitive(), primitive(grads), update);
        arena.table.put(tensor(state.table));
        for (moment, value) in self.moments.iter().zip(state.moments) {
            moment.put(tensor(value));
        }
    }
}

fn primitive<B: Backend>(tensor: Tensor<B, 2>) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

fn tensor<B: Backend>(primitive: B::FloatTensorPrimitive) -> Tensor<B, 2> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// Gradients on their way from the backward pass to the update; no part of a record.
#[derive(Debug, Clone)]
struct PendingRows<B: Backend>(Arc<Mutex<Option<RowGrads<B>>>>);

impl<B: Backend> Default for PendingRows<B> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }
}

impl<B: Backend> Module<B> for PendingRows<B> {
    burn::empty!(module);
}

impl<B: AutodiffBackend> AutodiffModule<B> for PendingRows<B> {
    type InnerModule = PendingRows<B::InnerBackend>;

    fn valid(&self) -> Self::InnerModule {
        PendingRows::default()
    }

    fn from_inner(_: Self::InnerModule) -> Self {
        Self::default()
    }
}

impl<B: Backend> fmt::Display for PendingRows<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingRows")
    }
}

impl<B: Backend> ModuleDisplayDefault for PendingRows<B> {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_string()).optional()
    }
}

impl<B: Backend> ModuleDisplay for PendingRows<B> {}
