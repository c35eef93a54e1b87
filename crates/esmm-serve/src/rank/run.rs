//! One request of `/v1/rank` through a model.

use esmm_data::{FeatureCounts, FeatureKind, nearest};
use esmm_rank::{Encoded, Lookup, Part, RankError, RankModel, Request, ScoreKind, Scratch, best};

use super::answer::{Answer, RankedItem};
use super::columns::{BadValue, bag, single};
use super::request::{By, Item, ItemId, RankRequest};
use super::value::{Fields, Value};
use crate::model::Loaded;

/// Why a request is refused: always its own fault.
pub(crate) type Refusal = String;

/// Memory of one worker.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    pub(crate) scratch: Scratch,
    values: Vec<f32>,
    places: Vec<u32>,
    lookup: Lookup,
}

/// The candidates of a request, sorted by where their features come from.
#[derive(Default)]
struct Candidates<'a> {
    /// Places in the catalogue.
    listed: Vec<u32>,
    /// Objects with all features of an item.
    described: Vec<&'a Fields<'a>>,
    /// Place in the request of each candidate, the listed ones first.
    index: Vec<usize>,
    unknown: Vec<String>,
}

/// Ranks the candidates of a request.
pub(crate) fn rank<'a>(
    loaded: &Loaded,
    request: &'a RankRequest<'a>,
    worker: &mut Worker,
) -> Result<Answer<'a>, Refusal> {
    let model = &loaded.model;
    let order = Order::of(loaded, &request.by)?;
    let candidates = Candidates::of(loaded, request, &mut worker.lookup)?;
    let sides = [("user", &request.user), ("context", &request.context)];
    let query = encode(model, Part::Query, "user and context", &[sides.map(|(_, values)| values)])?;
    let rows: Vec<[&Fields<'_>; 1]> = candidates.described.iter().map(|item| [*item]).collect();
    let source = if candidates.listed.is_empty() { "items" } else { "items with features" };
    let items = if rows.is_empty() { Encoded::nothing() } else { encode(model, Part::Item, source, &rows)? };
    let pairs = encode_pairs(loaded, request, &candidates)?;
    let (query_columns, item_columns, pair_columns) = (query.borrow(), items.borrow(), pairs.borrow());
    let asked = Request {
        query: query_columns.columns(),
        listed: loaded.catalogue.as_ref().map(|catalogue| (&catalogue.items, candidates.listed.as_slice())),
        items: item_columns.columns(),
        pairs: pair_columns.columns(),
    };
    let scores = model.ranker.score(&asked, &mut worker.scratch).map_err(|error| match error {
        RankError::NotANumber { candidate } => {
            RankError::NotANumber { candidate: candidates.index[candidate] }.to_string()
        }
        other => other.to_string(),
    })?;
    let numbers = order.numbers(loaded, request, &candidates)?;
    worker.values.clear();
    for candidate in 0..scores.len() {
        let factor = numbers.as_ref().map_or(1.0, |numbers| numbers[candidate]);
        worker.values.push(scores.get(candidate, order.kind) * factor);
    }
    best(&worker.values, request.top.unwrap_or(usize::MAX), &mut worker.places);
    let mut ranked = Vec::with_capacity(worker.places.len());
    let mut columns = Vec::with_capacity(worker.places.len() * model.outputs().len());
    for place in &worker.places {
        let candidate = *place as usize;
        let index = candidates.index[candidate];
        let value = numbers.as_ref().map(|_| worker.values[candidate]);
        ranked.push(RankedItem { index, id: item_id(loaded, request, index), value });
        columns.extend(model.outputs().iter().map(|output| scores.get(candidate, output.kind)));
    }
    Ok(Answer {
        items: ranked,
        scores: columns,
        candidates: scores.len(),
        unknown_items: candidates.unknown,
        counts: counts([&query, &items, &pairs]),
    })
}

/// What candidates are ordered by, resolved.
struct Order<'a> {
    kind: ScoreKind,
    value: Option<&'a str>,
}

