//! The metrics of a split, as `metrics.json` holds them.
//!
//! With two stages: `{"rows", "clicks", "conversions", "ctr": {..}, "cvr": {..}, "ctcvr": {..}}`, whatever the label
//! columns are called. With more, say click, cart and purchase:
//! `{"rows", "reached": {"click", "cart", "purchase"}, "click": {..}, "cart|click": {..}, "cart": {..},
//! "purchase|cart": {..}, "purchase": {..}}`. Order is kept. Undefined values are `null`, never NaN, and `undefined`
//! says why.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::undefined::Undefined;

/// Reasons of undefined values, by the value's name.
pub(crate) type Reasons = BTreeMap<String, String>;

/// How well one task is predicted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskMetrics {
    /// Area under the ROC curve, in `[0, 1]`.
    pub auc: Option<f64>,
    /// Its 95% interval (DeLong), in `[0, 1]`.
    pub auc_ci95: Option<[f64; 2]>,
    /// Mean negative log-likelihood, in nats.
    pub log_loss: Option<f64>,
    /// Log loss over the entropy of the base rate; below 1 beats the base rate.
    pub normalized_entropy: Option<f64>,
    /// Sum of predicted probabilities over number of events; 1 is calibrated.
    pub calibration: Option<f64>,
    /// AUC inside groups. Absent when no group column was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gauc: Option<GroupMetrics>,
    /// Why a value above is `None`, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub undefined: BTreeMap<String, String>,
}

/// AUC inside groups.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupMetrics {
    /// Mean of the groups' AUCs weighted with their rows, in `[0, 1]`.
    pub value: Option<f64>,
    /// Groups with both classes.
    pub groups_used: u64,
    /// Groups left out because they have one class.
    pub groups_skipped: u64,
    /// Rows left out because they have no group. Absent when there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_without_group: u64,
}

/// pCVR over all impressions, against the true CVR.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EntireSpaceMetrics {
    /// Expected AUC ([`soft_auc`](super::soft_auc)), in `[0, 1]`.
    pub cvr_auc: Option<f64>,
    /// Sum of pCVR over sum of true CVR.
    pub cvr_calibration: Option<f64>,
    /// The values that the truth itself reaches. Absent when the true CTR is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestReachable>,
    /// Why a value above is `None`, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub undefined: BTreeMap<String, String>,
}

/// What a model would score that knew the true probabilities: same rows, same labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BestReachable {
    /// AUC of the true CTR over all impressions.
    pub ctr_auc: Option<f64>,
    /// AUC of the true CTCVR over the true CTR, over clicked impressions.
    pub cvr_auc: Option<f64>,
    /// AUC of the true CTCVR over all impressions.
    pub ctcvr_auc: Option<f64>,
    /// Expected AUC of the true CVR over all impressions: the ceiling of [`EntireSpaceMetrics::cvr_auc`].
    pub entire_space_cvr_auc: Option<f64>,
}

/// All metrics of one split.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SplitMetrics {
    /// Number of impressions.
    pub rows: u64,
    /// What the impressions weigh, where rows have weights: the metrics count weights then, and every number of rows still
    /// counts rows.
    pub weight: Option<f64>,
    /// Number of impressions whose outcome after the first stage is open, where there are some: later tasks are not measured
    /// on them.
    pub open: Option<u64>,
    /// Number of impressions that reached each stage, in order: `clicks` and `conversions` for two stages, the
    /// stages' names for more.
    pub reached: Vec<(String, u64)>,
    /// Each task's metrics, in order: `ctr`, `cvr`, `ctcvr` for two stages.
    pub tasks: Vec<(String, TaskMetrics)>,
    /// Present when the data carries the true CVR.
    pub entire_space: Option<EntireSpaceMetrics>,
}

fn is_zero(rows: &u64) -> bool {
    *rows == 0
}

/// The keys of a split which are no task, whatever the number of stages.
pub(crate) const RESERVED: [&str; 7] = ["rows", "reached", "entire_space", WEIGHT, OPEN, FEATURES, DRIFT];

/// Keys of what not every split has.
const WEIGHT: &str = "total_weight";
const OPEN: &str = "open_rows";

/// What `esmm evaluate --json` puts beside the metrics, which is none of them.
const FEATURES: &str = "features";
const DRIFT: &str = "drift";

impl SplitMetrics {
    /// The metrics of a task.
    pub fn task(&self, name: &str) -> Option<&TaskMetrics> {
        self.tasks.iter().find(|(task, _)| task == name).map(|(_, metrics)| metrics)
    }
}

