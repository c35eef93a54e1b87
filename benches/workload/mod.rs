//! The workloads of the benches: three models, their random data, and a step of training or inference on any backend.
//!
//! A step starts from columns of raw ids, dense values and labels in host memory, so building the batch counts.

mod data;
mod feed;
mod step;

pub(crate) use data::{RawBatch, raw_batches};
pub(crate) use feed::Feed;
pub(crate) use step::{Inference, Rows, Training};

use esmm_core::{Activation, EsmmConfig, Feature, FeatureSchema, Side, TowersConfig};

/// A model and the batches that it works on.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// Rows of each feature's table.
    pub(crate) tables: Vec<u32>,
    /// Width of an embedding.
    pub(crate) dim: usize,
    /// Dense features.
    pub(crate) dense: usize,
    /// Widths of the hidden layers, each with a batch norm.
    pub(crate) hidden: Vec<usize>,
    /// Activation of the hidden layers.
    pub(crate) activation: Activation,
    /// Dropout of the hidden layers.
    pub(crate) dropout: f64,
    /// Rows of a batch.
    pub(crate) batch: usize,
}

impl Workload {
    /// The model of the PyTorch notebook.
    pub(crate) fn notebook() -> Self {
        Self {
            name: "notebook",
            tables: vec![10_000, 1_000, 50_000, 500],
            dim: 128,
            dense: 2,
            hidden: vec![128, 64],
            activation: Activation::None,
            dropout: 0.5,
            batch: 4096,
        }
    }

    /// The size of the paper's dataset: many features, wide towers.
    pub(crate) fn aliccp() -> Self {
        let tables = vec![
            240_000, 100, 15, 3, 8, 4, 3, 3, 6, 460_000, 7_000, 260_000, 90_000, 50, 110_000, 60_000, 35_000,
            12_000, 5_000, 400, 100, 20_000, 3_000,
        ];
        Self {
            name: "aliccp",
            tables,
            dim: 18,
            dense: 0,
            hidden: vec![360, 200, 80],
            activation: Activation::Relu,
            dropout: 0.0,
            batch: 2048,
        }
    }

    /// Eight million rows and small towers.
    pub(crate) fn bigtable() -> Self {
        Self {
            name: "bigtable",
            tables: vec![5_000_000, 2_000_000, 1_000_000, 100_000, 1_000, 100],
            dim: 16,
            dense: 0,
            hidden: vec![128, 64],
            activation: Activation::Relu,
            dropout: 0.0,
            batch: 2048,
        }
    }

    /// All three.
    pub(crate) fn all() -> Vec<Self> {
        vec![Self::notebook(), Self::aliccp(), Self::bigtable()]
    }

    /// Multiplications and additions of the towers' matmuls for one row, forward.
    pub(crate) fn matmul_flops(&self) -> f64 {
        let mut width = self.tables.len() * self.dim + self.dense;
        let mut flops = 0;
        for &hidden in self.hidden.iter().chain(&[1]) {
            flops += 2 * 2 * width * hidden;
            width = hidden;
        }
        flops as f64
    }

    /// The features.
    pub(crate) fn schema(&self) -> FeatureSchema {
        let sparse = self.tables.iter().enumerate();
        let sparse =
            sparse.map(|(index, &rows)| Feature::sparse(format!("id{index}"), Side::User, rows as usize));
        let dense = (0..self.dense).map(|index| Feature::dense(format!("value{index}"), Side::Item));
        FeatureSchema::new(sparse.chain(dense).collect()).expect("the features are valid")
    }

    /// The model.
    pub(crate) fn config(&self) -> EsmmConfig {
        let towers = TowersConfig {
            hidden: self.hidden.clone(),
            activation: self.activation,
            batch_norm: true,
            dropout: vec![self.dropout; self.hidden.len()],
        };
        EsmmConfig { embedding_dim: self.dim, towers, ..EsmmConfig::new(self.schema()) }
    }
}
