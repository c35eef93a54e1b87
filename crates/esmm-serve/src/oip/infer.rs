//! Tensors in, scores of all candidates in their order out.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use esmm_data::{FeatureCounts, nearest};
use esmm_rank::{Encoded, Part, Request};

use super::tensor::{DataType, Tensor};
use crate::model::Loaded;
use crate::rank::run::{Refusal, Worker, counts};

/// Candidates that are scored on a thread that also answers others; more go to a thread of their own.
pub(super) const SHORT: usize = 4096;

/// An input or an output as the protocol describes it; -1 stands for any length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) datatype: &'static str,
    pub(crate) shape: Vec<i64>,
}

/// The scores of an answer: a column of N values each.
#[derive(Debug)]
pub(crate) struct Inferred {
    pub(crate) outputs: Vec<(String, Vec<f32>)>,
    pub(crate) candidates: usize,
    /// What the values of each feature were to the model.
    pub(crate) counts: Vec<FeatureCounts>,
}

/// What the model takes: columns of the query with one value, columns of the items with N; with a catalogue their ids
/// alone may stand for the columns of the items.
pub(crate) fn inputs(loaded: &Loaded) -> Vec<Described> {
    let mut inputs = Vec::new();
    for (part, rows) in [(Part::Query, 1), (Part::Item, -1), (Part::Pair, -1)] {
        for column in loaded.model.columns(part) {
            let mut features = loaded.model.features(part);
            let dense = features.any(|(spec, feature)| {
                spec.column == column && matches!(feature, esmm_core::Feature::Dense(_))
            });
            let datatype = if dense { DataType::Fp64.name() } else { DataType::Bytes.name() };
            inputs.push(Described { name: column.to_owned(), datatype, shape: vec![rows] });
        }
    }
    if let Some(key) = loaded.key().filter(|key| !inputs.iter().any(|input| input.name == **key)) {
        inputs.push(Described { name: key.to_owned(), datatype: DataType::Bytes.name(), shape: vec![-1] });
    }
    inputs
}

/// What the model gives.
pub(crate) fn outputs(loaded: &Loaded) -> Vec<Described> {
    let outputs = loaded.model.outputs().iter();
    let described =
        |name: &String| Described { name: name.clone(), datatype: DataType::Fp32.name(), shape: vec![-1] };
    outputs.map(|output| described(&output.name)).collect()
}

/// Number of candidates that the tensors speak of.
pub(crate) fn candidates(tensors: &[Tensor]) -> usize {
    tensors.iter().map(|tensor| tensor.values.len()).max().unwrap_or(0)
}

/// Scores the candidates of a request; `wanted` names outputs, all if it is empty.
pub(crate) fn infer(
    loaded: &Loaded,
    tensors: &[Tensor],
    wanted: &[String],
    worker: &mut Worker,
) -> Result<Inferred, Refusal> {
    check(loaded, tensors)?;
    let model = &loaded.model;
    for name in wanted {
        if !model.outputs().iter().any(|output| output.name == *name) {
            let names = model.outputs().iter().map(|output| output.name.as_str());
            return Err(format!("output `{name}` is none of the model's{}", nearest(name, names)));
        }
    }
    let query = columns(loaded, Part::Query, tensors)?;
    let query = model
        .encode(Part::Query, "inputs of user and context", 1, &query)
        .map_err(|error| error.to_string())?;
    let described = columns(loaded, Part::Item, tensors);
    let key = loaded.key().and_then(|key| tensors.iter().find(|tensor| tensor.name == key));
    let (places, items) = match (described, key, &loaded.catalogue) {
        (Ok(described), ..) if !described.is_empty() => {
            let rows = described[0].1.len();
            (
                Vec::new(),
                model
                    .encode(Part::Item, "inputs of items", rows, &described)
                    .map_err(|error| error.to_string())?,
            )
        }
        (_, Some(key), Some(_)) => {
            let ids = cast(&key.values, &arrow::datatypes::DataType::Utf8)
                .map_err(|error| format!("input `{}`: {error}", key.name))?;
            let place = |(row, id): (usize, Option<&str>)| {
                let id = id.unwrap_or_default();
                let found = loaded.place(id);
                found
                    .ok_or_else(|| format!("input `{}`, row {row}: `{id}` is not in the catalogue", key.name))
            };
            let places =
                ids.as_string::<i32>().iter().enumerate().map(place).collect::<Result<Vec<_>, _>>()?;
            (places, Encoded::nothing())
        }
        (Err(missing), ..) => return Err(missing),
        (Ok(_), ..) => {
            return Err(
                "the model has no feature of items: there is nothing to tell candidates apart".to_owned()
            );
        }
    };
    let candidates = places.len() + items.rows();
    let pairs = columns(loaded, Part::Pair, tensors)?;
    let pairs =
        model.encode(Part::Pair, "inputs of pairs", candidates, &pairs).map_err(|error| error.to_string())?;
    let (query_columns, item_columns, pair_columns) = (query.borrow(), items.borrow(), pairs.borrow());
    let asked = Request {
        query: query_columns.columns(),
        listed: loaded.catalogue.as_ref().map(|listed| (&listed.items, places.as_slice())),
        items: item_columns.columns(),
        pairs: pair_columns.columns(),
    };
    let scores = model.ranker.score(&asked, &mut worker.scratch).map_err(|error| error.to_string())?;
    let wanted = model.outputs().iter().filter(|output| wanted.is_empty() || wanted.contains(&output.name));
    let outputs = wanted.map(|output| {
        let column = (0..scores.len()).map(|candidate| scores.get(candidate, output.kind)).collect();
        (output.name.clone(), column)
    });
    let outputs = outputs.collect();
    Ok(Inferred { outputs, candidates: scores.len(), counts: counts([&query, &items, &pairs]) })
}

fn check(loaded: &Loaded, tensors: &[Tensor]) -> Result<(), Refusal> {
    let known = inputs(loaded);
    for (place, tensor) in tensors.iter().enumerate() {
        let name = &tensor.name;
        if !known.iter().any(|input| input.name == *name) {
            let names = known.iter().map(|input| input.name.as_str());
            return Err(format!("input `{name}` is none of the model's{}", nearest(name, names)));
        }
        if tensors[..place].iter().any(|other| other.name == *name) {
            return Err(format!("input `{name}` is there twice"));
        }
        let wide = tensor.shape.iter().skip(1).any(|length| *length != 1);
        let rows = tensor.shape.first().copied();
        if wide || rows.is_none_or(|rows| usize::try_from(rows).ok() != Some(tensor.values.len())) {
            let (shape, found) = (&tensor.shape, tensor.values.len());
            return Err(format!(
                "input `{name}`: shape {shape:?} with {found} values, allowed is [rows] or [rows, 1]"
            ));
        }
    }
    Ok(())
}

/// The columns of a part.
fn columns<'a>(
    loaded: &'a Loaded,
    part: Part,
    tensors: &[Tensor],
) -> Result<Vec<(&'a str, ArrayRef)>, Refusal> {
    let find = |column: &'a str| {
        let tensor = tensors.iter().find(|tensor| tensor.name == column);
        let tensor = tensor.ok_or_else(|| format!("input `{column}` is missing"))?;
        Ok((column, tensor.values.clone()))
    };
    loaded.model.columns(part).into_iter().map(find).collect()
}