/// The value of a result, or its reason noted under `name`.
pub(crate) fn defined<T>(reasons: &mut Reasons, name: &str, value: Result<T, Undefined>) -> Option<T> {
    value.map_err(|reason| reasons.insert(name.to_owned(), reason.to_string())).ok()
}

impl Serialize for SplitMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("rows", &self.rows)?;
        if let Some(weight) = &self.weight {
            map.serialize_entry(WEIGHT, weight)?;
        }
        if let Some(open) = &self.open {
            map.serialize_entry(OPEN, open)?;
        }
        if self.reached.len() == 2 {
            for (name, rows) in &self.reached {
                map.serialize_entry(name, rows)?;
            }
        } else {
            map.serialize_entry("reached", &Counts(self.reached.clone()))?;
        }
        for (name, metrics) in &self.tasks {
            map.serialize_entry(name, metrics)?;
        }
        if let Some(metrics) = &self.entire_space {
            map.serialize_entry("entire_space", metrics)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for SplitMetrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SplitVisitor)
    }
}

/// A value whose meaning its key does not tell.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Reached(u64),
    Task(TaskMetrics),
}

struct SplitVisitor;

impl<'de> Visitor<'de> for SplitVisitor {
    type Value = SplitMetrics;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the metrics of a split")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SplitMetrics, A::Error> {
        let mut split = SplitMetrics::default();
        let mut rows = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "rows" => rows = Some(map.next_value()?),
                "reached" => split.reached = map.next_value::<Counts>()?.0,
                "entire_space" => split.entire_space = Some(map.next_value()?),
                WEIGHT => split.weight = Some(map.next_value()?),
                OPEN => split.open = Some(map.next_value()?),
                FEATURES | DRIFT => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
                _ => match map.next_value()? {
                    Entry::Reached(rows) => split.reached.push((key, rows)),
                    Entry::Task(metrics) => split.tasks.push((key, metrics)),
                },
            }
        }
        split.rows = rows.ok_or_else(|| A::Error::missing_field("rows"))?;
        Ok(split)
    }
}

/// Counts in their order, as a map.
struct Counts(Vec<(String, u64)>);

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, rows)| (name, rows)))
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CountsVisitor)
    }
}

struct CountsVisitor;

impl<'de> Visitor<'de> for CountsVisitor {
    type Value = Counts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map from stage to number of impressions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
        let mut counts = Vec::new();
        while let Some(entry) = map.next_entry()? {
            counts.push(entry);
        }
        Ok(Counts(counts))
    }
}

#[cfg(test)]
mod tests {
    use super::{SplitMetrics, TaskMetrics};

    fn split(reached: &[&str], tasks: &[&str]) -> SplitMetrics {
        let task = TaskMetrics { auc: Some(0.75), auc_ci95: Some([0.5, 1.0]), ..TaskMetrics::default() };
        SplitMetrics {
            rows: 10,
            reached: reached.iter().zip([4, 3, 2]).map(|(name, rows)| ((*name).to_owned(), rows)).collect(),
            tasks: tasks.iter().map(|name| ((*name).to_owned(), task.clone())).collect(),
            ..SplitMetrics::default()
        }
    }

    const TASK: &str =
        r#"{"auc":0.75,"auc_ci95":[0.5,1.0],"log_loss":null,"normalized_entropy":null,"calibration":null}"#;

    #[test]
    fn two_stages() {
        let split = split(&["clicks", "conversions"], &["ctr", "cvr", "ctcvr"]);
        let json = serde_json::to_string(&split).unwrap();
        let expected = r#"{"rows":10,"clicks":4,"conversions":3,"ctr":T,"cvr":T,"ctcvr":T}"#;
        assert_eq!(json, expected.replace('T', TASK));
        assert_eq!(serde_json::from_str::<SplitMetrics>(&json).unwrap(), split);
    }

    #[test]
    fn three_stages_one_of_them_named_like_a_count() {
        let split = split(&["clicks", "a", "b"], &["clicks", "a|clicks", "a", "b|a", "b"]);
        let json = serde_json::to_string(&split).unwrap();
        let reached = r#""reached":{"clicks":4,"a":3,"b":2}"#;
        let expected = format!(r#"{{"rows":10,{reached},"clicks":T,"a|clicks":T,"a":T,"b|a":T,"b":T}}"#);
        assert_eq!(json, expected.replace('T', TASK));
        assert_eq!(serde_json::from_str::<SplitMetrics>(&json).unwrap(), split);
    }

    #[test]
    fn a_split_without_rows_is_refused() {
        let error = serde_json::from_str::<SplitMetrics>(r#"{"clicks":1}"#).unwrap_err();
        assert!(error.to_string().contains("missing field `rows`"), "{error}");
    }
}
