//! A trained model with everything that it needs to rank: engine, encoders, names.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use esmm_core::{EsmmConfig, Feature, StateDict};
use esmm_data::{Chunk, FeatureSpec, FittedEncoders, ListFormat, Origin};

use crate::encoded::Encoded;
use crate::error::RankError;
use crate::part::Part;
use crate::ranker::Ranker;
use crate::score_column::ScoreColumn;

/// A ranker with its encoders: raw columns in, probabilities out.
#[derive(Debug)]
pub struct RankModel {
    /// The engine.
    pub ranker: Ranker,
    encoders: FittedEncoders,
    lists: ListFormat,
    stages: Vec<String>,
    outputs: Vec<ScoreColumn>,
    /// For each feature of the schema, the part of a request that it comes with.
    parts: Vec<Part>,
}

/// What a trained model is made of.
#[derive(Debug)]
pub struct ModelParts {
    /// The model's configuration.
    pub config: EsmmConfig,
    /// Its weights.
    pub weights: StateDict,
    /// What was fitted on the training rows.
    pub encoders: FittedEncoders,
    /// How lists are written in text.
    pub lists: ListFormat,
    /// Names of the stages, `click` and `conversion` for two.
    pub stages: Vec<String>,
}

impl RankModel {
    /// Puts a model together. `per_candidate` names features of the context that differ between the candidates of a request.
    ///
    /// # Errors
    /// As [`Ranker::new`]; encoders of another model.
    pub fn new(parts: ModelParts, per_candidate: &[String]) -> Result<Self, RankError> {
        let ModelParts { config, weights, encoders, lists, stages } = parts;
        if encoders.schema() != &config.schema {
            let reason = "the encoders do not belong to the model: their features or sizes are others";
            return Err(RankError::Mismatch(reason.to_owned()));
        }
        if stages.len() != config.stages {
            let reason = format!("the model has {} stages, {} have names", config.stages, stages.len());
            return Err(RankError::Mismatch(reason));
        }
        let ranker = Ranker::new(&config, weights, per_candidate)?;
        let parts = config.schema.features().iter().map(|feature| ranker.part_of(feature)).collect();
        let outputs = ScoreColumn::all(&stages);
        Ok(Self { ranker, encoders, lists, stages, outputs, parts })
    }

    /// Names of the stages.
    pub fn stages(&self) -> &[String] {
        &self.stages
    }

    /// The columns of scores, those of `esmm predict`.
    pub fn outputs(&self) -> &[ScoreColumn] {
        &self.outputs
    }

    /// How lists are written in text.
    pub fn lists(&self) -> ListFormat {
        self.lists
    }

    /// The features of a part: what was asked for, and what the model knows, in the schema's order.
    pub fn features(&self, part: Part) -> impl Iterator<Item = (&FeatureSpec, &Feature)> {
        let features = self.encoders.specs().iter().zip(self.encoders.schema().features());
        features.zip(&self.parts).filter(move |(_, other)| **other == part).map(|(feature, _)| feature)
    }

    /// The columns that a part reads, each once.
    pub fn columns(&self, part: Part) -> Vec<&str> {
        let mut names = Vec::new();
        for column in self.features(part).flat_map(|(spec, _)| spec.columns()) {
            if !names.contains(&column) {
                names.push(column);
            }
        }
        names
    }

    /// Encodes the columns of a part, by the rules for files. `source` names them in messages.
    ///
    /// # Errors
    /// A column that is missing, one of another length than `rows`, and values that the encoders refuse; the error names
    /// row and column.
    pub fn encode(
        &self,
        part: Part,
        source: &str,
        rows: usize,
        columns: &[(&str, ArrayRef)],
    ) -> Result<Encoded, RankError> {
        if self.columns(part).is_empty() {
            return Ok(Encoded::of_rows(rows));
        }
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, values)| Field::new(*name, values.data_type().clone(), true))
            .collect();
        let arrays = columns.iter().map(|(_, values)| values.clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
        let batch = batch.map_err(|error| RankError::request(source, error, "columns of one length"))?;
        let origin = Origin::rows(Path::new(source).into(), 1);
        self.encode_chunk(part, &Chunk::new(batch, origin, self.lists, 0))
    }

    /// Encodes the features of a part of a chunk.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_chunk(&self, part: Part, chunk: &Chunk) -> Result<Encoded, RankError> {
        let names: Vec<&str> = self.features(part).map(|(spec, _)| spec.name.as_str()).collect();
        let wanted = |spec: &FeatureSpec| names.contains(&spec.name.as_str());
        Ok(Encoded::new(self.encoders.encode_some(chunk, wanted)?))
    }
}
