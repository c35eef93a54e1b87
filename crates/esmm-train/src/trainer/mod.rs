//! One training from first step to best weights.

mod config;
mod control;
mod display;
mod no_logger;
mod plan;
mod prior;
pub mod strategy;

use std::sync::Arc;

use burn::train::{Learner, SupervisedTraining, TrainingStrategy};
use esmm_core::TrainBackend;
use esmm_data::loader::{BatchLoader, Purpose};
use esmm_data::{Dataset, SplitRows};
use esmm_run::run_dir::RunDir;

use self::display::Shown;
use self::no_logger::NoLogger;
use self::strategy::{Components, EsmmStrategy, StrategyParts};
use crate::checkpoint::{Checkpoints, TrainingState};
use crate::error::TrainError;
use crate::learner::{ExactAuc, StepLoss};
use crate::optimizer::{Schedule, SharedOptimizer};

/// Validation rows up to which the dashboard shows AUCs while a validation runs: it keeps scores of its own for that.
const SHOWN_AUC_ROWS: usize = 4_000_000;

pub use self::config::{TrainerConfig, TrainingData, TrainingEnd};
pub use self::control::TrainingControl;
pub use self::display::{DisplayedTraining, TrainingDisplay};
pub use self::prior::prior_logits;
pub use esmm_run::BestWeights;
pub use esmm_run::evaluation::EVALUATION_BATCH;

/// Trains and leaves the best weights in the run directory.
///
/// # Errors
/// A disk that refuses, a checkpoint that cannot be read, a metric that does not exist, a precision that the device lacks, a
/// loss that is not finite.
pub fn train<B>(
    config: &TrainerConfig,
    data: &TrainingData,
    run: &RunDir,
    device: &B::Device,
    control: &TrainingControl,
) -> Result<TrainingEnd, TrainError>
where
    B: TrainBackend,
{
    let train_loader: BatchLoader<B> = config
        .loader(config.batch_size, Purpose::Training { seed: config.seed })
        .init(data.train.clone(), device);
    let valid_rows = data.valid.clone().unwrap_or_else(|| Dataset::default().into());
    let valid_loader: BatchLoader<B::InnerBackend> =
        config.loader(EVALUATION_BATCH, Purpose::Scoring).init(valid_rows, device);

    let optimizer = SharedOptimizer::new(&config.towers);
    let model = config.model.init::<B>(device)?.with_precision(config.precision)?;
    let model = match &config.prior {
        Some(logits) => model.with_output_biases(logits),
        None => model,
    };
    let mut learner = config.learner.clone().init(model);
    let checkpoints = Checkpoints::new(run.checkpoint());
    let mut state = TrainingState { train_rows: data.train.rows() as u64, ..TrainingState::default() };
    let mut saved = None;
    if control.resume {
        (learner, saved) = checkpoints.load(learner, &optimizer, device)?;
    }
    if let Some(saved) = saved {
        if saved.train_rows != state.train_rows {
            let found = state.train_rows;
            let expected = saved.train_rows;
            let reason = format!("{found} training rows, the checkpoint was made with {expected}");
            return Err(TrainError::config(format!("--resume: the data has changed: {reason}")));
        }
        let label = &config.label;
        log::info!("{label}going on after step {}, {} epochs done", saved.step, saved.epochs_done);
        state = saved;
    }
    train_loader.handle().go_on(state.epochs_done, state.batches_done as usize);
    let last_batch = data.train.rows() % config.batch_size;
    let mut steps = train_loader.num_batches() as u64;
    if last_batch > 0 && config.leaves_out(last_batch) {
        log::info!("one row is left for an epoch's last batch, which batch norm cannot use: it is left out");
        steps -= 1;
    }
    let total_steps = config.epochs * steps;
    plan::say_steps(config, state.train_rows, total_steps);
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
    let mut training =
        SupervisedTraining::<Components<B>>::new(run.path(), Arc::new(train_loader), Arc::new(valid_loader))
            .num_epochs(config.epochs as usize)
            .with_application_logger(None)
            .with_metric_logger(NoLogger)
            .with_interrupter(control.interrupter.clone())
            .with_training_strategy(TrainingStrategy::Custom(strategy.clone()));
    for metric in StepLoss::all(&config.stages) {
        training = training.metric_train_numeric(metric.clone()).metric_valid_numeric(metric);
    }
    let valid_rows = data.valid.as_ref().map_or(0, SplitRows::rows);
    for metric in ExactAuc::all(&config.stages).into_iter().filter(|_| valid_rows <= SHOWN_AUC_ROWS) {
        training = training.metric_valid_numeric(metric);
    }
    let shown = DisplayedTraining {
        label: &config.label,
        interrupter: &control.interrupter,
        stages: &config.stages,
        steps: total_steps,
    };
    let training = training.renderer(Shown(control.display.as_ref().map(|display| display.renderer(&shown))));
    let result = training.launch(Learner::new(learner, optimizer, schedule));
    drop(result);
    strategy.take_end()
}
