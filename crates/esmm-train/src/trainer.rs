//! One training from first step to best weights.

use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;
use burn::train::{Interrupter, Learner, SupervisedTraining, TrainingStrategy};
use esmm_core::{EsmmBackend, EsmmConfig, Precision};
use esmm_data::loader::{BatchLoader, BatchLoaderConfig, Purpose};
use esmm_data::{Dataset, SplitRows};
use esmm_run::config::TrainConfig;
use esmm_run::observe::Observers;
use esmm_run::run_dir::RunDir;

use crate::checkpoint::{Checkpoints, TrainingState};
use crate::error::TrainError;
use crate::learner::EsmmLearnerConfig;
use crate::loss::EsmmLoss;
use crate::metric::{ExactAuc, StepLoss};
use crate::optimizer::{Schedule, SharedOptimizer, TowerOptimizerConfig};
use crate::progress::ProgressStyle;
use crate::strategy::{Components, EsmmStrategy, StrategyParts};

/// Validation rows up to which the dashboard shows AUCs while a validation runs: it keeps scores of its own for that.
const SHOWN_AUC_ROWS: usize = 4_000_000;

pub use esmm_run::BestWeights;
pub use esmm_run::evaluation::EVALUATION_BATCH;

/// Everything that fixes a training but its data.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerConfig {
    /// The model.
    pub model: EsmmConfig,
    /// Names of the stages, as the labels are called.
    pub stages: Vec<String>,
    /// Loss, tables, clipping.
    pub learner: EsmmLearnerConfig,
    /// The towers' optimizer.
    pub towers: TowerOptimizerConfig,
    /// The learning rate; `total_steps` is set by the trainer.
    pub schedule: Schedule,
    /// Passes over the training split.
    pub epochs: u64,
    /// Rows of a training batch.
    pub batch_size: usize,
    /// Seed of the order of rows.
    pub seed: u64,
    /// Numbers of the products of hidden layers while it learns; it is always measured in f32.
    pub precision: Precision,
    /// The validation metric that selects the best weights, such as `ctcvr.auc`.
    pub select: String,
    /// Stop after so many validations without a better one.
    pub patience: Option<u64>,
    /// Validate after every so many steps as well as after every epoch.
    pub validate_every: Option<u64>,
    /// Save a checkpoint after every so many steps as well as after every epoch.
    pub checkpoint_every: Option<u64>,
    /// Every so many steps the observers get a record.
    pub log_every: u64,
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainingEnd {
    /// All epochs are done, or no better weights were in sight.
    Finished {
        /// Where the best weights come from.
        best: BestWeights,
        /// Whether patience ran out.
        stopped_early: bool,
    },
    /// The interrupter asked for it; the checkpoint is saved.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// The data of a training.
#[derive(Debug, Clone)]
pub struct TrainingData {
    /// Learned from.
    pub train: SplitRows,
    /// Selects the best weights. Without it the last weights count as the best.
    pub valid: Option<SplitRows>,
}

/// Who may stop a training, who looks on, and how it shows where it stands.
#[derive(Clone)]
pub struct TrainingControl {
    /// Stops the training after the step under way; a checkpoint is then saved.
    pub interrupter: Interrupter,
    /// What is shown while it runs.
    pub progress: ProgressStyle,
    /// Go on from the newest checkpoint of the run directory.
    pub resume: bool,
    /// Who gets to know of steps and evaluations.
    pub observers: Observers,
}

impl Default for TrainingControl {
    /// Nothing is shown, nobody looks on, and the training starts anew.
    fn default() -> Self {
        Self {
            interrupter: Interrupter::new(),
            progress: ProgressStyle::Quiet,
            resume: false,
            observers: Observers::default(),
        }
    }
}

/// Trains and leaves the best weights in the run directory.
///
/// # Errors
/// A disk that refuses, a checkpoint that cannot be read, a metric that does not exist, a precision that the device lacks, a
/// loss that is no number.
pub fn train<B>(
    config: &TrainerConfig,
    data: &TrainingData,
    run: &RunDir,
    device: &B::Device,
    control: &TrainingControl,
) -> Result<TrainingEnd, TrainError>
where
    B: AutodiffBackend + EsmmBackend,
    B::InnerBackend: EsmmBackend,
{
    let train_loader: BatchLoader<B> = config
        .loader(config.batch_size, Purpose::Training { seed: config.seed })
        .init(data.train.clone(), device);
    let valid_rows = data.valid.clone().unwrap_or_else(|| Dataset::default().into());
    let valid_loader: BatchLoader<B::InnerBackend> =
        config.loader(EVALUATION_BATCH, Purpose::Scoring).init(valid_rows, device);

    let optimizer = SharedOptimizer::new(&config.towers);
    let model = config.model.init::<B>(device)?.with_precision(config.precision)?;
    let mut learner = config.learner.clone().init(model);
    let checkpoints = Checkpoints::new(run.checkpoint());
    let mut state = TrainingState { train_rows: data.train.rows() as u64, ..TrainingState::default() };
    if control.resume
        && let Some((loaded, saved)) = checkpoints.load(&learner, &optimizer, device)?
    {
        if saved.train_rows != state.train_rows {
            let (found, expected) = (state.train_rows, saved.train_rows);
            let reason = format!("{found} training rows, the checkpoint was made with {expected}");
            return Err(TrainError::Config(format!("--resume: the data has changed: {reason}")));
        }
        log::info!("going on after step {}, {} epochs done", saved.step, saved.epochs_done);
        (learner, state) = (loaded, saved);
    }
    train_loader.handle().go_on(state.epochs_done, state.batches_done as usize);
    let total_steps = config.epochs * train_loader.num_batches() as u64;
    let schedule = Schedule { total_steps, step: state.step, ..config.schedule };

    control.observers.start(state.step);
    let parts = StrategyParts {
        config: config.clone(),
        checkpoints,
        optimizer: optimizer.clone(),
        observers: control.observers.clone(),
        train: train_loader.handle(),
        valid: valid_loader.handle(),
    };
    let strategy = Arc::new(EsmmStrategy::new(parts, data, run, state));
    let mut training = SupervisedTraining::<Components<B>>::new(
        run.curves(),
        Arc::new(train_loader),
        Arc::new(valid_loader),
    )
    .num_epochs(config.epochs as usize)
    .with_application_logger(None)
    .with_interrupter(control.interrupter.clone())
    .with_training_strategy(TrainingStrategy::Custom(strategy.clone()));
    for metric in StepLoss::all(&config.stages) {
        training = training.metric_train_numeric(metric.clone()).metric_valid_numeric(metric);
    }
    let valid_rows = data.valid.as_ref().map_or(0, SplitRows::rows);
    for metric in ExactAuc::all(&config.stages).into_iter().filter(|_| valid_rows <= SHOWN_AUC_ROWS) {
        training = training.metric_valid_numeric(metric);
    }
    let training = control.progress.attach(training, &control.interrupter, &config.stages, total_steps);
    let result = training.launch(Learner::new(learner, optimizer, schedule));
    drop(result);
    strategy.take_end()
}

impl TrainerConfig {
    /// The trainer of a resolved configuration, for a model.
    pub fn of(config: &TrainConfig, model: &EsmmConfig) -> Self {
        let train = &config.train;
        let schedule = train.schedule;
        Self {
            model: model.clone(),
            stages: config.labels.columns.clone(),
            learner: EsmmLearnerConfig {
                loss: EsmmLoss { task_weights: train.task_weights.clone() },
                tables: train.tables,
                clip_norm: train.clip_norm,
                seed: train.seed,
            },
            towers: train.towers,
            schedule: Schedule {
                base: schedule.learning_rate,
                warmup_steps: schedule.warmup_steps,
                decay: schedule.decay,
                final_factor: schedule.final_factor,
                total_steps: 0,
                step: 0,
            },
            epochs: train.epochs,
            batch_size: train.batch_size,
            seed: train.seed,
            precision: train.precision,
            select: train.select.clone(),
            patience: train.patience,
            validate_every: train.validate_every,
            checkpoint_every: train.checkpoint_every,
            log_every: train.log_every,
        }
    }

    fn loader(&self, batch_size: usize, purpose: Purpose) -> BatchLoaderConfig {
        BatchLoaderConfig {
            schema: self.model.schema.clone(),
            stages: self.stages.len(),
            batch_size,
            purpose,
        }
    }
}
