//! TensorBoard's messages, as far as they are written here. Names and numbers of the fields are those of its protocol
//! files; fields that nothing writes are left out, which readers take for their defaults.

mod event;

pub(super) use event::{
    DataClass, DataType, Event, HistogramProto, PluginData, PrCurvePluginData, SessionLog, Shape,
    SourceMetadata, Summary, SummaryMetadata, SummaryValue, TensorProto, TextPluginData, Value, What,
};
