//! A trained model with everything that it needs to score raw rows: schema, encoders, weights.

mod columns;
mod source;
mod watched;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use burn::tensor::backend::BackendTypes;
use esmm_core::{BatchBuilder, BatchInput, EsmmBackend, EsmmConfig, FunnelLogits, SparseInput};
use esmm_data::stream::FileRows;
use esmm_data::{
    Chunk, EncodedChunk, FittedEncoders, Segment, SourceSpec, SparseColumn, SplitRows, TrainedRows,
    UserGroups, ValueCounter, ValueCounts,
};

use self::columns::{corrected, probabilities};
use self::watched::Watched;
use crate::analysis::{Drift, Period, PeriodCounter, TaskRate, training_period};
use crate::config::{NegativeRateSetting, TrainConfig};
use crate::correction::{CalibrationRecord, LabelledLogits, fit};
use crate::counting::{LabelledAs, RowCounting};
use crate::ensemble::Ensemble;
use crate::error::RunError;
use crate::evaluation::{Evaluation, evaluate};
use crate::manifest::{Manifest, Trust};
use crate::run_dir::RunDir;

pub use columns::prediction_columns;
pub use source::Predictions;

/// Why labelled data is perhaps sampled in another way than it is taken for, in words.
enum SamplingDoubt {
    /// A rate that is known would explain the clicks.
    Mistake(String),
    /// None does.
    Odd(String),
}

/// See the [module](self).
pub struct Scorer<B: EsmmBackend> {
    /// How it was trained.
    pub config: TrainConfig,
    /// The model's configuration.
    pub model: EsmmConfig,
    /// How the rows of labelled data count.
    counting: RowCounting,
    /// Somebody said which share of the impressions without a click that data still holds.
    rate_is_said: bool,
    /// How its probabilities are corrected, where `esmm calibrate` did so.
    calibration: Option<CalibrationRecord>,
    /// Where what the training rows are like is read from.
    run: RunDir,
    encoders: FittedEncoders,
    models: Ensemble<B>,
    builder: BatchBuilder,
    device: <B as BackendTypes>::Device,
    counter: Arc<ValueCounter>,
}

impl<B: EsmmBackend> Scorer<B> {
    /// Opens a run directory with its best weights, all of it as the training wrote it.
    ///
    /// # Errors
    /// A file that is missing, damaged or another one than the training wrote; weights that are not finite, or do not
    /// fit the schema.
    pub fn open(run: &RunDir, device: &<B as BackendTypes>::Device) -> Result<Self, RunError> {
        Self::open_trusting(run, device, Trust::Nothing)
    }

    /// As [`open`](Self::open), with weights that were replaced on purpose.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for weights that the training did not write.
    pub fn open_trusting(
        run: &RunDir,
        device: &<B as BackendTypes>::Device,
        trust: Trust,
    ) -> Result<Self, RunError> {
        Self::open_stripped(run, None, device, trust)
    }

    /// As [`open_trusting`](Self::open_trusting), for weights whose names have a prefix that a wrapper of PyTorch put there.
    ///
    /// # Errors
    /// As [`open_trusting`](Self::open_trusting), and a prefix that no name has.
    pub fn open_stripped(
        run: &RunDir,
        prefix: Option<&str>,
        device: &<B as BackendTypes>::Device,
        trust: Trust,
    ) -> Result<Self, RunError> {
        // A run of a newer program is no damaged one.
        run.read_config()?;
        Manifest::check(run, trust)?;
        let calibration = CalibrationRecord::read(run)?;
        if let Some(record) = &calibration {
            log::info!("{}", record.described());
        }
        Self::read(run, prefix, device, calibration)
    }

    fn read(
        run: &RunDir,
        prefix: Option<&str>,
        device: &<B as BackendTypes>::Device,
        calibration: Option<CalibrationRecord>,
    ) -> Result<Self, RunError> {
        let config = run.read_config()?;
        let model = run.read_model()?;
        let encoders = FittedEncoders::load(&run.encoders())?;
        let models = Ensemble::load(&model, run, config.train.seeds, prefix, device)?;
        let builder = BatchBuilder::new(&model.schema);
        let trained = TrainedRows::load(&run.encoders(), &model.schema)?;
        let counter = Arc::new(ValueCounter::new(&encoders, trained));
        let counting = RowCounting::of_training(&config);
        Ok(Self {
            config,
            model,
            counting,
            rate_is_said: false,
            calibration,
            run: run.clone(),
            encoders,
            models,
            builder,
            device: device.clone(),
            counter,
        })
    }

    /// The same, to which a value that a feature does not take is an error, whatever its `outside` says.
    pub fn strict(self) -> Self {
        Self { encoders: self.encoders.strict(), ..self }
    }

    /// What the values of all rows that were scored or measured so far were to the encoders.
    pub fn value_counts(&self) -> ValueCounts {
        self.counter.counts()
    }

