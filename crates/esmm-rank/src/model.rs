//! A trained model with everything that it needs to rank: engine, encoders, names.

use std::ops::Range;
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
    /// For each specification, the part of a request that it comes with, and its first feature of the schema.
    parts: Vec<(Part, usize)>,
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
        let Some(places) = places(encoders.specs(), config.schema.features()) else {
            let reason = "the encoders do not belong to the model: their features have other names";
            return Err(RankError::Mismatch(reason.to_owned()));
        };
        let per_candidate = written_out(per_candidate, encoders.specs(), &places, config.schema.features());
        let ranker = Ranker::ensemble(&config, weights, &per_candidate)?;
        let ranker = match correction {
            Some(correction) => ranker.corrected(correction)?,
            None => ranker,
        };
        let part = |place: &Range<usize>| ranker.part_of(&config.schema.features()[place.start]);
        let parts = places.iter().map(|place| (part(place), place.start)).collect();
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

    /// The features of a part: what was asked for, and what the model knows (of numbers in pieces the first), in the schema's
    /// order.
    pub fn features(&self, part: Part) -> impl Iterator<Item = (&FeatureSpec, &Feature)> {
        let features = self.encoders.schema().features();
        let specs = self.encoders.specs().iter().zip(&self.parts);
        specs
            .filter(move |(_, (other, _))| *other == part)
            .map(|(spec, (_, first))| (spec, &features[*first]))
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

/// For each specification, its features of the schema: one, or `name[1]`, `name[2]`, ... of a number in pieces. `None` where
/// the names are others.
fn places(specs: &[FeatureSpec], features: &[Feature]) -> Option<Vec<Range<usize>>> {
    let mut places = Vec::with_capacity(specs.len());
    let mut start = 0;
    for spec in specs {
        let rest = |feature: &Feature| feature.name().strip_prefix(spec.name.as_str()).map(str::to_owned);
        let count = match rest(features.get(start)?)?.as_str() {
            "" => 1,
            _ => {
                let is_piece = |(place, feature): &(usize, &Feature)| {
                    rest(feature).is_some_and(|rest| rest == format!("[{}]", place + 1))
                };
                features[start..].iter().enumerate().take_while(is_piece).count()
            }
        };
        if count == 0 {
            return None;
        }
        places.push(start..start + count);
        start += count;
    }
    (start == features.len()).then_some(places)
}

/// Names of specifications as those of their features; others stay as they are.
fn written_out(
    names: &[String],
    specs: &[FeatureSpec],
    places: &[Range<usize>],
    features: &[Feature],
) -> Vec<String> {
    let mut all = Vec::new();
    for name in names {
        match specs.iter().position(|spec| spec.name == *name) {
            None => all.push(name.clone()),
            Some(spec) => {
                all.extend(features[places[spec].clone()].iter().map(|feature| feature.name().to_owned()));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use esmm_core::Side;
    use esmm_data::{DenseTransform, FeatureKind, Outside};

    use super::*;

    #[test]
    fn numbers_in_pieces_are_several_features_of_one_specification() {
        let spec = |name: &str| FeatureSpec {
            name: name.to_owned(),
            column: name.to_owned(),
            side: Side::User,
            kind: FeatureKind::Dense { transform: DenseTransform::None, missing: None },
            outside: Outside::Clip,
        };
        let feature = |name: &str| Feature::dense(name, Side::User);
        let specs = [spec("age"), spec("price")];
        let features = ["age[1]", "age[2]", "price"].map(feature);
        assert_eq!(places(&specs, &features), Some(vec![0..2, 2..3]));
        let names = written_out(&["age".to_owned(), "x".to_owned()], &specs, &[0..2, 2..3], &features);
        assert_eq!(names, ["age[1]", "age[2]", "x"]);
        for wrong in [vec!["age[1]"], vec!["age", "rate"], vec!["age[2]", "price"], vec!["age", "price", "x"]]
        {
            let features: Vec<Feature> = wrong.iter().map(|name| feature(name)).collect();
            assert_eq!(places(&specs, &features), None, "{wrong:?}");
        }
    }
}
