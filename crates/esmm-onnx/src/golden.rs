//! A request with its answer, so that whoever runs the model elsewhere can see that it is the same.

use esmm_core::{EsmmConfig, Feature, SparseInput, StateDict};
use esmm_rank::{Columns, Ranker, Request, ScoreColumn, Scratch};
use esmm_run::correction::Correction;
use serde_json::{Map, Value, json};

use crate::error::OnnxError;
use crate::inputs::Who;

/// Candidates of the request.
const CANDIDATES: usize = 5;
/// Longest of its bags.
const LONGEST: usize = 3;

/// Columns of one side, and the inputs of the graph with the same values.
#[derive(Default)]
struct Side {
    singles: Vec<Vec<u32>>,
    bags: Vec<(Vec<usize>, Vec<u32>, Vec<f32>)>,
    /// A number for each dense feature and row, and the columns that the graph reads of it.
    dense: Vec<Vec<f32>>,
    dense_columns: Vec<Vec<f32>>,
    /// For each sparse feature in the schema's order: whether it is a bag, and its place among these.
    order: Vec<(bool, usize)>,
    inputs: Map<String, Value>,
}

/// The request by the inputs of the graph, and what the engine answers.
pub(crate) fn golden(
    config: &EsmmConfig,
    weights: Vec<StateDict>,
    stages: &[String],
    correction: Option<&Correction>,
) -> Result<Value, OnnxError> {
    let mut ranker = Ranker::ensemble(config, weights, &[])?;
    if let Some(correction) = correction {
        ranker = ranker.corrected(correction.clone())?;
    }
    let user = Side::of(config, Who::User, 1);
    let items = Side::of(config, Who::Items, CANDIDATES);
    let (user_sparse, item_sparse) = (user.sparse(), items.sparse());
    let (user_dense, item_dense) = (user.dense(), items.dense());
    let request = Request {
        query: Columns { rows: 1, sparse: &user_sparse, dense: &user_dense },
        listed: None,
        items: Columns { rows: CANDIDATES, sparse: &item_sparse, dense: &item_dense },
        pairs: Columns::default(),
    };
    let mut scratch = Scratch::default();
    let scores = ranker.score(&request, &mut scratch)?;
    let mut outputs = Map::new();
    for column in ScoreColumn::all(stages) {
        let values: Vec<f32> = (0..scores.len()).map(|item| scores.get(item, column.kind)).collect();
        outputs.insert(column.name, json!(values));
    }
    let inputs: Map<String, Value> = user.inputs.into_iter().chain(items.inputs).collect();
    Ok(json!({ "inputs": inputs, "outputs": outputs, "tolerance": 1e-6 }))
}

impl Side {
    /// Ids and values by closed forms: every table is read in several rows, bags are of all lengths.
    fn of(config: &EsmmConfig, who: Who, rows: usize) -> Self {
        let mut side = Self::default();
        let mut ranges = config.schema.row_ranges().into_iter();
        for (place, feature) in config.schema.features().iter().enumerate() {
            let len = match feature {
                Feature::Sparse(_) => ranges.next().map_or(1, |range| range.len),
                Feature::Dense(_) => 1,
            };
            if Who::of(feature) != who {
                continue;
            }
            let id = |index: usize| ((index * 7 + place * 3 + 1) % len) as u32;
            match feature {
                Feature::Dense(feature) => {
                    let number = |row: usize| (row + place) as f32 / 4.0 - 0.5;
                    // Positions lie among the bins.
                    let bins = feature.bins.map_or(f32::INFINITY, |bins| bins as f32);
                    let least = if feature.bins.is_some() { 0.0 } else { f32::NEG_INFINITY };
                    let numbers: Vec<f32> = (0..rows).map(|row| number(row).clamp(least, bins)).collect();
                    for column in 0..feature.width() {
                        let values = numbers.iter().filter_map(|number| feature.values(*number).nth(column));
                        side.dense_columns.push(values.collect());
                    }
                    side.dense.push(numbers);
                }
                Feature::Sparse(sparse) if sparse.bag.is_none() => {
                    side.order.push((false, side.singles.len()));
                    side.singles.push((0..rows).map(id).collect());
                }
                Feature::Sparse(sparse) => {
                    let (mut offsets, mut ids, mut weights) = (vec![0], Vec::new(), Vec::new());
                    let (mut padded_ids, mut padded_weights) = (Vec::new(), Vec::new());
                    for row in 0..rows {
                        let filled = (row + place) % (LONGEST + 1);
                        let bag: Vec<u32> = (0..filled).map(|item| id(row * 5 + item)).collect();
                        let weight: Vec<f32> = (0..filled).map(|item| 0.5 + item as f32 / 2.0).collect();
                        let pad = |len: usize| LONGEST - len;
                        padded_ids.push([bag.clone(), vec![0; pad(filled)]].concat());
                        padded_weights.push([weight.clone(), vec![0.0; pad(filled)]].concat());
                        ids.extend(bag);
                        weights.extend(weight);
                        offsets.push(ids.len());
                    }
                    side.order.push((true, side.bags.len()));
                    side.bags.push((offsets, ids, weights));
                    side.inputs.insert(format!("{}_ids", sparse.name), json!(padded_ids));
                    side.inputs.insert(format!("{}_weights", sparse.name), json!(padded_weights));
                }
            }
        }
        if !side.singles.is_empty() {
            side.inputs.insert(who.name().to_owned(), rows_of(&side.singles, rows));
        }
        if !side.dense.is_empty() {
            side.inputs.insert(format!("{}_dense", who.name()), rows_of(&side.dense_columns, rows));
        }
        side
    }

    fn sparse(&self) -> Vec<SparseInput<'_>> {
        let input = |(is_bag, place): &(bool, usize)| match is_bag {
            false => SparseInput::Single(&self.singles[*place]),
            true => {
                let (offsets, ids, weights) = &self.bags[*place];
                SparseInput::Bag { offsets, ids, weights: Some(weights) }
            }
        };
        self.order.iter().map(input).collect()
    }

    fn dense(&self) -> Vec<&[f32]> {
        self.dense.iter().map(Vec::as_slice).collect()
    }
}

/// Columns as rows.
fn rows_of<T: Copy + Into<Value>>(columns: &[Vec<T>], rows: usize) -> Value {
    let row = |row: usize| Value::Array(columns.iter().map(|column| column[row].into()).collect());
    Value::Array((0..rows).map(row).collect())
}
