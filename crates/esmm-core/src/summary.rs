//! A table of the model like torchsummary's: layer, output shape, parameters, memory.

use std::fmt;

use crate::esmm::EsmmConfig;
use crate::schema::SparseFeature;
use crate::tower::Activation;

/// The layers of a model, in the order in which a batch passes them.
///
/// # Examples
/// ```
/// use esmm_core::{EsmmConfig, Feature, FeatureSchema, ModelSummary, Side};
///
/// # fn main() -> Result<(), esmm_core::EsmmError> {
/// let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 1000)])?;
/// let summary = ModelSummary::new(&EsmmConfig::new(schema));
/// println!("{summary}");
/// assert_eq!(summary.layers[0].parameters, 1000 * 18);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    /// One line a layer.
    pub layers: Vec<LayerSummary>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// Name, as in a state dict without the task.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// Shape of its output; the batch is written B.
    pub output: String,
    /// Learned parameters.
    pub parameters: u64,
    /// Values that are saved but not learned (running statistics).
    pub buffers: u64,
    /// Floating-point operations that a row costs forward in training: 2 for each weight of a matmul, 2 for each value
    /// of an id that is pooled, 4 for each value of a batch norm, 1 of an activation or dropout.
    pub flops: u64,
    /// Bytes that a row reads for itself: its ids, their rows of the table, its reals. Weights are read for all rows of
    /// a batch together and do not count here.
    pub row_bytes: u64,
}

impl ModelSummary {
    /// Lists the layers of a configuration; no weights are needed. A bag is counted with one id.
    pub fn new(config: &EsmmConfig) -> Self {
        Self::with_bag_lengths(config, |_| 1.0)
    }

    /// As [`new`](Self::new); `length` returns the mean number of ids of a bag, by the feature's name.
    pub fn with_bag_lengths(config: &EsmmConfig, length: impl Fn(&str) -> f64) -> Self {
        let mut layers = Vec::new();
        let dim = config.embedding_dim;
        let lookup = |feature: &SparseFeature, mut layer: LayerSummary| {
            let ids = if feature.bag.is_some() { length(&feature.name) } else { 1.0 };
            let values = ids * (config.copies() * dim) as f64;
            layer.flops = if feature.bag.is_some() { (2.0 * values).round() as u64 } else { 0 };
            layer.row_bytes = (4.0 * (ids + values)).round() as u64;
            layer
        };
        for table in config.schema.tables() {
            let parameters = (config.copies() * table.num_embeddings * dim) as u64;
            let output = format!("[B, {dim}]");
            layers.push(lookup(table, LayerSummary::new(&table.name, "Embedding", output, parameters)));
        }
        for feature in config.schema.sparse().filter(|feature| feature.shares.is_some()) {
            let layer = LayerSummary::new(&feature.name, "Shared embedding", format!("[B, {dim}]"), 0);
            layers.push(lookup(feature, layer));
        }
        let mut width = config.schema.input_width(dim);
        let stages = config.stages;
        let mut input = LayerSummary::new("input", "Concat", format!("[B, {width}]"), 0);
        input.row_bytes = 4 * config.schema.dense().count() as u64;
        layers.push(input);
        for (j, (&hidden, &dropout)) in config.towers.hidden.iter().zip(&config.towers.dropout).enumerate() {
            let shape = || format!("[{stages}, B, {hidden}]");
            let weights = (stages * (width + 1) * hidden) as u64;
            let width_all = (stages * hidden) as u64;
            let linear = LayerSummary::new(&format!("ctr_hidden_{j}"), "Linear", shape(), weights);
            layers.push(linear.with_flops(2 * width as u64 * width_all));
            if config.towers.batch_norm {
                let mut norm =
                    LayerSummary::new(&format!("ctr_batchnorm_{j}"), "BatchNorm", shape(), 2 * width_all);
                norm.buffers = 2 * width_all;
                layers.push(norm.with_flops(4 * width_all));
            }
            if let Some((kind, parameters)) = activation(config.towers.activation, stages) {
                let layer = LayerSummary::new(&format!("ctr_activation_{j}"), kind, shape(), parameters);
                layers.push(layer.with_flops(width_all));
            }
            if dropout > 0.0 {
                let layer = LayerSummary::new(&format!("ctr_dropout_{j}"), "Dropout", shape(), 0);
                layers.push(layer.with_flops(width_all));
            }
            width = hidden;
        }
        let weights = (stages * (width + 1)) as u64;
        let output = LayerSummary::new("task_last_layer", "Linear", format!("[B, {stages}]"), weights);
        layers.push(output.with_flops((2 * stages * width) as u64));
        Self { layers }
    }

    /// Learned parameters of the whole model.
    pub fn parameters(&self) -> u64 {
        self.layers.iter().map(|layer| layer.parameters).sum()
    }

