//! The model: features to one logit a stage.

use std::sync::Arc;

use burn::module::{Module, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::backend::random::DropoutKey;
use crate::backend::{EsmmBackend, GroupedInput, InputBags, Kernels, Pooled, TrainBackend};
use crate::batch::FeatureBatch;
use crate::embedding::{EmbeddingArena, EmbeddingArenaConfig, TouchedRows};
use crate::error::EsmmError;
use crate::funnel::FunnelLogits;
use crate::precision::Precision;
use crate::schema::FeatureSchema;
use crate::tower::{Towers, TowersConfig};

/// Everything that fixes a model but its weights.
///
/// # Examples
/// ```
/// use burn_ndarray::NdArray;
/// use esmm_core::{Activation, EsmmConfig, Feature, FeatureSchema, Side, TowersConfig};
///
/// # fn main() -> Result<(), esmm_core::EsmmError> {
/// let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 1000)])?;
/// let towers = TowersConfig {
///     hidden: vec![64, 32],
///     activation: Activation::Relu,
///     batch_norm: true,
///     dropout: vec![0.1, 0.0],
/// };
/// // Impression, click, cart, purchase: three stages.
/// let config = EsmmConfig { embedding_dim: 8, towers, stages: 3, ..EsmmConfig::new(schema) };
/// let model = config.init::<NdArray>(&Default::default())?;
/// assert_eq!(model.embeddings.dim(), 8);
///
/// let wrong = EsmmConfig { stages: 1, ..config };
/// assert!(wrong.validate().is_err_and(|error| error.to_string().contains("at least 2 stages")));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EsmmConfig {
    /// The features.
    pub schema: FeatureSchema,
    /// Width of every embedding, D.
    pub embedding_dim: usize,
    /// Shape of every tower.
    pub towers: TowersConfig,
    /// Stages of the funnel, K: 2 for impression, click, conversion.
    pub stages: usize,
    /// `true`: the towers read the same tables (ESMM). `false`: each tower has its own (ESMM-NS in the paper).
    pub shared_embeddings: bool,
    /// Standard deviation of the initial embedding values.
    pub embedding_init_std: f64,
    /// Seed of the initial values.
    pub seed: u64,
}

/// The entire space multi-task model of arXiv 1804.07931.
///
/// # Examples
/// A step of training; what is done with the gradients is up to the caller.
/// ```
/// use burn::backend::Autodiff;
/// use burn::tensor::Tensor;
/// use burn_ndarray::NdArray;
/// use esmm_core::{
///     BatchInput, DropoutKey, EsmmConfig, Feature, FeatureBatch, FeatureSchema, Side, SparseInput,
/// };
///
/// # fn main() -> Result<(), esmm_core::EsmmError> {
/// let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 1000)])?;
/// let device = Default::default();
/// let model = EsmmConfig::new(schema.clone()).init::<Autodiff<NdArray>>(&device)?;
/// let sparse = [SparseInput::Single(&[17, 4, 17])];
/// let input = BatchInput { rows: 3, sparse: &sparse, dense: &[], groups: None };
/// let batch = FeatureBatch::new(&schema, input, &device)?;
///
/// let forward = model.forward_train(&batch, DropoutKey { seed: 1, step: 0 });
/// // A click and a conversion, a click, an impression alone.
/// let reached = Tensor::from_floats([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]], &device);
/// let mut grads = forward.logits.losses(reached).sum().backward();
/// // Two rows of the table were touched, and only they have a gradient.
/// let rows = forward.touched.take_grads(&mut grads).map(|grads| grads.into_rows());
/// assert_eq!(rows.map(|rows| (rows.rows.len(), rows.grads.dims())), Some((2, [2, 18])));
/// # Ok(())
/// # }
/// ```
#[derive(Module, Debug)]
pub struct Esmm<B: Backend> {
    /// All embedding tables.
    pub embeddings: EmbeddingArena<B>,
    /// One tower a stage.
    pub towers: Towers<B>,
    #[module(skip)]
    config: Arc<EsmmConfig>,
}

