//! Hyperparameters of a training, and the metrics that it ended with, for TensorBoard's HPARAMS page.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value as Json;

use crate::entry::Entry;
use crate::proto::{
    Experiment, HparamData, HparamInfo, HparamKind, HparamsPluginData, MetricInfo, MetricName, Scalar,
    ScalarKind, SessionEnd, SessionStart,
};
use esmm_run::config::TrainConfig;

/// What people vary first: the page shows the first five columns until others are chosen.
const FIRST: [&str; 5] = [
    "train.schedule.learning_rate",
    "train.tables.learning_rate_ratio",
    "train.batch_size",
    "model.embedding_dim",
    "model.towers.hidden",
];

/// The hyperparameters of a run; `None` where an optional one is not set.
pub(crate) type Hparams = BTreeMap<String, Option<ScalarKind>>;

/// What is measured at the end of a run: a tag in the run of a split.
pub(crate) struct FinalMetric {
    pub(crate) split: &'static str,
    pub(crate) tag: String,
    pub(crate) name: String,
}

/// The settings of a run that a search would vary, by their path in `config.json`: `model.embedding_dim`,
/// `train.towers.optimizer`.
pub(crate) fn hparams(config: &TrainConfig) -> Hparams {
    #[derive(Serialize)]
    struct Searched<'a> {
        model: &'a esmm_run::config::ModelConfig,
        train: &'a esmm_run::config::TrainingConfig,
    }
    let mut found = Hparams::new();
    let searched = Searched { model: &config.model, train: &config.train };
    if let Ok(json) = serde_json::to_value(searched) {
        flatten(String::new(), &json, &mut found);
    }
    for about_records in ["train.log_every", "train.tensorboard"] {
        found.remove(about_records);
    }
    found
}

fn flatten(path: String, value: &Json, found: &mut Hparams) {
    let kind = match value {
        Json::Object(fields) => {
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            return fields.iter().for_each(|(key, value)| flatten(below(key), value, found));
        }
        Json::Null => None,
        Json::Bool(value) => Some(ScalarKind::Bool(*value)),
        Json::Number(number) => number.as_f64().map(ScalarKind::Number),
        Json::String(text) => Some(ScalarKind::Text(text.clone())),
        Json::Array(_) => Some(ScalarKind::Text(value.to_string())),
    };
    found.insert(path, kind);
}

/// What the columns of the page are, and this run's values; `now` in seconds since 1970.
pub(crate) fn start(hparams: Hparams, metrics: &[FinalMetric], now: f64) -> Vec<Entry> {
    let info = |(name, value): (&String, &Option<ScalarKind>)| {
        let kind = match value {
            Some(ScalarKind::Text(_)) => HparamKind::Text,
            Some(ScalarKind::Bool(_)) => HparamKind::Bool,
            // What is optional in a run file is a number.
            Some(ScalarKind::Number(_)) | None => HparamKind::Float64,
        };
        HparamInfo { name: name.clone(), kind: kind.into() }
    };
    let metric = |metric: &FinalMetric| MetricInfo {
        name: Some(MetricName { group: metric.split.to_owned(), tag: metric.tag.clone() }),
        display_name: format!("{} {}", metric.split, metric.name),
        description: format!("{} on the {} split, with the best weights", metric.name, metric.split),
    };
    let mut infos: Vec<HparamInfo> = hparams.iter().map(info).collect();
    infos.sort_by_key(|info| FIRST.iter().position(|first| *first == info.name).unwrap_or(FIRST.len()));
    let experiment = Experiment {
        time_created_secs: now,
        hparam_infos: infos,
        metric_infos: metrics.iter().map(metric).collect(),
    };
    let set = hparams.into_iter().filter_map(|(name, kind)| Some((name, Scalar { kind: Some(kind?) })));
    let session = SessionStart { hparams: set.collect(), start_time_secs: now };
    vec![
        entry("_hparams_/experiment", HparamData::Experiment(experiment)),
        entry("_hparams_/session_start_info", HparamData::Start(session)),
    ]
}

/// The run ended well.
pub(crate) fn end(now: f64) -> Entry {
    let end = SessionEnd { status: SessionEnd::SUCCESS, end_time_secs: now };
    entry("_hparams_/session_end_info", HparamData::End(end))
}

fn entry(tag: &str, data: HparamData) -> Entry {
    Entry::hparams(tag, &HparamsPluginData { data: Some(data) })
}
