//! The engine: a user and candidates in, probabilities out.

use esmm_core::{EsmmConfig, Feature, Side, StateDict};

use esmm_run::correction::Correction;

use crate::aligned::Aligned;
use crate::catalogue::Catalogue;
use crate::error::RankError;
use crate::funnel::Funnel;
use crate::kernel::{Bend, Matrix};
use crate::part::{Columns, Part, Share, Tables};
use crate::score::{Score, Scratch};
use crate::simd::Instructions;
use crate::weights::{FoldedLayer, FoldedModel};

/// A model that scores candidates for one user: batch norm folded into the weights, the first layer cut into what the
/// query, the item and their pair bring. No autodiff; one thread a request.
///
/// # Example
/// ```
/// use esmm_core::{EsmmConfig, Feature, FeatureSchema, Side, SparseInput};
/// use esmm_rank::{Columns, Ranker, Request, Scratch};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schema = FeatureSchema::new(vec![
///     Feature::sparse("user", Side::User, 1000),
///     Feature::sparse("item", Side::Item, 500),
/// ])?;
/// let config = EsmmConfig::new(schema);
/// let weights = config.init::<burn_ndarray::NdArray>(&Default::default())?.state_dict();
/// let ranker = Ranker::new(&config, weights, &[])?;
///
/// let user = [SparseInput::Single(&[17])];
/// let items = [SparseInput::Single(&[3, 4, 5])];
/// let request = Request {
///     query: Columns { rows: 1, sparse: &user, dense: &[] },
///     listed: None,
///     items: Columns { rows: 3, sparse: &items, dense: &[] },
///     pairs: Columns::default(),
/// };
/// let mut scratch = Scratch::default();
/// let scores = ranker.score(&request, &mut scratch)?;
/// assert!((0..3).all(|item| scores.reach(item)[1] <= scores.reach(item)[0]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Ranker {
    config: EsmmConfig,
    per_candidate: Vec<String>,
    pub(crate) tables: Tables,
    pub(crate) query: Share,
    pub(crate) item: Share,
    pub(crate) pair: Share,
    /// What the sums of the first layer begin with, all towers side by side and padded.
    pub(crate) start: Vec<f32>,
    /// Outputs of the first layer of a tower, and floats from one tower to the next.
    pub(crate) first_width: usize,
    pub(crate) first_stride: usize,
    pub(crate) bends: Vec<Bend>,
    /// One a tower.
    pub(crate) towers: Vec<Tower>,
    pub(crate) funnel: Funnel,
    pub(crate) instructions: Instructions,
    pub(crate) correction: Option<Correction>,
}

/// What follows the first layer in one tower.
#[derive(Debug)]
pub(crate) struct Tower {
    pub(crate) hidden: Vec<Hidden>,
    /// Weights of the logit, padded, and its bias; `None` where the first layer is the last.
    pub(crate) output: Option<(Vec<f32>, f32)>,
}

/// A hidden layer after the first.
#[derive(Debug)]
pub(crate) struct Hidden {
    pub(crate) weight: Matrix,
    pub(crate) bias: Vec<f32>,
    pub(crate) bend: Bend,
    pub(crate) outputs: usize,
}

/// One user with candidates. The candidates are the listed items first, then those of `items`.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Features of user and context: one row.
    pub query: Columns<'a>,
    /// Items of a catalogue, by their places in it.
    pub listed: Option<(&'a Catalogue, &'a [u32])>,
    /// Features of items that are in no catalogue.
    pub items: Columns<'a>,
    /// Features of pairs, one row a candidate; without rows where the ranker has none.
    pub pairs: Columns<'a>,
}

/// Probabilities of all candidates of a request.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    /// Stages of the funnel, K.
    pub stages: usize,
    /// `p(stage k | stage k - 1)` of each candidate, `[N, K]`.
    pub conditional: &'a [f32],
    /// `p(stage k)` of each candidate given the impression, `[N, K]`.
    pub reach: &'a [f32],
}

impl Ranker {
    /// Takes the weights of a trained model. `per_candidate` names features of the context that differ between the
    /// candidates of one request, as their position.
    ///
    /// # Errors
    /// A configuration out of range, entries that do not fit it or hold NaN or infinity; a name that is no feature of the
    /// context.
    pub fn new(config: &EsmmConfig, weights: StateDict, per_candidate: &[String]) -> Result<Self, RankError> {
        Self::ensemble(config, vec![weights], per_candidate)
    }

