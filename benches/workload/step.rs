//! One step of training, one of inference.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::train::TrainStep;
use esmm_core::{
    BatchBuilder, BatchInput, Esmm, EsmmBackend, EsmmConfig, EsmmError, FeatureBatch, Indices, Precision,
    TrainBackend,
};
use esmm_train::data::loader::{EsmmBatch, RowLabels};
use esmm_train::optimizer::{SharedOptimizer, TableOptimizerConfig, TableRule, TowerOptimizerConfig};
use esmm_train::{EsmmLearner, EsmmLearnerConfig, EsmmLoss};

use super::{RawBatch, Workload, data::reached};

const LEARNING_RATE: f64 = 1e-3;

/// What the tables' optimizer changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rows {
    /// The rows that a batch touches.
    Touched,
    /// All of them, as dense Adam does: rows that no id names get a gradient of 0.
    All,
}

/// A model in training: lazy Adam on the tables, Adam on the towers.
pub(crate) struct Training<B>
where
    B: TrainBackend,
{
    learner: EsmmLearner<B>,
    optimizer: SharedOptimizer<EsmmLearner<B>, B>,
    builder: BatchBuilder,
    device: B::Device,
}

impl<B> Training<B>
where
    B: TrainBackend,
{
    /// A new model.
    pub(crate) fn new(workload: &Workload, device: B::Device) -> Self {
        Self::of(&workload.config(), device)
    }

    /// A new model of any configuration.
    pub(crate) fn of(config: &EsmmConfig, device: B::Device) -> Self {
        let model = config.init::<B>(&device).expect("the workload is valid");
        let schema = &config.schema;
        let (beta_1, beta_2, epsilon) = (0.9, 0.999, 1e-8);
        let rule = TableRule::LazyAdam { beta_1, beta_2, epsilon };
        let tables = TableOptimizerConfig { rule, learning_rate_ratio: 1.0, l2: 0.0 };
        let config = EsmmLearnerConfig { loss: EsmmLoss::new(2), tables, clip_norm: None, seed: 1 };
        let towers = TowerOptimizerConfig::Adam { beta_1, beta_2, epsilon, weight_decay: 0.0 };
        Self {
            learner: config.init(model),
            optimizer: SharedOptimizer::new(&towers),
            builder: BatchBuilder::for_backend::<B>(schema),
            device,
        }
    }

    /// The same, its hidden matmuls in another dtype.
    ///
    /// # Errors
    /// Numbers that the device lacks.
    pub(crate) fn with_precision(mut self, precision: Precision) -> Result<Self, EsmmError> {
        self.learner.model = self.learner.model.with_precision(precision)?;
        Ok(self)
    }

    /// From columns to updated weights; gives the loss, still on the device.
    pub(crate) fn step(&mut self, raw: &RawBatch) -> Tensor<B::InnerBackend, 1> {
        self.step_on(raw, Rows::Touched)
    }

    /// The same, with the choice of what the tables' optimizer changes.
    pub(crate) fn step_on(&mut self, raw: &RawBatch, rows: Rows) -> Tensor<B::InnerBackend, 1> {
        raw.with_input(|input| self.step_of(input, &raw.depth, rows))
    }

    /// The same from columns with the stages that rows reached.
    pub(crate) fn step_of(
        &mut self,
        input: BatchInput<'_>,
        depth: &[u8],
        rows: Rows,
    ) -> Tensor<B::InnerBackend, 1> {
        let host = self.builder.build(input).expect("the batch is valid");
        let (mut features, reached) = host.into_device_with::<B>(reached(depth), 2, &self.device);
        if rows == Rows::All {
            // Without a list of touched rows the slots are rows of the arena already.
            if let Some(touched) = &features.touched {
                let slots = features.bags.own.slots.host().iter().map(|&slot| touched.host()[slot as usize]);
                features.bags.own.slots = Indices::new(slots.collect(), &self.device);
            }
            let all = 0..self.learner.model.embeddings.rows() as u32;
            features.touched = Some(Indices::new(all.collect(), &self.device));
        }
        let batch = EsmmBatch { features, reached, labels: Arc::new(RowLabels::default()) };
        self.step_on_batch(batch)
    }

    /// A batch as a loader would hand it out.
    pub(crate) fn batch_of(&mut self, raw: &RawBatch) -> EsmmBatch<B> {
        let host = raw.with_input(|input| self.builder.build(input)).expect("the batch is valid");
        let (features, reached) = host.into_device_with::<B>(reached(&raw.depth), 2, &self.device);
        EsmmBatch { features, reached, labels: Arc::new(RowLabels::default()) }
    }

    /// From a batch on the device to updated weights.
    pub(crate) fn step_on_batch(&mut self, batch: EsmmBatch<B>) -> Tensor<B::InnerBackend, 1> {
        let output = self.learner.step(batch);
        // Burn's Learner clones the model as well.
        self.learner = self.learner.clone().optimize(&mut self.optimizer, LEARNING_RATE, output.grads);
        output.item.weighted
    }
}

/// A model that scores.
pub(crate) struct Inference<B: EsmmBackend> {
    model: Esmm<B>,
    builder: BatchBuilder,
    device: B::Device,
}

impl<B: EsmmBackend> Inference<B> {
    /// A new model.
    pub(crate) fn new(workload: &Workload, device: B::Device) -> Self {
        Self::of(&workload.config(), device)
    }

    /// A new model of any configuration.
    pub(crate) fn of(config: &EsmmConfig, device: B::Device) -> Self {
        let model = config.init::<B>(&device).expect("the workload is valid");
        Self { model, builder: BatchBuilder::new(&config.schema), device }
    }

    /// From columns to pCTR, pCVR and pCTCVR in host memory.
    pub(crate) fn step(&mut self, raw: &RawBatch) -> [Vec<f32>; 3] {
        raw.with_input(|input| self.step_of(input))
    }

    /// The same from columns.
    pub(crate) fn step_of(&mut self, input: BatchInput<'_>) -> [Vec<f32>; 3] {
        let host = self.builder.build_for_inference(input).expect("the batch is valid");
        self.score(&host.into_device(&self.device))
    }

    /// From a batch on the device to pCTR, pCVR and pCTCVR in host memory.
    pub(crate) fn step_on_batch(&mut self, batch: &EsmmBatch<B>) -> [Vec<f32>; 3] {
        self.score(&batch.features)
    }

    fn score(&self, batch: &FeatureBatch<B>) -> [Vec<f32>; 3] {
        let probs = self.model.forward(batch).probs();
        // Read at once: each reading waits for the device.
        let columns = Tensor::cat(vec![probs.ctr, probs.cvr, probs.ctcvr], 0);
        let mut values: Vec<f32> = columns.into_data().into_vec().expect("probabilities are f32");
        let ctcvr = values.split_off(2 * batch.rows);
        let cvr = values.split_off(batch.rows);
        [values, cvr, ctcvr]
    }
}