    /// Floating-point operations that a row costs forward.
    pub fn flops(&self) -> u64 {
        self.layers.iter().map(|layer| layer.flops).sum()
    }

    /// Bytes that a row reads for itself.
    pub fn row_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.row_bytes).sum()
    }

    /// Bytes of parameters and buffers in f32.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(LayerSummary::bytes).sum()
    }
}

impl LayerSummary {
    fn new(name: &str, kind: &'static str, output: String, parameters: u64) -> Self {
        Self { name: name.to_owned(), kind, output, parameters, buffers: 0, flops: 0, row_bytes: 0 }
    }

    fn with_flops(self, flops: u64) -> Self {
        Self { flops, ..self }
    }

    /// Bytes of its parameters and buffers in f32.
    pub fn bytes(&self) -> u64 {
        4 * (self.parameters + self.buffers)
    }
}

/// A name for a line that people read: what would break the line or turn it around is written as an escape.
///
/// # Examples
/// ```
/// assert_eq!(esmm_core::one_line("it's \"two\nlines\" \u{202e}"), "it's \"two\\nlines\" \\u{202e}");
/// ```
pub fn one_line(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '"' | '\'' | '\\' => text.push(letter),
            letter => text.extend(letter.escape_debug()),
        }
    }
    text
}

impl fmt::Display for ModelSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            self.layers.iter().map(|layer| one_line(&layer.name).chars().count()).max().unwrap_or(0).max(5);
        let kind = self.layers.iter().map(|layer| layer.kind.len()).max().unwrap_or(0);
        let mut line = |a: &str, b: &str, c: &str, d: &str, e: &str| {
            writeln!(f, "{a:<name$}  {b:<kind$}  {c:<14}  {d:>13}  {e:>10}")
        };
        line("layer", "type", "output shape", "parameters", "memory")?;
        for layer in &self.layers {
            let parameters = grouped(layer.parameters);
            let bytes = memory(layer.bytes());
            line(&one_line(&layer.name), layer.kind, &layer.output, &parameters, &bytes)?;
        }
        line("total", "", "", &grouped(self.parameters()), &memory(self.bytes()))
    }
}

fn activation(activation: Activation, stages: usize) -> Option<(&'static str, u64)> {
    match activation {
        Activation::None => None,
        Activation::Relu => Some(("ReLU", 0)),
        Activation::LeakyRelu { .. } => Some(("LeakyReLU", 0)),
        Activation::Prelu => Some(("PReLU", stages as u64)),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn memory(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        1..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notebook::{NotebookConfig, NotebookFeature};
    use crate::schema::{Feature, FeatureSchema, Pooling, Side};

    #[test]
    fn parameters_of_the_notebook_add_up() {
        let users = vec![NotebookFeature::new("user_id", 11, 0), NotebookFeature::new("user_num", 1, 1)];
        let items = vec![NotebookFeature::new("item_id", 8, 2)];
        let summary = ModelSummary::new(&NotebookConfig::new(users, items).model().unwrap());
        let tables = (11 + 8) * 128;
        let tower = (257 + 1) * 128 + 2 * 128 + (128 + 1) * 64 + 2 * 64 + 65;
        assert_eq!(summary.parameters(), tables + 2 * tower);
        assert_eq!(summary.bytes(), 4 * (tables + 2 * (tower + 2 * (128 + 64))));
        // Two matmuls, batch norms and dropouts a tower; three columns of ids and reals.
        let tower_flops = 2 * (257 * 128 + 128 * 64 + 64) + 5 * (128 + 64);
        assert_eq!(summary.flops(), 2 * tower_flops);
        assert_eq!(summary.row_bytes(), 2 * (4 + 4 * 128) + 4);
        let text = summary.to_string();
        assert!(
            text.contains("user_id") && text.contains("[2, B, 128]") && text.contains("85,890"),
            "{text}"
        );
    }
    /// A bag of 2.5 ids reads and pools as many rows; a table of its own for each of two towers doubles that.
    #[test]
    fn bags_cost_what_their_ids_cost() {
        let history = Feature::bag("history", Side::User, 10, Pooling::Mean);
        let mut config = EsmmConfig::new(FeatureSchema::new(vec![history]).unwrap());
        config.embedding_dim = 4;
        let cost = |config: &EsmmConfig| {
            let summary = ModelSummary::with_bag_lengths(config, |_| 2.5);
            (summary.layers[0].flops, summary.layers[0].row_bytes)
        };
        assert_eq!(cost(&config), (20, (4.0 * 2.5 * 5.0) as u64));
        config.shared_embeddings = false;
        assert_eq!(cost(&config), (40, (4.0 * 2.5 * 9.0) as u64));
    }
}
