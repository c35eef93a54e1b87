//! Row-wise optimizers: they change the rows that a batch touched, in place, and no other.

use burn::module::Module;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use esmm_core::backend::{Kernels, RowUpdate, WithMoments};
use esmm_core::{EmbeddingArena, EsmmBackend, PooledGrads, RowGrads, StateTensor, TableGrads, TrainBackend};
use esmm_run::config::TableOptimizerConfig;

/// A row-wise optimizer with its state, which records save with the model.
#[derive(Module, Debug)]
pub struct TableOptimizer<B: Backend> {
    moments: Vec<StateTensor<B, 2>>,
    #[module(skip)]
    config: TableOptimizerConfig,
}

impl<B: Backend> TableOptimizer<B> {
    /// The optimizer of an arena, its state zero.
    pub fn new(config: &TableOptimizerConfig, arena: &EmbeddingArena<B>) -> Self {
        let table = arena.table.value();
        let ([rows, dim], device) = (table.dims(), table.device());
        let zeros = |width| StateTensor::new(Tensor::zeros([rows, width], &device));
        let moments = config.rule.widths(dim).into_iter().map(zeros).collect();
        Self { moments, config: *config }
    }
}

impl<B: Backend> TableOptimizer<B> {
    /// Another handle to this very state.
    pub(crate) fn share(&self) -> Self {
        Self { moments: self.moments.iter().map(StateTensor::share).collect(), config: self.config }
    }

    /// Gives the state up in favour of a copy.
    pub(crate) fn hand_over(&self, copy: &Self) {
        for (own, other) in self.moments.iter().zip(&copy.moments) {
            own.hand_over(other);
        }
    }
}

impl<B: TrainBackend> TableOptimizer<B> {
    /// Applies the gradients of touched rows to the arena; `step` counts from 1, `learning_rate` is the towers'.
    pub fn step(
        &self,
        arena: &EmbeddingArena<B>,
        grads: TableGrads<B::InnerBackend>,
        learning_rate: f64,
        step: u64,
    ) {
        let learning_rate = learning_rate * self.config.learning_rate_ratio;
        let update = RowUpdate { rule: self.config.rule, step, learning_rate, l2: self.config.l2 };
        let state = WithMoments {
            tensor: inner(arena.table.take()),
            moments: self.moments.iter().map(|moment| inner(moment.take())).collect(),
        };
        let state = match grads {
            TableGrads::Rows(RowGrads { rows, grads }) => {
                let grads = grads.into_primitive().tensor();
                <B::InnerBackend as EsmmBackend>::Kernels::update_rows(state, rows, grads, update)
            }
            TableGrads::Pooled(PooledGrads { bags, grads, num_rows: _ }) => {
                let grads = grads.map(|grads| grads.into_primitive().tensor());
                <B::InnerBackend as EsmmBackend>::Kernels::update_pooled(state, *bags, grads, update)
            }
        };
        arena.table.put(outer(state.tensor));
        for (moment, value) in self.moments.iter().zip(state.moments) {
            moment.put(outer(value));
        }
    }
}

fn inner<B: AutodiffBackend>(tensor: Tensor<B, 2>) -> FloatTensor<B::InnerBackend> {
    tensor.inner().into_primitive().tensor()
}

fn outer<B: AutodiffBackend>(primitive: FloatTensor<B::InnerBackend>) -> Tensor<B, 2> {
    Tensor::from_inner(Tensor::from_primitive(TensorPrimitive::Float(primitive)))
}