/// What forward returns in training: the logits, and the leaves whose gradients belong to the tables.
#[derive(Debug, Clone)]
pub struct TrainForward<B: Backend> {
    /// The logits.
    pub logits: FunnelLogits<B>,
    /// The touched rows.
    pub touched: TouchedRows<B>,
}

/// The widest embedding and hidden layer. Beyond it sizes would leave 64 bits.
pub const MOST_WIDE: usize = 1 << 20;

impl EsmmConfig {
    /// The paper's model for a schema: D = 18, hidden 360, 200, 80, ReLU, no batch norm, no dropout.
    pub fn new(schema: FeatureSchema) -> Self {
        let towers = TowersConfig {
            hidden: vec![360, 200, 80],
            activation: crate::tower::Activation::Relu,
            batch_norm: false,
            dropout: vec![0.0; 3],
        };
        let embedding_init_std = 0.01;
        let seed = 0;
        Self {
            schema,
            embedding_dim: 18,
            towers,
            stages: 2,
            shared_embeddings: true,
            embedding_init_std,
            seed,
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn validate(&self) -> Result<(), EsmmError> {
        let error =
            |key, found, allowed: &str| Err(EsmmError::Config { key, found, allowed: allowed.to_owned() });
        if !(1..=MOST_WIDE).contains(&self.embedding_dim) {
            let found = self.embedding_dim.to_string();
            return error("embedding_dim", found, "it must be at least 1 and at most 1048576");
        }
        if self.stages < 2 {
            return error("stages", self.stages.to_string(), "a funnel has at least 2 stages");
        }
        if self.stages > usize::from(u8::MAX) {
            return error("stages", self.stages.to_string(), "a funnel has at most 255 stages");
        }
        if !(self.embedding_init_std >= 0.0 && self.embedding_init_std.is_finite()) {
            return error(
                "embedding_init_std",
                self.embedding_init_std.to_string(),
                "it must be finite and at least 0",
            );
        }
        let rows = self.copies() as u64 * self.schema.num_rows() as u64;
        if rows > i32::MAX as u64 {
            return error("features", format!("{rows} table rows"), "at most 2147483647 rows fit one arena");
        }
        self.towers.validate()
    }

    /// The model with its initial values, which depend on the configuration alone.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> Result<Esmm<B>, EsmmError> {
        self.validate()?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let width = self.schema.input_width(self.embedding_dim);
        let towers = self.towers.init(self.stages, width, &mut rng, device);
        let arena = EmbeddingArenaConfig {
            rows: self.schema.num_rows(),
            dim: self.embedding_dim,
            copies: self.copies(),
            init_std: self.embedding_init_std,
        };
        Ok(Esmm { embeddings: arena.init(&mut rng, device), towers, config: Arc::new(self.clone()) })
    }

    /// Copies of every table: 1, or K without shared embeddings.
    pub fn copies(&self) -> usize {
        if self.shared_embeddings { 1 } else { self.stages }
    }
}

impl<B: EsmmBackend> Esmm<B> {
    /// The same model, the matmuls of its hidden layers in a training computed in another precision: faster where the
    /// device has units for it. Weights, statistics, gradients and loss stay f32, and so does [`forward`](Self::forward).
    ///
    /// # Errors
    /// A precision that the device of the model does not have; the message names those that it has.
    pub fn with_precision(self, precision: Precision) -> Result<Self, EsmmError> {
        let Self { embeddings, towers, config } = self;
        Ok(Self { embeddings, towers: towers.with_precision(precision)?, config })
    }