impl<'a> Order<'a> {
    fn of(loaded: &Loaded, by: &'a By) -> Result<Self, Refusal> {
        let last = ScoreKind::Reach(loaded.model.stages().len() - 1);
        match by {
            By::Last => Ok(Self { kind: last, value: None }),
            By::Value(name) => Ok(Self { kind: last, value: Some(name) }),
            By::Column(name) => {
                let outputs = loaded.model.outputs();
                match outputs.iter().find(|output| output.name == *name) {
                    Some(output) => Ok(Self { kind: output.kind, value: None }),
                    None => {
                        let names = outputs.iter().map(|output| output.name.as_str());
                        let hint = nearest(name, names);
                        Err(format!(
                            "by = `{name}` is no score{hint}; {{\"value\": \"{name}\"}} ranks by an expected value"
                        ))
                    }
                }
            }
        }
    }

    /// The number that each candidate's probability is multiplied with.
    fn numbers(
        &self,
        loaded: &Loaded,
        request: &RankRequest<'_>,
        candidates: &Candidates<'_>,
    ) -> Result<Option<Vec<f32>>, Refusal> {
        let Some(name) = self.value else { return Ok(None) };
        let mut numbers = Vec::with_capacity(candidates.index.len());
        for (candidate, index) in candidates.index.iter().enumerate() {
            let own = match &request.items[*index] {
                Item::Features(values) => values.get(name),
                Item::Id(_) => None,
            };
            let listed = candidates.listed.get(candidate);
            let number = match (own, listed) {
                (Some(value), _) => {
                    let number = match value {
                        Value::Text(text) => loaded.model.spelling().number(text),
                        Value::Number(number) => number.as_f64(),
                        Value::Null | Value::Bool(_) | Value::List(_) | Value::Object(_) => None,
                    };
                    let number = number.map(|number| number as f32);
                    number.filter(|number| number.is_finite()).ok_or_else(|| {
                        format!("items[{index}]: `{name}`: found {value}, allowed is a finite number")
                    })?
                }
                (None, Some(place)) => loaded
                    .catalogue
                    .as_ref()
                    .and_then(|catalogue| catalogue.items.values(name))
                    .map(|values| values[*place as usize])
                    .ok_or_else(|| {
                        format!(
                            "items[{index}]: the catalogue has no column of values `{name}`: name it with --values, or send \
                             the number in the item"
                        )
                    })?,
                (None, None) => {
                    return Err(format!("items[{index}]: `{name}` is missing, and `by` asks for its value"));
                }
            };
            numbers.push(number);
        }
        Ok(Some(numbers))
    }
}

impl<'a> Candidates<'a> {
    fn of(loaded: &Loaded, request: &'a RankRequest<'a>, lookup: &mut Lookup) -> Result<Self, Refusal> {
        let columns = loaded.model.columns(Part::Item);
        let mut found = Self::default();
        // Places in the request of those that are looked up, and of those with features.
        let (mut asked, mut described) = (Vec::new(), Vec::new());
        lookup.clear();
        for (index, item) in request.items.iter().enumerate() {
            let sent;
            let id = match item {
                Item::Id(id) => id,
                Item::Features(values) if columns.iter().all(|column| values.has(column)) => {
                    found.described.push(values);
                    described.push(index);
                    continue;
                }
                Item::Features(values) => {
                    sent = loaded.key().and_then(|key| values.get(key)).and_then(ItemId::of);
                    match &sent {
                        Some(id) => id,
                        None => return Err(missing(&columns, values, index, loaded)),
                    }
                }
            };
            if loaded.catalogue.is_none() {
                return Err(format!(
                    "items[{index}]: an id alone needs a catalogue, and the service has none (--items FILE --key COLUMN): send \
                     the item's features, {}",
                    listed(&columns)
                ));
            }
            id.with_text(|id| lookup.push(id));
            asked.push(index);
        }
        if let Some(catalogue) = &loaded.catalogue {
            catalogue.items.find(lookup);
        }
        for ((index, id), place) in asked.into_iter().zip(lookup.ids()).zip(lookup.places()) {
            match place.or_else(|| loaded.place_as_spelled(id)) {
                Some(place) => {
                    found.listed.push(place);
                    found.index.push(index);
                }
                None => found.unknown.push(id.to_owned()),
            }
        }
        found.index.extend(described);
        Ok(found)
    }
}

