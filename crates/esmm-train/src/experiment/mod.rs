//! A configuration with its data: loaded, checked, trained, measured, saved.

pub mod guard;
mod members;
pub mod memory;
pub mod plan;
mod run;

use std::path::Path;

use esmm_core::{DenseFeature, EsmmBackend, EsmmConfig, TrainBackend};
use esmm_data::loader::UnknownShares;
use esmm_data::{Dataset, FittedEncoders, LoadOptions, LoadReport, SplitRows, TRAINED_ROWS_FILE};
use esmm_run::analysis::RunAnalyzer;
use esmm_run::config::{ReadingConfig, TrainConfig};
use esmm_run::ensemble::Ensemble;
use esmm_run::evaluation::{HostScores, evaluate};
use esmm_run::manifest::Manifest;
use esmm_run::observe::{EvaluationRecord, Moment, Observers, TableNorms};
use esmm_run::run_dir::{RunDir, write_json};

use self::guard::Names;
use crate::device::still_works;
use crate::error::TrainError;
use crate::trainer::{
    BestWeights, TrainerConfig, TrainingControl, TrainingData, TrainingEnd, prior_logits, train,
};

pub use self::run::Trained;
pub use esmm_run::metrics::{EnsembleMetrics, RunMetrics};

/// What is said where the rows of a group are not separated.
const BY_GROUP: &str =
    "rows of a group stay together: groups are shuffled, and what they share is computed once";

/// A configuration with its data.
#[derive(Debug)]
pub struct Experiment {
    /// The configuration.
    pub config: TrainConfig,
    /// What was fitted on the training split.
    pub encoders: FittedEncoders,
    /// The model, its tables as large as the vocabularies.
    pub model: EsmmConfig,
    /// What was read.
    pub report: LoadReport,
    train: SplitRows,
    valid: Option<SplitRows>,
    test: Option<SplitRows>,
    warnings: Vec<String>,
}

impl Experiment {
    /// Reads and splits the data. What does not fit in the memory that the configuration allows stays in its files and is
    /// read in every pass.
    ///
    /// # Errors
    /// Whatever is wrong with the data, with file and line; a configuration that does not fit it.
    pub fn load(mut config: TrainConfig) -> Result<Self, TrainError> {
        let ReadingConfig { streaming, memory, shuffle_rows, by_group } = config.reading;
        let options =
            LoadOptions { streaming, memory, process_memory: memory::allowed(), shuffle_rows, by_group };
        let loaded = config.data_spec().load(&options)?;
        config.reading.streaming = Some(loaded.is_streaming());
        if loaded.by_group() {
            log::info!("{BY_GROUP}");
        }
        let warnings = warnings(&config, &loaded.encoders, &loaded.report, &loaded.sample());
        Ok(Self {
            model: config.model(loaded.encoders.schema().clone())?,
            encoders: loaded.encoders,
            report: loaded.report,
            train: loaded.train,
            valid: loaded.valid,
            test: loaded.test,
            warnings,
            config,
        })
    }

    /// Checks that the data is what it was when a run began: a training cannot go on with another vocabulary.
    ///
    /// # Errors
    /// Encoders that differ from the saved ones, or saved ones that cannot be read.
    pub fn check_saved(&self, run: &RunDir) -> Result<(), TrainError> {
        match FittedEncoders::load(&run.encoders())? == self.encoders {
            true => Ok(()),
            false => {
                let reason = "the data has changed: its vocabularies are others than the saved ones";
                Err(TrainError::config(format!("--resume: {reason}")))
            }
        }
    }

    /// What the guard rails say about the data.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The splits that there are, by name.
    pub fn splits(&self) -> impl Iterator<Item = (&'static str, &SplitRows)> {
        let others = [("valid", &self.valid), ("test", &self.test)];
        let others = others.into_iter().filter_map(|(name, rows)| Some((name, rows.as_ref()?)));
        std::iter::once(("train", &self.train)).chain(others)
    }