    /// As [`open_trusting`](Self::open_trusting), of the model as it was trained: a correction that it has is left out.
    ///
    /// # Errors
    /// As [`open_trusting`](Self::open_trusting).
    pub fn open_uncorrected(
        run: &RunDir,
        device: &<B as BackendTypes>::Device,
        trust: Trust,
    ) -> Result<Self, RunError> {
        run.read_config()?;
        Manifest::check_but_calibration(run, trust)?;
        Self::read(run, None, device, None)
    }

    /// Files to read, with the delimiters of the training data.
    pub fn source(&self, paths: &[String]) -> SourceSpec {
        SourceSpec { paths: paths.to_vec(), ..self.config.data.train_source().clone() }
    }

    /// Columns that scoring reads.
    pub fn required_columns(&self) -> Vec<String> {
        self.encoders.required_columns()
    }

    /// Says how labelled data that is measured differs from the training data.
    ///
    /// # Errors
    /// As [`RowCounting::changed`], and a label as the negative rate of each row.
    pub fn measure_as(&mut self, said: &LabelledAs) -> Result<(), RunError> {
        if let Some(column) = said.negative_rate.as_ref().and_then(NegativeRateSetting::column) {
            let what = "the negative rate of each row";
            self.config.labels.check_other("--negative-rate", what, column)?;
        }
        self.counting = RowCounting::of_training(&self.config).changed(said)?;
        self.rate_is_said = said.negative_rate.is_some();
        Ok(())
    }

    /// How the rows of labelled data count.
    pub fn counting(&self) -> &RowCounting {
        &self.counting
    }

    /// A line for each way in which labelled data counts otherwise than once a row.
    pub fn counting_described(&self) -> Vec<String> {
        self.counting.described(&RowCounting::of_training(&self.config))
    }

    /// What is to be warned of where the data looks as if it were sampled in another way than it is taken for: a mistake that
    /// a known rate would explain, or what none does.
    fn sampling_doubt(&self, trained: &Period, now: Option<f64>) -> Option<SamplingDoubt> {
        let before = trained.rates.first().and_then(TaskRate::observed)?;
        let doubt = self.counting.doubt(&RowCounting::of_training(&self.config), before, now?);
        let oddity = || self.counting.oddity(before, now?).map(SamplingDoubt::Odd);
        doubt.map(SamplingDoubt::Mistake).or_else(oddity)
    }

    /// Measures labelled data, which is read, scored and forgotten batch by batch: per row the evaluator alone remembers. Where
    /// the run directory knows what its training rows are like, the rows are held against them.
    ///
    /// # Errors
    /// Whatever is wrong with the data, with file and line.
    pub fn evaluate(&self, source: &SourceSpec) -> Result<Evaluation, RunError> {
        self.evaluated(source).map_err(|error| self.counting.with_way_out(error))
    }

    fn evaluated(&self, source: &SourceSpec) -> Result<Evaluation, RunError> {
        let rows = self.labelled(source)?;
        let stages = &self.config.labels.columns;
        let rate = self.counting.share();
        let device = &self.device;
        let trained = self.trained_on();
        let trained = trained.as_ref();
        let period = trained.map(|like| PeriodCounter::new(&self.encoders, stages, rate, Some(like)));
        let correction = self.calibration.as_ref().map(CalibrationRecord::correction);
        let watched = Watched {
            model: &self.models,
            correction: correction.as_ref(),
            encoders: &self.encoders,
            period: RefCell::new(period),
        };
        let found =
            evaluate(&watched, &self.model, stages, &rows, rate, device, |_| ControlFlow::Continue(()))?;
        let period = watched.period.into_inner();
        let drift = trained.zip(period).map(|(before, after)| {
            let after = after.finish();
            let doubt = self.sampling_doubt(before, after.rates.first().and_then(TaskRate::observed));
            if let Some(SamplingDoubt::Mistake(words) | SamplingDoubt::Odd(words)) = doubt {
                log::warn!("{words}");
            }
            Drift::between(before, &after)
        });
        Ok(Evaluation { drift, ..found })
    }

    /// Fits a correction of the probabilities on labelled data, of the model as it was trained: one that it has does not
    /// count. Nothing is written: [`CalibrationRecord::write`] does that.
    ///
    /// # Errors
    /// Whatever is wrong with the data, with file and line; data with too few conversions, or none; data that looks as if it
    /// were sampled in another way than the training data, unless [`measure_as`](Self::measure_as) said how.
    pub fn calibrate(&self, run: &RunDir, source: &SourceSpec) -> Result<CalibrationRecord, RunError> {
        self.fitted(run, source).map_err(|error| self.counting.with_way_out(error))
    }