    /// As [`new`](Self::new), of several models of one configuration whose probabilities are averaged: of each stage that of
    /// reaching it from the impression.
    ///
    /// # Errors
    /// As [`new`](Self::new), and no model at all.
    pub fn ensemble(
        config: &EsmmConfig,
        models: Vec<StateDict>,
        per_candidate: &[String],
    ) -> Result<Self, RankError> {
        for name in per_candidate {
            let mut features = config.schema.features().iter();
            if !features.any(|feature| feature.name() == name && feature.side() == Side::Context) {
                let context = config.schema.features().iter().filter(|other| other.side() == Side::Context);
                let names: Vec<&str> = context.map(Feature::name).collect();
                let allowed = format!("a feature of the context ({})", names.join(", "));
                return Err(RankError::request("features per candidate", format!("`{name}`"), allowed));
            }
        }
        let members = models.len();
        let folded = models.into_iter().map(|weights| FoldedModel::new(config, weights));
        let Some(folded) = FoldedModel::join(folded.collect::<Result<_, _>>()?) else {
            return Err(RankError::request("models", "none", "at least one"));
        };
        let FoldedModel { tables, mut layers } = folded;
        let first = layers.remove(0);
        let share =
            |part: Part| Share::new(config, &first, |feature| part_of(feature, per_candidate) == part);
        Ok(Self {
            query: share(Part::Query),
            item: share(Part::Item),
            pair: share(Part::Pair),
            start: first.iter().flat_map(FoldedLayer::padded_bias).collect(),
            first_width: first[0].outputs,
            first_stride: crate::kernel::padded(first[0].outputs),
            bends: first.iter().map(|tower| tower.bend).collect(),
            towers: (0..first.len()).map(|tower| Tower::new(&layers, tower)).collect(),
            funnel: Funnel { stages: config.stages, members },
            instructions: Instructions::detect(),
            correction: None,
            per_candidate: per_candidate.to_vec(),
            config: config.clone(),
            tables: tables.into_iter().map(aligned).collect(),
        })
    }

    /// The same with corrected probabilities, as `esmm calibrate` fits them.
    ///
    /// # Errors
    /// A correction of another number of stages.
    pub fn corrected(self, correction: Correction) -> Result<Self, RankError> {
        let (found, stages) = (correction.stages.len(), self.stages());
        if found != stages {
            let reason = format!("the model has {stages} stages, the correction is one of {found}");
            return Err(RankError::Mismatch(reason));
        }
        Ok(Self { correction: Some(correction), ..self })
    }

    /// How its probabilities are corrected.
    pub fn correction(&self) -> Option<&Correction> {
        self.correction.as_ref()
    }

    /// The model's configuration.
    pub fn config(&self) -> &EsmmConfig {
        &self.config
    }

    /// Stages of the funnel, K.
    pub fn stages(&self) -> usize {
        self.config.stages
    }

    /// The part of a request that a feature comes with.
    pub fn part_of(&self, feature: &Feature) -> Part {
        part_of(feature, &self.per_candidate)
    }

    /// Bytes of weights and tables.
    pub fn bytes(&self) -> u64 {
        let tables = self.tables.iter().flatten().map(|table| size_of_val(&table[..]) as u64);
        let shares = [&self.query, &self.item, &self.pair].map(Share::bytes);
        let hidden = self.towers.iter().flat_map(|tower| &tower.hidden).map(|hidden| hidden.weight.bytes());
        tables.chain(shares).chain(hidden).sum()
    }

    /// Multiplications of the layers after the first for one candidate, padding included.
    pub(crate) fn work(&self) -> u64 {
        let hidden = self.towers.iter().flat_map(|tower| &tower.hidden);
        hidden.map(|hidden| (hidden.weight.inputs * hidden.weight.stride) as u64).sum()
    }

    /// Floats of an item's share of the first layer, padding included.
    pub(crate) fn share_len(&self) -> usize {
        self.start.len()
    }