fn missing(columns: &[&str], values: &Fields<'_>, index: usize, loaded: &Loaded) -> Refusal {
    let lacks = columns.iter().find(|column| !values.has(column));
    let column = lacks.copied().unwrap_or_default();
    let hint = match loaded.key() {
        Some(key) => format!("; or send `{key}`, its id in the catalogue"),
        None => String::new(),
    };
    format!("items[{index}]: `{column}` is missing{}{hint}", spelled_otherwise(column, values.names()))
}

/// What is sent in place of a column, if it is nearly the same name.
fn spelled_otherwise<'a>(column: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    let hint = nearest(column, names);
    if hint.starts_with(", did you mean") { hint.replace("did you mean", "found is") } else { String::new() }
}

fn listed(columns: &[&str]) -> String {
    columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ")
}

fn item_id<'a>(loaded: &Loaded, request: &'a RankRequest<'a>, index: usize) -> Option<ItemId<'a>> {
    match &request.items[index] {
        Item::Id(id) => Some(id.clone()),
        Item::Features(values) => ItemId::of(values.get(loaded.key()?)?),
    }
}

fn encode_pairs(
    loaded: &Loaded,
    request: &RankRequest<'_>,
    candidates: &Candidates<'_>,
) -> Result<Encoded, Refusal> {
    let columns = loaded.model.columns(Part::Pair);
    if columns.is_empty() || candidates.index.is_empty() {
        return Ok(Encoded::nothing());
    }
    let mut rows = Vec::with_capacity(candidates.index.len());
    for index in &candidates.index {
        match &request.items[*index] {
            Item::Features(values) => rows.push([values]),
            Item::Id(_) => {
                return Err(format!(
                    "items[{index}]: {} differ between candidates: send each item as an object with its id and these",
                    listed(&columns)
                ));
            }
        }
    }
    encode(&loaded.model, Part::Pair, "items", &rows)
}

/// Encodes the columns of a part; each value is in one of a row's objects.
pub(crate) fn encode<const N: usize>(
    model: &RankModel,
    part: Part,
    source: &str,
    rows: &[[&Fields<'_>; N]],
) -> Result<Encoded, Refusal> {
    let mut columns = Vec::new();
    for column in model.columns(part) {
        let mut values = Vec::with_capacity(rows.len());
        for (row, objects) in rows.iter().enumerate() {
            let place =
                || if part == Part::Query { source.to_owned() } else { format!("{source}, row {row}") };
            let mut found = objects.iter().filter_map(|object| object.get(column));
            let Some(value) = found.next() else {
                let near = spelled_otherwise(column, objects.iter().flat_map(|object| object.names()));
                return Err(format!(
                    "{}: `{column}` is missing{near} (null stands for a missing value)",
                    place()
                ));
            };
            // Which of the two counts would be a guess.
            if found.next().is_some() {
                return Err(format!("{}: `{column}` is there twice, in both", place()));
            }
            values.push(value);
        }
        let array = match form(model, part, column) {
            Form::Single => single(&values),
            Form::Bag { weighted } => bag(&values, weighted),
        };
        let array = array.map_err(|BadValue { row, found, allowed }| {
            let row = if part == Part::Query { String::new() } else { format!(", row {row}") };
            format!("{source}{row}: `{column}`: found {found}, allowed is {allowed}")
        })?;
        columns.push((column, array));
    }
    model.encode(part, source, rows.len(), &columns).map_err(|error| error.to_string())
}

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Single,
    Bag { weighted: bool },
}

/// A column that several features read is a bag if one of them takes bags.
pub(crate) fn form(model: &RankModel, part: Part, column: &str) -> Form {
    let mut found = Form::Single;
    for (spec, _) in model.features(part).filter(|(spec, _)| spec.columns().any(|other| other == column)) {
        if let FeatureKind::Sparse { bag: Some(_), weighted, weights_column, .. } = &spec.kind {
            let inside = *weighted && weights_column.is_none();
            found = Form::Bag { weighted: inside && spec.column == column };
        }
    }
    found
}

/// What the values of each feature were to the model.
pub(crate) fn counts(parts: [&Encoded; 3]) -> Vec<FeatureCounts> {
    parts.into_iter().flat_map(|encoded| encoded.counts().iter().cloned()).collect()
}