    fn fitted(&self, run: &RunDir, source: &SourceSpec) -> Result<CalibrationRecord, RunError> {
        let rows = self.labelled(source)?;
        let stages = &self.config.labels.columns;
        let rate = self.counting.share();
        let mut labelled = LabelledLogits::new(stages.len());
        evaluate(&self.models, &self.model, stages, &rows, rate, &self.device, |scores| {
            labelled.push(scores, scores.weights(rate).as_deref());
            ControlFlow::Continue(())
        })?;
        let doubt =
            self.trained_on().and_then(|trained| self.sampling_doubt(&trained, labelled.click_rate()));
        match doubt {
            // A correction of such a mistake would be in every score from now on.
            Some(SamplingDoubt::Mistake(words)) if !self.rate_is_said => {
                return Err(RunError::Scoring(format!(
                    "{words}; if it is neither, name the rate that holds with --negative-rate"
                )));
            }
            Some(SamplingDoubt::Mistake(words) | SamplingDoubt::Odd(words)) => log::warn!("{words}"),
            None => {}
        }
        let (fits, tasks) = fit(&labelled, stages)?;
        let record =
            CalibrationRecord::new(run, &source.paths, labelled.rows() as u64, stages, &fits, tasks)?;
        Ok(record.counted(self.counting.clone()))
    }

    /// What the training rows are like, as far as the run directory tells; scores do not depend on it.
    fn trained_on(&self) -> Option<Period> {
        training_period(&self.run).unwrap_or_else(|error| {
            log::warn!("{error}: the rows are not held against the training rows");
            None
        })
    }

    /// The rows of labelled data.
    fn labelled(&self, source: &SourceSpec) -> Result<SplitRows, RunError> {
        let (group, truth) = (self.config.group.as_deref(), self.config.truth.as_ref());
        let (labels, by_group) = (&self.config.labels, self.config.reading.by_group);
        let rows =
            FileRows::open(source, &self.encoders, labels, group, truth, self.counting.columns(), by_group)?;
        let rows = rows.counted_by(self.counter.clone());
        Ok(rows.into())
    }

    /// How its probabilities are corrected.
    pub fn calibration(&self) -> Option<&CalibrationRecord> {
        self.calibration.as_ref()
    }

    /// Scores the impressions of a segment, in order, as [`score`](Self::score) does. What a group shares is encoded and
    /// computed once.
    ///
    /// # Errors
    /// Values that the encoders refuse, with file and line.
    pub fn score_segment(&mut self, segment: &Segment) -> Result<RecordBatch, RunError> {
        let encoded = self.encoders.encode_segment(segment)?;
        self.counter.add(&encoded);
        self.score_encoded(&encoded)
    }

    /// Scores the rows of a chunk, in order. For two stages the columns are `pctr`, `pcvr`, `pctcvr`; for more, `p_x`
    /// for each stage x and `p_x_given_y` for each but the first. All are f32 in `[0, 1]`.
    ///
    /// # Errors
    /// Values that the encoders refuse, with file and line.
    pub fn score(&mut self, chunk: &Chunk) -> Result<RecordBatch, RunError> {
        let encoded = self.encoders.encode(chunk)?;
        self.counter.add(&encoded);
        self.score_encoded(&encoded)
    }

    /// The columns of [`score`](Self::score), of no rows.
    pub fn no_scores(&self) -> RecordBatch {
        RecordBatch::new_empty(self.score_schema())
    }

    fn score_schema(&self) -> Arc<Schema> {
        let names = prediction_columns(&self.config.labels.columns);
        let fields = names.iter().map(|name| Field::new(name, DataType::Float32, false));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn score_encoded(&mut self, encoded: &EncodedChunk) -> Result<RecordBatch, RunError> {
        let logits = self.logits(encoded)?;
        let names = prediction_columns(&self.config.labels.columns);
        let correction = self.calibration.as_ref().map(CalibrationRecord::correction);
        let columns = correction.map_or_else(|| probabilities(&logits), |own| corrected(&logits, &own));
        for (name, values) in names.iter().zip(&columns) {
            if let Some(row) = values.iter().position(|value| !value.is_finite()) {
                let value = values[row];
                let advice =
                    "a feature of that row may be out of all proportion, or the training have diverged";
                let reason = format!("{name} of row {row} of a batch is {value}: {advice}");
                return Err(RunError::Scoring(reason));
            }
        }
        let columns = columns.into_iter().map(|values| Arc::new(Float32Array::from(values)) as ArrayRef);
        RecordBatch::try_new(self.score_schema(), columns.collect())
            .map_err(|error| RunError::Scoring(error.to_string()))
    }

    fn logits(&mut self, encoded: &EncodedChunk) -> Result<FunnelLogits<B>, RunError> {
        let sparse: Vec<SparseInput<'_>> = encoded.sparse.iter().map(SparseColumn::as_input).collect();
        let dense: Vec<&[f32]> = encoded.dense.iter().map(Vec::as_slice).collect();
        let groups = encoded.users.as_ref().map(UserGroups::as_input);
        let input = BatchInput { rows: encoded.rows, sparse: &sparse, dense: &dense, groups };
        let batch = self.builder.build_for_inference(input)?.to_device(&self.device);
        Ok(self.models.forward(&batch))
    }
}
