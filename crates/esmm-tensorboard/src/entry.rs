//! One value of a step, as TensorBoard's plugins want it.

use prost::Message;

use crate::histogram::Histogram;
use crate::pr_curve::PrCurve;
use crate::proto::{
    DataClass, DataType, HparamsPluginData, PluginData, PrCurvePluginData, Shape, SummaryMetadata,
    SummaryValue, TensorProto, TextPluginData, Value,
};

/// A value with its tag. Tags with the same text before the first slash are shown together.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry(SummaryValue);

impl Entry {
    /// A point of a curve. TensorBoard keeps it in single precision.
    pub fn scalar(tag: impl Into<String>, value: f64) -> Self {
        Self::new(tag, "scalars", DataClass::Scalar, Vec::new(), Value::Scalar(value as f32))
    }

    /// A distribution.
    pub fn histogram(tag: impl Into<String>, histogram: &Histogram) -> Self {
        let value = Value::Histogram(histogram.to_proto());
        Self::new(tag, "histograms", DataClass::Tensor, Vec::new(), value)
    }

    /// Text in Markdown.
    pub fn text(tag: impl Into<String>, markdown: impl Into<String>) -> Self {
        let tensor = TensorProto {
            dtype: DataType::Text.into(),
            shape: Some(Shape::new(&[])),
            string_val: vec![markdown.into().into_bytes()],
            ..TensorProto::default()
        };
        let content = TextPluginData { version: 0 }.encode_to_vec();
        Self::new(tag, "text", DataClass::Tensor, content, Value::Tensor(tensor))
    }

    /// A precision-recall curve.
    pub fn pr_curve(tag: impl Into<String>, curve: &PrCurve) -> Self {
        let points = curve.len();
        let content = PrCurvePluginData { version: 0, num_thresholds: points as u32 }.encode_to_vec();
        let tensor = floats(&[6, points as i64], curve.rows().iter().flatten().copied());
        Self::new(tag, "pr_curves", DataClass::Tensor, content, Value::Tensor(tensor))
            .described(PrCurve::DESCRIPTION)
    }

    /// Data of the hyperparameter plugin, which it keeps in the metadata of a tensor without elements.
    pub(crate) fn hparams(tag: &str, data: &HparamsPluginData) -> Self {
        let tensor = floats(&[0], std::iter::empty());
        Self::new(tag, "hparams", DataClass::Tensor, data.encode_to_vec(), Value::Tensor(tensor))
    }

    /// With a text that TensorBoard shows beside it.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        if let Some(metadata) = &mut self.0.metadata {
            metadata.description = description.into();
        }
        self
    }

    /// As a summary holds it.
    pub(crate) fn into_value(self) -> SummaryValue {
        self.0
    }

    fn new(tag: impl Into<String>, plugin: &str, class: DataClass, content: Vec<u8>, value: Value) -> Self {
        let metadata = SummaryMetadata {
            plugin_data: Some(PluginData { plugin_name: plugin.to_owned(), content }),
            data_class: class.into(),
            ..SummaryMetadata::default()
        };
        Self(SummaryValue { tag: tag.into(), metadata: Some(metadata), value: Some(value) })
    }
}

fn floats(shape: &[i64], values: impl Iterator<Item = f32>) -> TensorProto {
    TensorProto {
        dtype: DataType::Float.into(),
        shape: Some(Shape::new(shape)),
        content: values.flat_map(f32::to_le_bytes).collect(),
        ..TensorProto::default()
    }
}
