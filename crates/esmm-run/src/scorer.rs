//! A trained model with everything that it needs to score raw rows: schema, encoders, weights.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use burn::tensor::Tensor;
use burn::tensor::backend::BackendTypes;
use esmm_core::{BatchBuilder, BatchInput, EsmmBackend, EsmmConfig, SparseInput};
use esmm_data::stream::FileRows;
use esmm_data::{
    Chunk, EncodedChunk, FittedEncoders, Segment, Segments, SourceSpec, SparseColumn, UserGroups,
};

use crate::config::TrainConfig;
use crate::ensemble::Ensemble;
use crate::error::RunError;
use crate::evaluation::{Evaluation, evaluate};
use crate::manifest::{Manifest, Trust};
use crate::run_dir::RunDir;

/// See the [module](self).
pub struct Scorer<B: EsmmBackend> {
    /// How it was trained.
    pub config: TrainConfig,
    /// The model's configuration.
    pub model: EsmmConfig,
    encoders: FittedEncoders,
    models: Ensemble<B>,
    builder: BatchBuilder,
    device: <B as BackendTypes>::Device,
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
        let config = run.read_config()?;
        Manifest::check(run, trust)?;
        let model = run.read_model()?;
        let encoders = FittedEncoders::load(&run.encoders())?;
        let models = Ensemble::load(&model, run, config.train.seeds, prefix, device)?;
        let builder = BatchBuilder::new(&model.schema);
        Ok(Self { config, model, encoders, models, builder, device: device.clone() })
    }

    /// Files to read, with the delimiters of the training data.
    pub fn source(&self, paths: &[String]) -> SourceSpec {
        SourceSpec { paths: paths.to_vec(), ..self.config.data.train_source().clone() }
    }

    /// Columns that scoring reads.
    pub fn required_columns(&self) -> Vec<String> {
        self.encoders.required_columns()
    }

    /// Measures labelled data, which is read, scored and forgotten batch by batch: per row the evaluator alone remembers.
    ///
    /// # Errors
    /// Whatever is wrong with the data, with file and line.
    pub fn evaluate(&self, source: &SourceSpec) -> Result<Evaluation, RunError> {
        let (group, truth) = (self.config.group.as_deref(), self.config.truth.as_ref());
        let (labels, by_group) = (&self.config.labels, self.config.reading.by_group);
        let rows = FileRows::open(source, &self.encoders, labels, group, truth, by_group)?;
        let stages = &self.config.labels.columns;
        let rate = self.config.negative_rate;
        evaluate(&self.models, &self.model, stages, &rows.into(), rate, &self.device, |_| {})
    }

    /// The segments of a source whose groups have what their impressions share of features, for
    /// [`score_segment`](Self::score_segment); `None` where each row is read with all of its features.
    ///
    /// # Errors
    /// As [`SourceSpec::open`].
    pub fn segments(&self, source: &SourceSpec, columns: &[String]) -> Result<Option<Segments>, RunError> {
        match self.config.reading.by_group {
            true => Ok(self.encoders.segments(source, columns)?),
            false => Ok(None),
        }
    }

    /// Scores the impressions of a segment, in order, as [`score`](Self::score) does. What a group shares is encoded and
    /// computed once.
    ///
    /// # Errors
    /// Values that the encoders refuse, with file and line.
    pub fn score_segment(&mut self, segment: &Segment) -> Result<RecordBatch, RunError> {
        let encoded = self.encoders.encode_segment(segment)?;
        self.score_encoded(&encoded)
    }

    /// Scores the rows of a chunk, in order. For two stages the columns are `pctr`, `pcvr`, `pctcvr`; for more, `p_x`
    /// for each stage x and `p_x_given_y` for each but the first. All are f32 in `[0, 1]`.
    ///
    /// # Errors
    /// Values that the encoders refuse, with file and line.
    pub fn score(&mut self, chunk: &Chunk) -> Result<RecordBatch, RunError> {
        let encoded = self.encoders.encode(chunk)?;
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
        let columns = probabilities(&logits);
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

    fn logits(&mut self, encoded: &EncodedChunk) -> Result<esmm_core::FunnelLogits<B>, RunError> {
        let sparse: Vec<SparseInput<'_>> = encoded.sparse.iter().map(SparseColumn::as_input).collect();
        let dense: Vec<&[f32]> = encoded.dense.iter().map(Vec::as_slice).collect();
        let groups = encoded.users.as_ref().map(UserGroups::as_input);
        let input = BatchInput { rows: encoded.rows, sparse: &sparse, dense: &dense, groups };
        let batch = self.builder.build_for_inference(input)?.to_device(&self.device);
        Ok(self.models.forward(&batch))
    }
}

/// Names of the prediction columns: see [`Scorer::score`].
pub fn prediction_columns(stages: &[String]) -> Vec<String> {
    if stages.len() == 2 {
        return ["pctr", "pcvr", "pctcvr"].map(String::from).to_vec();
    }
    let mut names = vec![format!("p_{}", stages[0])];
    for pair in stages.windows(2) {
        names.extend([format!("p_{}_given_{}", pair[1], pair[0]), format!("p_{}", pair[1])]);
    }
    names
}

/// Columns in the order of [`prediction_columns`].
fn probabilities<B: EsmmBackend>(logits: &esmm_core::FunnelLogits<B>) -> Vec<Vec<f32>> {
    let reach = logits.reach_probs();
    let conditional = burn::tensor::activation::sigmoid(logits.conditional.clone());
    let column = |matrix: &Tensor<B, 2>, stage: usize| {
        let rows = matrix.dims()[0];
        matrix.clone().slice([0..rows, stage..stage + 1]).into_data().iter::<f32>().collect::<Vec<f32>>()
    };
    let mut columns = vec![column(&reach, 0)];
    for stage in 1..logits.stages() {
        columns.extend([column(&conditional, stage), column(&reach, stage)]);
    }
    columns
}