    /// Scores all candidates of a request. Once `scratch` has seen a request of this size, nothing is allocated.
    ///
    /// # Errors
    /// Columns that do not fit the model, places beyond the catalogue, a catalogue of another model, values that are not
    /// finite or that drive the sums out of the range of f32. Never NaN.
    pub fn score<'s>(
        &self,
        request: &Request<'_>,
        scratch: &'s mut Scratch,
    ) -> Result<Scores<'s>, RankError> {
        self.check(request)?;
        self.instructions.run(Score { ranker: self, request, scratch: &mut *scratch });
        let stages = self.stages();
        let scores = Scores { stages, conditional: &scratch.conditional, reach: &scratch.reach };
        match scores.reach.iter().position(|prob| prob.is_nan()) {
            None => Ok(scores),
            Some(place) => Err(RankError::NotANumber { candidate: place / stages }),
        }
    }

    fn check(&self, request: &Request<'_>) -> Result<(), RankError> {
        if request.query.rows != 1 {
            return Err(RankError::request("rows of the query", request.query.rows, "1"));
        }
        self.query.check(Part::Query, &request.query)?;
        let mut listed = 0;
        if let Some((catalogue, places)) = request.listed {
            listed = places.len();
            if catalogue.share_len() != self.share_len() {
                let allowed = "a catalogue that was made with this model".to_owned();
                return Err(RankError::request("catalogue", "another model's", allowed));
            }
            if let Some(place) = places.iter().find(|place| **place as usize >= catalogue.len()) {
                let allowed = format!("places of {} items", catalogue.len());
                return Err(RankError::request("listed items", place, allowed));
            }
        }
        if request.items.rows > 0 {
            self.item.check(Part::Item, &request.items)?;
        }
        if !self.pair.is_empty() {
            if request.pairs.rows != listed + request.items.rows {
                let allowed = format!("{}, one a candidate", listed + request.items.rows);
                return Err(RankError::request("rows of pairs", request.pairs.rows, allowed));
            }
            self.pair.check(Part::Pair, &request.pairs)?;
        }
        Ok(())
    }
}

impl Request<'_> {
    /// Number of candidates, N.
    pub fn candidates(&self) -> usize {
        self.listed.map_or(0, |(_, places)| places.len()) + self.items.rows
    }
}

impl Scores<'_> {
    /// Number of candidates, N.
    pub fn len(&self) -> usize {
        self.reach.len() / self.stages
    }

    /// Whether there is no candidate.
    pub fn is_empty(&self) -> bool {
        self.reach.is_empty()
    }

    /// `p(stage k)` of a candidate: pCTR, then pCTCVR for two stages.
    ///
    /// # Panics
    /// When there is no such candidate.
    pub fn reach(&self, candidate: usize) -> &[f32] {
        &self.reach[candidate * self.stages..][..self.stages]
    }

    /// `p(stage k | stage k - 1)` of a candidate: pCTR, then pCVR for two stages.
    ///
    /// # Panics
    /// When there is no such candidate.
    pub fn conditional(&self, candidate: usize) -> &[f32] {
        &self.conditional[candidate * self.stages..][..self.stages]
    }
}

impl Tower {
    fn new(layers: &[Vec<FoldedLayer>], tower: usize) -> Self {
        let Some((last, hidden)) = layers.split_last() else {
            return Self { hidden: Vec::new(), output: None };
        };
        let hidden = hidden.iter().map(|layer| {
            let layer = &layer[tower];
            let (weight, bias) = (layer.matrix(), layer.padded_bias());
            Hidden { weight, bias, bend: layer.bend, outputs: layer.outputs }
        });
        let last = &last[tower];
        let column = last.matrix();
        let mut weights: Vec<f32> = (0..last.inputs).map(|input| column.row(input)[0]).collect();
        weights.resize(crate::kernel::padded(last.inputs), 0.0);
        Self { hidden: hidden.collect(), output: Some((weights, last.bias[0])) }
    }
}

/// The same tables where rows begin with cache lines, one at a time, so that only one of them is in memory twice.
fn aligned(tables: Vec<Vec<f32>>) -> Vec<Aligned<f32>> {
    tables.into_iter().map(|table| Aligned::copy_of(&table)).collect()
}

fn part_of(feature: &Feature, per_candidate: &[String]) -> Part {
    match feature.side() {
        Side::Item => Part::Item,
        Side::Context if per_candidate.iter().any(|name| name == feature.name()) => Part::Pair,
        Side::User | Side::Context => Part::Query,
    }
}
