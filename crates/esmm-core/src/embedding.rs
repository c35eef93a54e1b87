//! All embedding tables of a model in one tensor, and the rows of it that a batch touches.

use burn::module::Module;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorPrimitive, backend::Backend};
use rand_chacha::ChaCha8Rng;

use crate::backend::{EsmmBackend, Indices, InputBags, Kernels, Pooled};
use crate::batch::FeatureBatch;
use crate::init;
use crate::state::StateTensor;

/// Size and initial values of an [`EmbeddingArena`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddingArenaConfig {
    /// Rows of all tables together, R. A model without tables keeps one row.
    pub rows: usize,
    /// Width of an embedding, D.
    pub dim: usize,
    /// 1: the towers share the tables (ESMM). K: each tower has tables of its own (ESMM-NS).
    pub copies: usize,
    /// Standard deviation of the initial values, which are normal around 0.
    pub init_std: f64,
}

impl EmbeddingArenaConfig {
    /// The arena with its initial values.
    pub fn init<B: Backend>(&self, rng: &mut ChaCha8Rng, device: &B::Device) -> EmbeddingArena<B> {
        let rows = self.rows.max(1) * self.copies;
        let values = init::normal(rng, rows * self.dim, self.init_std);
        let table = Tensor::from_data(TensorData::new(values, [rows, self.dim]), device);
        EmbeddingArena { table: StateTensor::new(table), copies: self.copies }
    }
}

/// All tables of one width in one tensor, `[copies * R, D]`; features own ranges of its rows
/// ([`FeatureSchema::row_ranges`](crate::FeatureSchema::row_ranges)).
///
/// The tensor is no [`Param`](burn::module::Param): a training step takes the few rows that a batch touches as leaves
/// of the graph ([`TouchedRows`]) and a row-wise optimizer writes them back, so that a step costs what the batch costs
/// and not what the tables cost.
#[derive(Module, Debug)]
pub struct EmbeddingArena<B: Backend> {
    /// `[copies * R, D]`.
    pub table: StateTensor<B, 2>,
    copies: usize,
}

/// What one training batch reads of the arena: leaves of the graph, whose gradients are those of its rows.
#[derive(Debug, Clone)]
pub enum TouchedRows<B: Backend> {
    /// The rows that the batch touches, copied out.
    Gathered {
        /// Their numbers in the arena, each once, `[T * U]`.
        rows: Indices<B>,
        /// Their values, `[T * U, D]`.
        values: Tensor<B, 2>,
    },
    /// What was pooled from rows of the arena, where the device finds the distinct ones.
    Pooled {
        /// How it was pooled.
        bags: Box<InputBags<FloatTensor<B>, Indices<B>>>,
        /// `[T, B, own columns]`, and where groups share features `[T, G, shared columns]`.
        values: Pooled<Tensor<B, 3>>,
        /// Rows of one copy of the arena, R.
        num_rows: usize,
    },
}

impl<B: Backend> EmbeddingArena<B> {
    /// Width of an embedding, D.
    pub fn dim(&self) -> usize {
        self.table.value().dims()[1]
    }

    /// Rows of one copy of all tables, R.
    pub fn rows(&self) -> usize {
        self.table.value().dims()[0] / self.copies
    }

    /// Number of copies of all tables: 1, or one for each tower.
    pub fn copies(&self) -> usize {
        self.copies
    }
}

impl<B: EsmmBackend> EmbeddingArena<B> {
    /// Copies the rows that a batch touches; pools instead where the device finds the distinct rows of a batch itself.
    ///
    /// # Panics
    /// When the batch does not tell which rows are distinct and the device needs to be told: it was built for inference.
    pub fn gather(&self, batch: &FeatureBatch<B>) -> TouchedRows<B> {
        let table = self.table.value().into_primitive().tensor();
        let touched = match &batch.touched {
            Some(touched) => touched,
            // What stands for the rows of a batch without sparse features.
            None if B::FINDS_ROWS && batch.is_dense() => &batch.bags.own.slots,
            None if B::FINDS_ROWS => {
                let bags = batch.touched_bags(self.copies);
                let values = B::Kernels::pool(table, bags.clone());
                let values = values.map(|tensor| Tensor::from_primitive(TensorPrimitive::Float(tensor)));
                return TouchedRows::Pooled { bags: Box::new(bags), values, num_rows: self.rows() };
            }
            None => {
                panic!("a batch from `BatchBuilder::build_for_inference` cannot be trained on: use `build`")
            }
        };
        let rows = match self.copies {
            1 => touched.clone(),
            copies => {
                let stride = self.rows() as u32;
                let of_copy = |copy: u32| touched.host().iter().map(move |row| row + copy * stride);
                Indices::new((0..copies as u32).flat_map(of_copy).collect(), touched.device())
            }
        };
        let values = B::Kernels::gather_rows(table, rows.clone());
        TouchedRows::Gathered { rows, values: Tensor::from_primitive(TensorPrimitive::Float(values)) }
    }
}

impl<B: Backend> TouchedRows<B> {
    /// The same as new leaves of a graph.
    pub(crate) fn into_leaves(self) -> Self {
        match self {
            Self::Gathered { rows, values } => {
                Self::Gathered { rows, values: values.detach().require_grad() }
            }
            Self::Pooled { bags, values, num_rows } => {
                let values = values.map(|values| values.detach().require_grad());
                Self::Pooled { bags, values, num_rows }
            }
        }
    }
}
