//! What `/v1/rank` answers.

use std::collections::BTreeMap;

use esmm_data::FeatureCounts;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::request::ItemId;

/// The ranked candidates of one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer<'a> {
    /// The best first.
    pub(crate) items: Vec<RankedItem<'a>>,
    /// Of each of them, one a column of scores.
    pub(crate) scores: Vec<f32>,
    /// How many were scored.
    pub(crate) candidates: usize,
    /// Ids that are not in the catalogue; they were not scored.
    pub(crate) unknown_items: Vec<String>,
    /// What the values of each feature were to the model.
    pub(crate) counts: Vec<FeatureCounts>,
}

/// One candidate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RankedItem<'a> {
    /// Its place in the request, from 0.
    pub(crate) index: usize,
    /// Its id, where it has one.
    pub(crate) id: Option<ItemId<'a>>,
    /// Its expected value, where that was asked for.
    pub(crate) value: Option<f32>,
}

/// A body: the model's version, and the answer to each request.
pub(crate) struct AnswerBody<'a> {
    pub(crate) model: &'a str,
    pub(crate) version: &'a str,
    /// Whether `esmm calibrate` corrected the probabilities.
    pub(crate) calibrated: bool,
    pub(crate) names: Vec<&'a str>,
    pub(crate) answers: &'a [Answer<'a>],
    /// Whether the requests came as a list.
    pub(crate) many: bool,
}

impl Serialize for AnswerBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("version", self.version)?;
        map.serialize_entry("calibrated", &self.calibrated)?;
        match self.answers {
            [answer] if !self.many => write_answer(&mut map, answer, &self.names)?,
            answers => map.serialize_entry("answers", &Answers { names: &self.names, answers })?,
        }
        map.end()
    }
}

/// A list of answers.
struct Answers<'a> {
    names: &'a [&'a str],
    answers: &'a [Answer<'a>],
}

impl Serialize for Answers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.answers.len()))?;
        for answer in self.answers {
            list.serialize_element(&Named { names: self.names, answer })?;
        }
        list.end()
    }
}

/// One answer of a list.
struct Named<'a> {
    names: &'a [&'a str],
    answer: &'a Answer<'a>,
}

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write_answer(&mut map, self.answer, self.names)?;
        map.end()
    }
}

/// What of the counts of a feature an answer says, under a name of its own.
type Counted = (&'static str, fn(&FeatureCounts) -> u64);

fn write_answer<M: SerializeMap>(map: &mut M, answer: &Answer<'_>, names: &[&str]) -> Result<(), M::Error> {
    map.serialize_entry("candidates", &answer.candidates)?;
    map.serialize_entry("items", &Items { names, answer })?;
    if !answer.unknown_items.is_empty() {
        map.serialize_entry("unknown_items", &answer.unknown_items)?;
    }
    let counts: [Counted; 3] = [
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

/// The items of an answer.
struct Items<'a> {
    names: &'a [&'a str],
    answer: &'a Answer<'a>,
}

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { names, answer } = self;
        let mut list = serializer.serialize_seq(Some(answer.items.len()))?;
        for (item, scores) in answer.items.iter().zip(answer.scores.chunks_exact(names.len())) {
            list.serialize_element(&Scored { names, item, scores })?;
        }
        list.end()
    }
}

/// An item with its scores.
struct Scored<'a> {
    names: &'a [&'a str],
    item: &'a RankedItem<'a>,
    scores: &'a [f32],
}

impl Serialize for Scored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let item = self.item;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &item.index)?;
        if let Some(id) = &item.id {
            map.serialize_entry("id", &id.text())?;
        }
        for (name, score) in self.names.iter().zip(self.scores) {
            map.serialize_entry(name, score)?;
        }
        if let Some(value) = item.value {
            map.serialize_entry("value", &value)?;
        }
        map.end()
    }
}
