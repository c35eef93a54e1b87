//! A trained model with everything that it needs to rank: engine, encoders, names.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use esmm_core::{EsmmConfig, Feature, StateDict};
use esmm_data::{Chunk, FeatureSpec, FittedEncoders, Origin, SourceSpec, Spelling};

use esmm_run::correction::Correction;

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
    format: SourceSpec,
    spelling: Arc<Spelling>,
    stages: Vec<String>,
    outputs: Vec<ScoreColumn>,
    /// For each feature, the part of a request that it comes with.
    parts: Vec<Part>,
}

/// What a trained model is made of.
#[derive(Debug)]
pub struct ModelParts {
    /// The model's configuration.
    pub config: EsmmConfig,
    /// Its weights, or those of several models whose probabilities are averaged.
    pub weights: Vec<StateDict>,
    /// What was fitted on the training rows.
    pub encoders: FittedEncoders,
    /// How the files of the training were written, lists and spelling of cells among it; its paths are not read.
    pub format: SourceSpec,
    /// Names of the stages, `click` and `conversion` for two.
    pub stages: Vec<String>,
    /// How its probabilities are corrected, where they are.
    pub correction: Option<Correction>,
}

impl RankModel {
    /// Puts a model together. `per_candidate` names features of the context that differ between the candidates of a request.
    ///
    /// # Errors
    /// As [`Ranker::new`]; encoders of another model.
    pub fn new(parts: ModelParts, per_candidate: &[String]) -> Result<Self, RankError> {
        let ModelParts { config, weights, encoders, format, stages, correction } = parts;
        if encoders.schema() != &config.schema {
            let reason = "the encoders do not belong to the model: their features or sizes are others";
            return Err(RankError::Mismatch(reason.to_owned()));
        }
        if stages.len() != config.stages {
            let reason = format!("the model has {} stages, {} have names", config.stages, stages.len());
            return Err(RankError::Mismatch(reason));
        }
        let ranker = Ranker::ensemble(&config, weights, per_candidate)?;
        let ranker = match correction {
            Some(correction) => ranker.corrected(correction)?,
            None => ranker,
        };
        let parts = config.schema.features().iter().map(|feature| ranker.part_of(feature)).collect();
        let outputs = ScoreColumn::all(&stages);
        let spelling = Arc::new(format.spelling.clone());
        Ok(Self { ranker, encoders, format, spelling, stages, outputs, parts })
    }

    /// Names of the stages.
    pub fn stages(&self) -> &[String] {
        &self.stages
    }

    /// The columns of scores, those of `esmm predict`.
    pub fn outputs(&self) -> &[ScoreColumn] {
        &self.outputs
    }

    /// Files of rows that are written as those of the training were.
    pub fn source(&self, paths: &[String]) -> SourceSpec {
        SourceSpec { paths: paths.to_vec(), groups: None, ..self.format.clone() }
    }

    /// How cells become values.
    pub fn spelling(&self) -> &Spelling {
        &self.spelling
    }

    /// The features of a part: what was asked for, and what the model knows, in the schema's order.
    pub fn features(&self, part: Part) -> impl Iterator<Item = (&FeatureSpec, &Feature)> {
        let features = self.encoders.schema().features();
        let specs = self.encoders.specs().iter().zip(features).zip(&self.parts);
        specs.filter(move |(_, other)| **other == part).map(|(feature, _)| feature)
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

    /// Encodes the columns of a part, by the rules for files. `source` names them in messages. Something stands in for values
    /// that a feature does not take, as its [`Outside`](esmm_data::Outside) says; [`Encoded::counts`] counts them.
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
        let origin = Origin::rows(Path::new(source).into(), 0);
        let chunk = Chunk::new(batch, origin, self.format.lists, 0).spelled(&self.spelling);
        self.encode_chunk(part, &chunk)
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
