//! Hyperparameters: `tensorboard.hparams.HParamsPluginData`.

use std::collections::BTreeMap;

use prost::{Enumeration, Message, Oneof};

/// `tensorboard.hparams.HParamsPluginData`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HparamsPluginData {
    #[prost(oneof = "HparamData", tags = "2, 3, 4")]
    pub(crate) data: Option<HparamData>,
}

/// `tensorboard.hparams.HParamsPluginData.data`
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum HparamData {
    #[prost(message, tag = "2")]
    Experiment(Experiment),
    #[prost(message, tag = "3")]
    Start(SessionStart),
    #[prost(message, tag = "4")]
    End(SessionEnd),
}

/// `tensorboard.hparams.Experiment`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Experiment {
    #[prost(double, tag = "3")]
    pub(crate) time_created_secs: f64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) hparam_infos: Vec<HparamInfo>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) metric_infos: Vec<MetricInfo>,
}

/// `tensorboard.hparams.HParamInfo`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HparamInfo {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(enumeration = "HparamKind", tag = "4")]
    pub(crate) kind: i32,
}

/// `tensorboard.hparams.DataType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(crate) enum HparamKind {
    Unset = 0,
    Text = 1,
    Bool = 2,
    Float64 = 3,
}

/// `tensorboard.hparams.MetricInfo`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricInfo {
    #[prost(message, optional, tag = "1")]
    pub(crate) name: Option<MetricName>,
    #[prost(string, tag = "3")]
    pub(crate) display_name: String,
    #[prost(string, tag = "4")]
    pub(crate) description: String,
}

/// `tensorboard.hparams.MetricName`: a tag of the run `group` below the session's.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricName {
    #[prost(string, tag = "1")]
    pub(crate) group: String,
    #[prost(string, tag = "2")]
    pub(crate) tag: String,
}

/// `tensorboard.hparams.SessionStartInfo`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionStart {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) hparams: BTreeMap<String, Scalar>,
    #[prost(double, tag = "5")]
    pub(crate) start_time_secs: f64,
}

/// `tensorboard.hparams.SessionEndInfo`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionEnd {
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
    #[prost(double, tag = "2")]
    pub(crate) end_time_secs: f64,
}

impl SessionEnd {
    /// The status of a session that ended well.
    pub(crate) const SUCCESS: i32 = 1;
}

/// `google.protobuf.Value`, without lists and structures.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Scalar {
    #[prost(oneof = "ScalarKind", tags = "2, 3, 4")]
    pub(crate) kind: Option<ScalarKind>,
}

/// `google.protobuf.Value.kind`
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ScalarKind {
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
}
