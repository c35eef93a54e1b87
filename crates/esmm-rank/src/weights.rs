//! The weights of a state dict, batch norm folded away and the first layer ready to be cut.

use esmm_core::{Activation, EsmmConfig, EsmmError, Feature, StateDict};

use crate::kernel::{Bend, Matrix, padded};

/// Added to a variance before its root: that of `esmm-core`, which is PyTorch's.
const EPSILON: f64 = 1e-5;

/// The weights of a model with batch norm folded away: what an inference computes with.
#[derive(Debug)]
pub struct FoldedModel {
    /// The tables, `[copy][table]` in the schema's order; each `[num_embeddings, D]`.
    pub tables: Vec<Vec<Vec<f32>>>,
    /// The layers, `[layer][tower]`, the one of the logits last.
    pub layers: Vec<Vec<FoldedLayer>>,
}

/// A layer of one tower with its batch norm in its weights.
#[derive(Debug)]
pub struct FoldedLayer {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// `[out, in]`, columns in the schema's order in the first layer.
    weight: Vec<f64>,
    pub(crate) bias: Vec<f32>,
    pub(crate) bend: Bend,
}

impl FoldedModel {
    /// Folds the weights of a state dict.
    ///
    /// # Errors
    /// A configuration out of range, entries that do not fit it or hold NaN or infinity.
    pub fn new(config: &EsmmConfig, weights: StateDict) -> Result<Self, EsmmError> {
        let mut reader = Reader::new(config, weights)?;
        let tables = reader.tables()?;
        Ok(Self { tables, layers: reader.layers()? })
    }

    /// Several models of one configuration side by side, as one with all of their tables and towers; `None` of none.
    pub fn join(models: Vec<Self>) -> Option<Self> {
        models.into_iter().reduce(|mut joined, model| {
            joined.tables.extend(model.tables);
            for (layer, towers) in joined.layers.iter_mut().zip(model.layers) {
                layer.extend(towers);
            }
            joined
        })
    }
}

impl FoldedLayer {
    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The weights of some inputs, `[inputs.len(), outputs]`.
    ///
    /// # Panics
    /// When there is no such input.
    pub fn weights(&self, inputs: &[usize]) -> Vec<f32> {
        let row = |input: &usize| {
            let input = *input;
            (0..self.outputs).map(move |output| self.weight[output * self.inputs + input] as f32)
        };
        inputs.iter().flat_map(row).collect()
    }

    /// What the sums begin with, one an output.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// What sums that are not above zero are multiplied with; `None` where nothing is done to them.
    pub fn slope(&self) -> Option<f32> {
        match self.bend {
            Bend::None => None,
            Bend::Slope(slope) => Some(slope),
        }
    }

    /// The weights of some inputs, in this order, into the columns of `matrix` from `column` on.
    pub(crate) fn write(&self, inputs: &[usize], matrix: &mut Matrix, column: usize) {
        for (row, input) in inputs.iter().enumerate() {
            let out = &mut matrix.row_mut(row)[column..column + self.outputs];
            for (output, out) in out.iter_mut().enumerate() {
                *out = self.weight[output * self.inputs + input] as f32;
            }
        }
    }

    /// All of its weights as a matrix.
    pub(crate) fn matrix(&self) -> Matrix {
        let mut matrix = Matrix::zeros(self.inputs, self.outputs);
        self.write(&(0..self.inputs).collect::<Vec<_>>(), &mut matrix, 0);
        matrix
    }

    /// Its bias, padded.
    pub(crate) fn padded_bias(&self) -> Vec<f32> {
        let mut bias = self.bias.clone();
        bias.resize(padded(self.outputs), 0.0);
        bias
    }
}

/// Takes a state dict apart.
struct Reader<'a> {
    config: &'a EsmmConfig,
    dict: StateDict,
}

impl<'a> Reader<'a> {
    /// Checks the configuration and the names of the entries.
    fn new(config: &'a EsmmConfig, dict: StateDict) -> Result<Self, EsmmError> {
        config.validate()?;
        dict.check_names(&names(config))?;
        Ok(Self { config, dict })
    }

    /// The tables. The largest part of a model: taken over, not copied.
    fn tables(&mut self) -> Result<Vec<Vec<Vec<f32>>>, EsmmError> {
        let mut copies = Vec::new();
        for copy in 0..self.config.copies() {
            let mut tables = Vec::new();
            for table in self.config.schema.tables() {
                let name = table_name(self.config, copy, &table.name);
                tables.push(self.take(&name, &[table.num_embeddings, self.config.embedding_dim])?);
            }
            copies.push(tables);
        }
        Ok(copies)
    }

