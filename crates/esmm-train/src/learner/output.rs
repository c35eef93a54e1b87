//! What a step hands to metrics and to the evaluation.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::ItemLazy;
use burn::train::metric::Adaptor;

use esmm_core::{Indices, TouchedRows};
use esmm_run::config::NegativeRate;
use esmm_run::evaluation::HostScores;

use crate::optimizer::GradientNorms;

/// A training step: its losses, still on the device.
#[derive(Debug)]
pub struct TrainStepOutput<B: Backend> {
    /// Loss of each stage times its weight, `[K]`.
    pub weighted: Tensor<B, 1>,
    /// Loss of each stage, `[K]`.
    pub tasks: Tensor<B, 1>,
    /// Rows of the batch.
    pub rows: usize,
    /// Distinct table rows that the batch touched, over all copies of the tables.
    pub touched: Touched<B>,
    /// Norms of the gradients before clipping, where they were asked for or clipping needed them.
    pub norms: Option<GradientNorms<B>>,
}

/// How many distinct table rows a batch touched, over all copies of the tables.
#[derive(Debug, Clone)]
pub enum Touched<B: Backend> {
    /// So many.
    Known(usize),
    /// Where the device finds them: as many as there are different ones among these, in each copy. Counted when somebody
    /// asks.
    Among {
        /// The row of each entry: a list of entries of rows, and one of those of groups.
        rows: Vec<Indices<B>>,
        /// Copies of the tables.
        copies: usize,
    },
}

impl<B: Backend> Touched<B> {
    pub(super) fn of<A: AutodiffBackend<InnerBackend = B>>(touched: &TouchedRows<A>) -> Self {
        match touched {
            TouchedRows::Gathered { rows, .. } => Self::Known(rows.len()),
            TouchedRows::Pooled { bags, .. } => {
                let rows = bags.parts().map(|part| part.slots.inner()).collect();
                Self::Among { rows, copies: bags.own.tables }
            }
        }
    }

    /// The number.
    pub fn count(&self) -> usize {
        match self {
            Self::Known(count) => *count,
            Self::Among { rows, copies } => Indices::count_distinct(rows) * copies,
        }
    }
}

/// A step in host memory, as metrics read it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Rows of the batch.
    pub rows: usize,
    /// Mean weighted loss; of an inference step the plain sum of the tasks.
    pub total: f64,
    /// Mean loss of each stage.
    pub tasks: Vec<f64>,
    /// The scores, of an inference step.
    pub scores: Option<Arc<HostScores>>,
    /// What each of its rows weighs, of an inference step; `None`: 1.
    pub weights: Option<Arc<Vec<f32>>>,
}

impl<B: Backend> TrainStepOutput<B> {
    /// Reads the losses back from the device.
    pub fn report(&self) -> StepReport {
        let tasks: Vec<f64> = self.tasks.to_data().iter::<f64>().collect();
        let total: f32 = self.weighted.to_data().iter::<f32>().sum();
        StepReport { rows: self.rows, total: f64::from(total), tasks, scores: None, weights: None }
    }
}

impl<B: Backend> ItemLazy for TrainStepOutput<B> {
    type ItemSync = StepReport;

    fn sync(self) -> StepReport {
        self.report()
    }
}

impl ItemLazy for StepReport {
    type ItemSync = Self;

    fn sync(self) -> Self {
        self
    }
}

/// An inference step: the scores of its rows, in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct InferenceOutput {
    /// The scores.
    pub scores: HostScores,
    /// The share of impressions without a click that the rows still hold; `None`: all of them.
    pub negative_rate: Option<NegativeRate>,
}

impl ItemLazy for InferenceOutput {
    type ItemSync = StepReport;

    fn sync(self) -> StepReport {
        let Self { scores, negative_rate } = self;
        let tasks = scores.losses(negative_rate);
        let rows = scores.labels.depth.len();
        let weights = scores.weights(negative_rate).map(Arc::new);
        StepReport { rows, total: tasks.iter().sum(), tasks, scores: Some(Arc::new(scores)), weights }
    }
}

impl Adaptor<Self> for StepReport {
    fn adapt(&self) -> Self {
        self.clone()
    }
}
