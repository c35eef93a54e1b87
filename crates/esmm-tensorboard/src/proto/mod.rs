//! TensorBoard's messages, as far as they are written here. Names and numbers of the fields are those of its protocol
//! files; fields that nothing writes are left out, which readers take for their defaults.

mod event;
mod graph;
mod hparams;

pub(super) use event::{
    DataClass, DataType, Event, HistogramProto, PluginData, PrCurvePluginData, SessionLog, Shape,
    SourceMetadata, Summary, SummaryMetadata, SummaryValue, TensorProto, TextPluginData, Value, What,
};
pub(super) use graph::{Attribute, AttributeList, AttributeValue, GraphDef, Node, Versions};
pub(super) use hparams::{
    Experiment, HparamData, HparamInfo, HparamKind, HparamsPluginData, MetricInfo, MetricName, Scalar,
    ScalarKind, SessionEnd, SessionStart,
};
