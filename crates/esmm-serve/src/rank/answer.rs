//! What `/v1/rank` answers.

use std::collections::BTreeMap;

use esmm_data::FeatureCounts;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

/// The ranked candidates of one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The best first.
    pub(crate) items: Vec<RankedItem>,
    /// How many were scored.
    pub(crate) candidates: usize,
    /// Ids that are not in the catalogue; they were not scored.
    pub(crate) unknown_items: Vec<String>,
    /// What the values of each feature were to the model.
    pub(crate) counts: Vec<FeatureCounts>,
}

/// One candidate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RankedItem {
    /// Its place in the request, from 0.
    pub(crate) index: usize,
    /// Its id, where it has one.
    pub(crate) id: Option<String>,
    /// One a column of scores.
    pub(crate) scores: Vec<f32>,
    /// Its expected value, where that was asked for.
    pub(crate) value: Option<f32>,
}

/// A body: the model's version, and the answer to each request.
pub(crate) struct AnswerBody<'a> {
    pub(crate) model: &'a str,
    pub(crate) version: &'a str,
    pub(crate) names: Vec<&'a str>,
    pub(crate) answers: &'a [Answer],
    /// Whether the requests came as a list.
    pub(crate) many: bool,
}

struct Named<'a, T> {
    names: &'a [&'a str],
    value: &'a T,
}

impl Serialize for AnswerBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("version", self.version)?;
        match self.answers {
            [answer] if !self.many => write_answer(&mut map, answer, &self.names)?,
            answers => map.serialize_entry("answers", &List { names: &self.names, values: answers })?,
        }
        map.end()
    }
}

struct List<'a, T> {
    names: &'a [&'a str],
    values: &'a [T],
}

impl<'a, T> Serialize for List<'a, T>
where
    Named<'a, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.values.len()))?;
        for value in self.values {
            list.serialize_element(&Named { names: self.names, value })?;
        }
        list.end()
    }
}

impl Serialize for Named<'_, Answer> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write_answer(&mut map, self.value, self.names)?;
        map.end()
    }
}

fn write_answer<M: SerializeMap>(map: &mut M, answer: &Answer, names: &[&str]) -> Result<(), M::Error> {
    map.serialize_entry("candidates", &answer.candidates)?;
    map.serialize_entry("items", &List { names, values: &answer.items })?;
    if !answer.unknown_items.is_empty() {
        map.serialize_entry("unknown_items", &answer.unknown_items)?;
    }
    let counts: [(&str, fn(&FeatureCounts) -> u64); 3] = [
        ("missing", |feature| feature.missing),
        ("unknown", |feature| feature.unknown),
        ("outside", |feature| feature.outside),
    ];
    for (name, count) in counts {
        let counted = answer.counts.iter().map(|feature| (feature.name.as_str(), count(feature)));
        let counted: BTreeMap<&str, u64> = counted.filter(|(_, count)| *count > 0).collect();
        if !counted.is_empty() {
            map.serialize_entry(name, &counted)?;
        }
    }
    Ok(())
}

impl Serialize for Named<'_, RankedItem> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let item = self.value;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &item.index)?;
        if let Some(id) = &item.id {
            map.serialize_entry("id", id)?;
        }
        for (name, score) in self.names.iter().zip(&item.scores) {
            map.serialize_entry(name, score)?;
        }
        if let Some(value) = item.value {
            map.serialize_entry("value", &value)?;
        }
        map.end()
    }
}
