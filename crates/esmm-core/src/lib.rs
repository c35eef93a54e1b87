//! ESMM, the entire space multi-task model, as a [Burn](burn) module.
//!
//! Two towers on shared embeddings predict pCTR and pCVR; the loss is on what every impression has a label for, click
//! and click-and-conversion, with pCTCVR = pCTR x pCVR (Ma et al., "Entire Space Multi-Task Model", SIGIR'18,
//! arXiv 1804.07931). This crate is the model alone: no files of data, no training loop, no command line.
//!
//! # Letters of shapes
//! B rows of a batch, F sparse features, V dense features, D width of an embedding, K stages of the funnel (2: click, conversion),
//! U distinct table rows that a batch touches, N ids of a batch, R rows of all tables, H width of a hidden layer,
//! T copies of the tables (1, or K where each tower has its own).
//!
//! # From ids to three probabilities
//! ```
//! use burn_ndarray::NdArray;
//! use esmm_core::{BatchInput, EsmmConfig, Feature, FeatureBatch, FeatureSchema, Side, SparseInput};
//!
//! # fn main() -> Result<(), esmm_core::EsmmError> {
//! let schema = FeatureSchema::new(vec![
//!     Feature::sparse("user", Side::User, 1000),
//!     Feature::sparse("item", Side::Item, 500),
//!     Feature::dense("price", Side::Item),
//! ])?;
//! let device = Default::default();
//! let model = EsmmConfig::new(schema.clone()).init::<NdArray>(&device)?;
//!
//! let sparse = [SparseInput::Single(&[17, 4]), SparseInput::Single(&[3, 3])];
//! let input = BatchInput { rows: 2, sparse: &sparse, dense: &[&[0.5, 1.2]], groups: None };
//! let probs = model.forward(&FeatureBatch::new(&schema, input, &device)?).probs();
//! assert_eq!(probs.ctcvr.dims(), [2]);
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

pub mod backend;
mod batch;
mod batch_builder;
mod batch_columns;
mod batch_input;
mod embedding;
mod error;
mod esmm;
mod funnel;
mod init;
mod interop;
mod notebook;
mod placed_ids;
mod precision;
mod row_numbers;
mod schema;
mod stacked;
mod state;
mod state_dict;
mod summary;
mod table_grads;
mod tower;

pub use backend::random::DropoutKey;
pub use backend::{EsmmBackend, Indices, TableRule, TrainBackend};
pub use batch::{FeatureBatch, HostBatch};
pub use batch_builder::BatchBuilder;
pub use batch_input::{BatchInput, RowGroups, SparseInput};
pub use embedding::{EmbeddingArena, EmbeddingArenaConfig, TouchedRows};
pub use error::EsmmError;
pub use esmm::{Esmm, EsmmConfig, MOST_WIDE, TrainForward};
pub use funnel::{FunnelLogits, FunnelProbs, ReachLogs};
pub use notebook::{NotebookConfig, NotebookFeature};
pub use precision::Precision;
pub use schema::{DenseFeature, Feature, FeatureSchema, Pooling, RowRange, Side, SparseFeature};
pub use stacked::{StackedBatchNorm, StackedLinear};
pub use state::StateTensor;
pub use state_dict::StateDict;
pub use summary::{LayerSummary, ModelSummary, one_line};
pub use table_grads::{PooledGrads, RowGrads, TableGrads};
pub use tower::{Activation, TowerLayer, Towers, TowersConfig};