    /// Logits for inference: running statistics, no dropout, no gradients.
    ///
    /// # Panics
    /// When the batch was made for another schema, and, on a backend with autodiff, in a backward pass from these logits:
    /// [`forward_train`](Self::forward_train) is for training.
    pub fn forward(&self, batch: &FeatureBatch<B>) -> FunnelLogits<B> {
        self.config.schema.expect_same(&batch.schema);
        let table = self.embeddings.table.value().into_primitive().tensor();
        let bags = batch.arena_bags(self.embeddings.copies());
        let logits = B::Kernels::infer(table, bags, self.towers.inference_layers());
        FunnelLogits { conditional: Tensor::from_primitive(TensorPrimitive::Float(logits)) }
    }
}

impl<B: TrainBackend> Esmm<B> {
    /// Logits for training: batch statistics, dropout by `key`, and the touched rows as a leaf of the graph.
    ///
    /// An update of the touched rows must follow before an optimizer goes over the model, as in the example of
    /// [`TouchedRows::take_grads`]; or [`keep`](crate::StateTensor::keep) leaves the tables as they are.
    ///
    /// # Panics
    /// When the batch was made for another schema; when it was made for inference and the device does not find the distinct
    /// rows itself.
    pub fn forward_train(&self, batch: &FeatureBatch<B>, key: DropoutKey) -> TrainForward<B> {
        self.config.schema.expect_same(&batch.schema);
        let touched = self.embeddings.gather(batch).into_leaves();
        let own = &batch.bags.own;
        let conditional = match (&touched, &own.dense) {
            // Without sparse features the touched rows stay out of the graph.
            (TouchedRows::Gathered { values, .. }, Some(_)) if batch.is_dense() && own.bins.is_some() => {
                let bags = batch.touched_bags(self.embeddings.copies());
                self.towers.forward_train_pooled(values.clone().detach(), bags, key)
            }
            (TouchedRows::Gathered { .. }, Some(dense)) if batch.is_dense() => {
                let dense = Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(dense.clone()));
                self.towers.forward_train(dense.unsqueeze(), key)
            }
            (TouchedRows::Gathered { values, .. }, _) => {
                self.embeddings.table.await_update();
                let bags = batch.touched_bags(self.embeddings.copies());
                self.towers.forward_train_pooled(values.clone(), bags, key)
            }
            (TouchedRows::Pooled { bags, values, num_rows }, _) => {
                self.embeddings.table.await_update();
                let Pooled { own, shared } = values.clone();
                match shared {
                    None => self.towers.forward_train(own, key),
                    Some(shared) => {
                        let [own, shared] = [own, shared].map(|part| part.into_primitive().tensor());
                        let bags = InputBags::clone(bags);
                        let input = GroupedInput { own, shared, bags, num_rows: *num_rows };
                        self.towers.forward_train_grouped(input, key)
                    }
                }
            }
        };
        TrainForward { logits: FunnelLogits { conditional }, touched }
    }
}

impl<B: Backend> Esmm<B> {
    /// What the model was made from.
    pub fn config(&self) -> &EsmmConfig {
        &self.config
    }

    /// The same model, the last bias of tower k set to `logits[k]`: about what it says of every row before it has
    /// learned anything. A start at the logits of the conditional rates of the stages saves a training the steps that
    /// find them.
    ///
    /// # Panics
    /// When there are not as many logits as stages.
    pub fn with_output_biases(mut self, logits: &[f64]) -> Self {
        let bias = &mut self.towers.output.bias;
        let stages = bias.dims()[0];
        assert_eq!(logits.len(), stages, "{} biases for {stages} stages", logits.len());
        let values: Vec<f32> = logits.iter().map(|logit| *logit as f32).collect();
        let data = TensorData::new(values, [stages, 1]);
        // `map` takes the tensor as it comes: without its flag the bias would never get a gradient.
        *bias = bias
            .clone()
            .map(|old| Tensor::from_data(data, &old.device()).set_require_grad(old.is_require_grad()));
        self
    }

    /// Identity of the arena in records and gradient containers.
    pub fn arena_id(&self) -> ParamId {
        self.embeddings.table.id()
    }
}