    /// All layers, `[layer][tower]`, the one of the logits last.
    fn layers(&mut self) -> Result<Vec<Vec<FoldedLayer>>, EsmmError> {
        let config = self.config;
        let mut inputs = config.schema.input_width(config.embedding_dim);
        let mut layers = Vec::new();
        for (index, &outputs) in config.towers.hidden.iter().enumerate() {
            let towers = (0..config.stages).map(|tower| self.hidden(tower, index, inputs, outputs));
            layers.push(towers.collect::<Result<Vec<_>, _>>()?);
            inputs = outputs;
        }
        let towers = (0..config.stages).map(|tower| {
            let (weight, bias) = self.linear(tower, "task_last_layer", inputs, 1)?;
            let weight = weight.into_iter().map(f64::from).collect();
            Ok(FoldedLayer { inputs, outputs: 1, weight, bias, bend: Bend::None })
        });
        layers.push(towers.collect::<Result<Vec<_>, EsmmError>>()?);
        Ok(layers)
    }

    fn hidden(
        &mut self,
        tower: usize,
        index: usize,
        inputs: usize,
        outputs: usize,
    ) -> Result<FoldedLayer, EsmmError> {
        let (weight, bias) = self.linear(tower, &format!("ctr_hidden_{index}"), inputs, outputs)?;
        let mut weight: Vec<f64> = weight.into_iter().map(f64::from).collect();
        let mut bias: Vec<f64> = bias.into_iter().map(f64::from).collect();
        if self.config.towers.batch_norm {
            let mut part =
                |part: &str| self.take(&entry(tower, &format!("ctr_batchnorm_{index}.{part}")), &[outputs]);
            let (gamma, beta) = (part("weight")?, part("bias")?);
            let (mean, variance) = (part("running_mean")?, part("running_var")?);
            for output in 0..outputs {
                let scale = f64::from(gamma[output]) / (f64::from(variance[output]) + EPSILON).sqrt();
                weight[output * inputs..][..inputs].iter_mut().for_each(|weight| *weight *= scale);
                bias[output] = (bias[output] - f64::from(mean[output])) * scale + f64::from(beta[output]);
            }
        }
        let bend = match self.config.towers.activation {
            Activation::None => Bend::None,
            Activation::Relu => Bend::Slope(0.0),
            Activation::LeakyRelu { negative_slope } => Bend::Slope(negative_slope as f32),
            Activation::Prelu => {
                let name = entry(tower, &format!("ctr_activation_{index}.weight"));
                Bend::Slope(self.take(&name, &[1])?[0])
            }
        };
        let bias = bias.into_iter().map(|bias| bias as f32).collect();
        Ok(FoldedLayer { inputs, outputs, weight, bias, bend })
    }

    fn linear(
        &mut self,
        tower: usize,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<(Vec<f32>, Vec<f32>), EsmmError> {
        let weight = self.take(&entry(tower, &format!("{name}.weight")), &[outputs, inputs])?;
        Ok((weight, self.take(&entry(tower, &format!("{name}.bias")), &[outputs])?))
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EsmmError> {
        let bad = |dict: &StateDict, reason: String| EsmmError::Weights { path: dict.source.clone(), reason };
        let data = self.dict.take(name, shape)?;
        let values =
            data.into_vec::<f32>().map_err(|error| bad(&self.dict, format!("`{name}`: {error:?}")))?;
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(values),
            Some(value) => {
                Err(bad(&self.dict, format!("`{name}` holds {value}: such a model has no scores")))
            }
        }
    }
}

/// For each feature of the schema, its columns in the input of the first layer, which follows the schema's order.
pub fn input_columns(config: &EsmmConfig) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    let width = |feature: &Feature| match feature {
        Feature::Sparse(_) => config.embedding_dim,
        Feature::Dense(feature) => feature.width(),
    };
    let columns = config.schema.features().iter().map(|feature| {
        let range = start..start + width(feature);
        start = range.end;
        range
    });
    columns.collect()
}

fn entry(tower: usize, name: &str) -> String {
    format!("task_{}_dnn.{name}", tower + 1)
}

fn table_name(config: &EsmmConfig, copy: usize, table: &str) -> String {
    let weight = format!("{table}.weight");
    if config.shared_embeddings { weight } else { entry(copy, &weight) }
}

/// Names of all entries that a model of this configuration has.
fn names(config: &EsmmConfig) -> Vec<String> {
    let mut names = Vec::new();
    for copy in 0..config.copies() {
        names.extend(config.schema.tables().map(|table| table_name(config, copy, &table.name)));
    }
    let mut of_tower = vec!["task_last_layer.weight".to_owned(), "task_last_layer.bias".to_owned()];
    for layer in 0..config.towers.hidden.len() {
        of_tower.extend(["weight", "bias"].map(|part| format!("ctr_hidden_{layer}.{part}")));
        if config.towers.batch_norm {
            let parts = ["weight", "bias", "running_mean", "running_var"];
            of_tower.extend(parts.map(|part| format!("ctr_batchnorm_{layer}.{part}")));
        }
        if config.towers.activation == Activation::Prelu {
            of_tower.push(format!("ctr_activation_{layer}.weight"));
        }
    }
    for tower in 0..config.stages {
        names.extend(of_tower.iter().map(|name| entry(tower, name)));
    }
    names
}
