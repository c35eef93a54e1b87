//! A record of an event file: `tensorboard.Event` and what summaries need.

use prost::{Enumeration, Message, Oneof};

/// `tensorboard.Event`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub(crate) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(crate) step: i64,
    #[prost(oneof = "What", tags = "3, 4, 5, 7")]
    pub(crate) what: Option<What>,
    #[prost(message, optional, tag = "10")]
    pub(crate) source: Option<SourceMetadata>,
}

/// `tensorboard.Event.what`
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum What {
    /// The first record of a file: `brain.Event:2`.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// An encoded [`GraphDef`](super::GraphDef).
    #[prost(bytes, tag = "4")]
    Graph(Vec<u8>),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    Session(SessionLog),
}

/// `tensorboard.SourceMetadata`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SourceMetadata {
    #[prost(string, tag = "1")]
    pub(crate) writer: String,
}

/// `tensorboard.SessionLog`; status 1, `START`, voids earlier records of its step and later ones.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionLog {
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}

impl SessionLog {
    /// A training begins or goes on here.
    pub(crate) const START: Self = Self { status: 1 };
}

/// `tensorboard.Summary`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(crate) value: Vec<SummaryValue>,
}

/// `tensorboard.Summary.Value`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SummaryValue {
    #[prost(string, tag = "1")]
    pub(crate) tag: String,
    #[prost(message, optional, tag = "9")]
    pub(crate) metadata: Option<SummaryMetadata>,
    #[prost(oneof = "Value", tags = "2, 5, 8")]
    pub(crate) value: Option<Value>,
}

/// `tensorboard.Summary.Value.value`
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Value {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "5")]
    Histogram(HistogramProto),
    #[prost(message, tag = "8")]
    Tensor(TensorProto),
}

/// `tensorboard.SummaryMetadata`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    pub(crate) plugin_data: Option<PluginData>,
    #[prost(string, tag = "2")]
    pub(crate) display_name: String,
    #[prost(string, tag = "3")]
    pub(crate) description: String,
    #[prost(enumeration = "DataClass", tag = "4")]
    pub(crate) data_class: i32,
}

/// `tensorboard.DataClass`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(crate) enum DataClass {
    Unknown = 0,
    Scalar = 1,
    Tensor = 2,
}

/// `tensorboard.SummaryMetadata.PluginData`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PluginData {
    #[prost(string, tag = "1")]
    pub(crate) plugin_name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) content: Vec<u8>,
}

/// `tensorboard.HistogramProto`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HistogramProto {
    #[prost(double, tag = "1")]
    pub(crate) min: f64,
    #[prost(double, tag = "2")]
    pub(crate) max: f64,
    #[prost(double, tag = "3")]
    pub(crate) num: f64,
    #[prost(double, tag = "4")]
    pub(crate) sum: f64,
    #[prost(double, tag = "5")]
    pub(crate) sum_squares: f64,
    /// Right edges.
    #[prost(double, repeated, tag = "6")]
    pub(crate) bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    pub(crate) bucket: Vec<f64>,
}

/// `tensorboard.TensorProto`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorProto {
    #[prost(enumeration = "DataType", tag = "1")]
    pub(crate) dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) shape: Option<Shape>,
    /// The values, little-endian and row-major, but for strings.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) content: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(crate) string_val: Vec<Vec<u8>>,
}

/// `tensorboard.DataType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(crate) enum DataType {
    Invalid = 0,
    Float = 1,
    Int32 = 3,
    Text = 7,
}

/// `tensorboard.TensorShapeProto`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub(crate) dim: Vec<Dimension>,
}

/// `tensorboard.TensorShapeProto.Dim`; size -1 is unknown.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dimension {
    #[prost(int64, tag = "1")]
    pub(crate) size: i64,
}

impl Shape {
    /// A shape; -1 stands for a size that is not fixed.
    pub(crate) fn new(sizes: &[i64]) -> Self {
        Self { dim: sizes.iter().map(|&size| Dimension { size }).collect() }
    }
}

/// `tensorboard.PrCurvePluginData`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PrCurvePluginData {
    #[prost(int32, tag = "1")]
    pub(crate) version: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) num_thresholds: u32,
}

/// `tensorboard.TextPluginData`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TextPluginData {
    #[prost(int32, tag = "1")]
    pub(crate) version: i32,
}
