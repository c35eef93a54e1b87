//! A table of the model like torchsummary's: layer, output shape, parameters, memory.

use std::fmt;

use crate::esmm::EsmmConfig;
use crate::tower::Activation;

/// The layers of a model, in the order in which a batch passes them.
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
}

impl ModelSummary {
    /// Lists the layers of a configuration; no weights are needed.
    pub fn new(config: &EsmmConfig) -> Self {
        let mut layers = Vec::new();
        let dim = config.embedding_dim;
        for table in config.schema.tables() {
            let parameters = (config.copies() * table.num_embeddings * dim) as u64;
            let output = format!("[B, {dim}]");
            layers.push(LayerSummary::new(&table.name, "Embedding", output, parameters));
        }
        for feature in config.schema.sparse().filter(|feature| feature.shares.is_some()) {
            layers.push(LayerSummary::new(&feature.name, "Shared embedding", format!("[B, {dim}]"), 0));
        }
        let (mut width, stages) = (config.schema.input_width(dim), config.stages);
        layers.push(LayerSummary::new("input", "Concat", format!("[B, {width}]"), 0));
        for (j, (&hidden, &dropout)) in config.towers.hidden.iter().zip(&config.towers.dropout).enumerate() {
            let shape = || format!("[{stages}, B, {hidden}]");
            let weights = (stages * (width + 1) * hidden) as u64;
            layers.push(LayerSummary::new(&format!("ctr_hidden_{j}"), "Linear", shape(), weights));
            let width_all = (stages * hidden) as u64;
            if config.towers.batch_norm {
                let mut norm =
                    LayerSummary::new(&format!("ctr_batchnorm_{j}"), "BatchNorm", shape(), 2 * width_all);
                norm.buffers = 2 * width_all;
                layers.push(norm);
            }
            if let Some((kind, parameters)) = activation(config.towers.activation, stages) {
                layers.push(LayerSummary::new(&format!("ctr_activation_{j}"), kind, shape(), parameters));
            }
            if dropout > 0.0 {
                layers.push(LayerSummary::new(&format!("ctr_dropout_{j}"), "Dropout", shape(), 0));
            }
            width = hidden;
        }
        let weights = (stages * (width + 1)) as u64;
        layers.push(LayerSummary::new("task_last_layer", "Linear", format!("[B, {stages}]"), weights));
        Self { layers }
    }

    /// Learned parameters of the whole model.
    pub fn parameters(&self) -> u64 {
        self.layers.iter().map(|layer| layer.parameters).sum()
    }

    /// Bytes of parameters and buffers in f32.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(LayerSummary::bytes).sum()
    }
}

impl LayerSummary {
    fn new(name: &str, kind: &'static str, output: String, parameters: u64) -> Self {
        Self { name: name.to_owned(), kind, output, parameters, buffers: 0 }
    }

    /// Bytes of its parameters and buffers in f32.
    pub fn bytes(&self) -> u64 {
        4 * (self.parameters + self.buffers)
    }
}

impl fmt::Display for ModelSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.layers.iter().map(|layer| layer.name.chars().count()).max().unwrap_or(0).max(5);
        let kind = self.layers.iter().map(|layer| layer.kind.len()).max().unwrap_or(0);
        let mut line = |a: &str, b: &str, c: &str, d: &str, e: &str| {
            writeln!(f, "{a:<name$}  {b:<kind$}  {c:<14}  {d:>13}  {e:>10}")
        };
        line("layer", "type", "output shape", "parameters", "memory")?;
        for layer in &self.layers {
            let (parameters, bytes) = (grouped(layer.parameters), memory(layer.bytes()));
            line(&layer.name, layer.kind, &layer.output, &parameters, &bytes)?;
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

    #[test]
    fn parameters_of_the_notebook_add_up() {
        let users = vec![NotebookFeature::new("user_id", 11, 0), NotebookFeature::new("user_num", 1, 1)];
        let items = vec![NotebookFeature::new("item_id", 8, 2)];
        let summary = ModelSummary::new(&NotebookConfig::new(users, items).model().unwrap());
        let tables = (11 + 8) * 128;
        let tower = (257 + 1) * 128 + 2 * 128 + (128 + 1) * 64 + 2 * 64 + 65;
        assert_eq!(summary.parameters(), tables + 2 * tower);
        assert_eq!(summary.bytes(), 4 * (tables + 2 * (tower + 2 * (128 + 64))));
        let text = summary.to_string();
        assert!(
            text.contains("user_id") && text.contains("[2, B, 128]") && text.contains("85,890"),
            "{text}"
        );
    }
}