    /// Writes configuration, schema and encoders: all that a later command needs besides the weights.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn save(&self, run: &RunDir) -> Result<(), TrainError> {
        let folder = run.encoders();
        create_folder(&folder)?;
        for member in run.members(self.config.train.seeds) {
            create_folder(&member.own_path())?;
        }
        self.encoders.save(&folder)?;
        write_json(&run.schema(), &self.model)?;
        write_json(&run.config(), &self.config)?;
        Ok(Manifest::begin(run)?)
    }

    /// Trains one model; the best weights are then in the run directory. [`run`](Self::run) trains several.
    ///
    /// # Errors
    /// As [`train`].
    pub fn train<B>(
        &self,
        run: &RunDir,
        device: &B::Device,
        control: &TrainingControl,
    ) -> Result<TrainingEnd, TrainError>
    where
        B: TrainBackend,
    {
        train::<B>(&self.trainer(), &self.data(), run, device, control)
    }

    /// The rows to learn from and to validate on.
    fn data(&self) -> TrainingData {
        TrainingData { train: self.train.clone(), valid: self.valid.clone() }
    }

    /// The trainer of the configuration, its biases at the rates of the training rows.
    fn trainer(&self) -> TrainerConfig {
        let trained = &self.report.train;
        let prior = self.config.model.prior.then(|| prior_logits(&trained.rates, self.config.negative_rate));
        let unknown = self.unknown_shares();
        TrainerConfig { prior, unknown, ..TrainerConfig::of(&self.config, &self.model) }
    }

    /// The ids that training takes as unknown.
    fn unknown_shares(&self) -> UnknownShares {
        UnknownShares::of(self.config.unknown_share, &self.encoders, &self.report.train)
    }

    /// Measures all splits with the best weights, tells the observers, and writes `metrics.json`. Several models are measured
    /// as one, by the mean of their probabilities; `best` is then said of the first.
    ///
    /// # Errors
    /// Weights that cannot be read, a disk that refuses.
    pub fn evaluate<B: EsmmBackend>(
        &self,
        run: &RunDir,
        device: &B::Device,
        best: BestWeights,
        observers: &Observers,
    ) -> Result<RunMetrics, TrainError> {
        let control = TrainingControl { observers: observers.clone(), ..TrainingControl::default() };
        self.measure::<B>(run, device, best, &control, None)
    }

    /// As [`evaluate`](Self::evaluate); [`RunError::Interrupted`](esmm_run::RunError::Interrupted) where it is stopped
    /// meanwhile, and nothing is written then.
    fn measure<B: EsmmBackend>(
        &self,
        run: &RunDir,
        device: &B::Device,
        best: BestWeights,
        control: &TrainingControl,
        ensemble: Option<EnsembleMetrics>,
    ) -> Result<RunMetrics, TrainError> {
        let model = Ensemble::<B>::load(&self.model, run, self.config.train.seeds, None, device)?;
        let stages = &self.config.labels.columns;
        let observers = &control.observers;
        let unseen = observers.want_tables() && self.valid.is_none();
        let norms = || TableNorms::of(&model.members()[0].embeddings, &self.model, stages);
        let tables = unseen.then(norms).unwrap_or_default();
        let taken = self.unknown_shares();
        let mut analysis = RunAnalyzer::new(&self.encoders, stages, self.config.negative_rate, best, &taken);
        let alone = self.valid.is_none() && self.test.is_none();
        let mut found = Vec::new();
        for (split, rows) in self.splits() {
            let mut analyzer = analysis.split(split, alone);
            let see = |scores: &HostScores| {
                analyzer.push(scores);
                control.go_on()
            };
            let rate = self.config.negative_rate;
            let measured = evaluate(&model, &self.model, stages, rows, rate, device, see)?;
            still_works()?;
            analysis.add(analyzer, &measured.scores);
            observers.evaluation(&EvaluationRecord {
                split,
                moment: Moment::End,
                step: best.step,
                epoch: best.epoch,
                metrics: &measured.metrics,
                scores: &measured.scores,
                tables: if split == "train" { &tables } else { &[] },
            });
            if let Some(warning) = guard::check_collapse(measured.cvr_spread).filter(|_| split == "train") {
                log::warn!("{warning}");
            }
            let held_out = split != "train" || alone;
            if let Some(warning) = guard::check_constant(split, &measured.metrics).filter(|_| held_out) {
                log::warn!("{warning}");
            }
            found.push((split, measured.metrics));
        }
        let mut take = |split| {
            let place = found.iter().position(|(name, _)| *name == split)?;
            Some(found.swap_remove(place).1)
        };
        let train = take("train").unwrap_or_default();
        let metrics = RunMetrics { train, valid: take("valid"), test: take("test"), ensemble };
        let (analysis, trained) = analysis.finish();
        analysis.write(&run.analysis())?;
        if let Some(trained) = trained {
            let name = format!("encoders/{TRAINED_ROWS_FILE}");
            Manifest::add(run, &name, || Ok(trained.save(&run.encoders())?))?;
        }
        write_json(&run.metrics(), &metrics)?;
        Ok(metrics)
    }
}

fn create_folder(folder: &Path) -> Result<(), TrainError> {
    std::fs::create_dir_all(folder).map_err(|error| TrainError::caused(folder, "cannot be created", error))
}

/// What the guard rails say, of the training rows or the first of them.
fn warnings(
    config: &TrainConfig,
    encoders: &FittedEncoders,
    report: &LoadReport,
    train: &Dataset,
) -> Vec<String> {
    let sparse: Vec<String> = encoders.schema().sparse().map(|feature| feature.name.clone()).collect();
    let dense: Vec<DenseFeature> = encoders.schema().dense().cloned().collect();
    let stages = &config.labels.columns;
    let names = Names { sparse: &sparse, dense: &dense, stages };
    let mut warnings = guard::check_features(train, report.train.rows, names);
    warnings.extend(config.data.sources().into_iter().flat_map(guard::check_repeated));
    warnings.extend(guard::check_scale(train, names));
    for (split, report) in report.splits() {
        warnings.extend(guard::check_labels(split, &report.reached, stages));
        if split != "train" {
            warnings.extend(guard::check_unknown(split, &report.unknown_rate));
        }
    }
    warnings
}
