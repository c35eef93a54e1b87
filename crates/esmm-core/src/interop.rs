//! Weights as a PyTorch state dict, with the entry names of the notebook's model.
//!
//! | entry | shape |
//! | --- | --- |
//! | `{feature}.weight` | `[num_embeddings, D]`; `task_{i}_dnn.{feature}.weight` where towers have own tables |
//! | `task_{i}_dnn.ctr_hidden_{j}.weight`, `.bias` | `[out, in]`, `[out]` |
//! | `task_{i}_dnn.ctr_batchnorm_{j}.weight`, `.bias`, `.running_mean`, `.running_var` | `[out]` |
//! | `task_{i}_dnn.ctr_batchnorm_{j}.num_batches_tracked` | `[]`, i64; ignored when read, 0 when written |
//! | `task_{i}_dnn.ctr_activation_{j}.weight` | `[1]`, PReLU only |
//! | `task_{i}_dnn.task_last_layer.weight`, `.bias` | `[1, in]`, `[1]` |
//!
//! Tasks count from 1, layers from 0. Columns of the first layer follow the schema's order of features.

use std::path::Path;

use burn::module::Param;
use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::error::EsmmError;
use crate::esmm::{Esmm, EsmmConfig};
use crate::schema::{Feature, RowRange};
use crate::state_dict::StateDict;

impl EsmmConfig {
    /// A model with the weights of a file: safetensors, or `.pt` with the feature `pytorch`.
    ///
    /// # Errors
    /// A configuration out of range, a file that cannot be read, entries that do not fit; the error names the entry.
    pub fn load<B: Backend>(&self, path: &Path, device: &B::Device) -> Result<Esmm<B>, EsmmError> {
        self.init(device)?.load_state_dict(StateDict::read(path)?)
    }
}

impl<B: Backend> Esmm<B> {
    /// The weights under their PyTorch names.
    pub fn state_dict(&self) -> StateDict {
        let config = self.config();
        let mut export = Export { dict: StateDict::new("model"), towers: config.stages };
        export.tables(config, &self.embeddings.table.value());
        for (j, layer) in self.towers.layers.iter().enumerate() {
            let columns =
                if j == 0 { input_columns(config) } else { identity(layer.linear.weight.dims()[1]) };
            export.linear(&format!("ctr_hidden_{j}"), &layer.linear.weight.val(), &columns);
            export.rows(&format!("ctr_hidden_{j}.bias"), layer.linear.bias.val());
            if let Some(norm) = &layer.norm {
                let name = |part: &str| format!("ctr_batchnorm_{j}.{part}");
                export.rows(&name("weight"), norm.gamma.val());
                export.rows(&name("bias"), norm.beta.val());
                export.rows(&name("running_mean"), norm.running_mean.value());
                export.rows(&name("running_var"), norm.running_variance.value());
                export.counters(&name("num_batches_tracked"));
            }
            if let Some(slope) = &layer.slope {
                export.rows(&format!("ctr_activation_{j}.weight"), slope.val().unsqueeze_dim(1));
            }
        }
        let last = &self.towers.output;
        let columns = if self.towers.layers.is_empty() {
            input_columns(config)
        } else {
            identity(last.weight.dims()[1])
        };
        export.linear("task_last_layer", &last.weight.val(), &columns);
        export.rows("task_last_layer.bias", last.bias.val());
        export.dict
    }

    /// Takes over the weights of a state dict, running statistics included.
    ///
    /// # Errors
    /// Entries that are missing, left over, or of another shape; the error names the entry.
    pub fn load_state_dict(mut self, dict: StateDict) -> Result<Self, EsmmError> {
        let device = self.towers.output.bias.val().device();
        dict.check_names(&dict_names(&self.state_dict()))?;
        let config = &self.config().clone();
        let mut import = Import::<B> { dict, towers: config.stages, device };
        let table = import.tables(config)?;
        self.embeddings.table.update(|_| table);
        for (j, layer) in self.towers.layers.iter_mut().enumerate() {
            let [_, inputs, outputs] = layer.linear.weight.dims();
            let columns = if j == 0 { input_columns(config) } else { identity(inputs) };
            replace(&mut layer.linear.weight, import.linear(&format!("ctr_hidden_{j}"), outputs, &columns)?);
            replace(&mut layer.linear.bias, import.rows(&format!("ctr_hidden_{j}.bias"), outputs)?);
            if let Some(norm) = &mut layer.norm {
                let name = |part: &str| format!("ctr_batchnorm_{j}.{part}");
                replace(&mut norm.gamma, import.rows(&name("weight"), outputs)?);
                replace(&mut norm.beta, import.rows(&name("bias"), outputs)?);
                let mean = import.rows(&name("running_mean"), outputs)?;
                let variance = import.rows(&name("running_var"), outputs)?;
                norm.running_mean.update(|_| mean);
                norm.running_variance.update(|_| variance);
            }
            if let Some(slope) = &mut layer.slope {
                replace(slope, import.rows(&format!("ctr_activation_{j}.weight"), 1)?.reshape([-1]));
            }
        }
        let is_linear = self.towers.layers.is_empty();
        let last = &mut self.towers.output;
        let columns = if is_linear { input_columns(config) } else { identity(last.weight.dims()[1]) };
        replace(&mut last.weight, import.linear("task_last_layer", 1, &columns)?);
        replace(&mut last.bias, import.rows("task_last_layer.bias", 1)?);
        Ok(self)
    }
}

struct Export {
    dict: StateDict,
    towers: usize,
}

impl Export {
    fn tables<B: Backend>(&mut self, config: &EsmmConfig, arena: &Tensor<B, 2>) {
        for (name, range) in table_entries(config) {
            let rows = arena.clone().slice([range.start..range.start + range.len, 0..config.embedding_dim]);
            self.dict.entries.insert(name, rows.into_data().convert::<f32>());
        }
    }

    /// One row of `[K, n]` a task.
    fn rows<B: Backend>(&mut self, name: &str, stacked: Tensor<B, 2>) {
        let width = stacked.dims()[1];
        for (task, row) in stacked.iter_dim(0).enumerate() {
            let data = row.reshape([width]).into_data().convert::<f32>();
            self.dict.entries.insert(entry(task, name), data);
        }
    }

    /// `[K, in, out]` to one `[out, in]` a task, its columns in PyTorch's order.
    fn linear<B: Backend>(&mut self, name: &str, stacked: &Tensor<B, 3>, columns: &[usize]) {
        let [_, inputs, outputs] = stacked.dims();
        for (task, weight) in stacked.clone().iter_dim(0).enumerate() {
            let values: Vec<f32> = weight.into_data().iter::<f32>().collect();
            let rows = (0..outputs).flat_map(|row| columns.iter().map(move |&column| (row, column)));
            let transposed = rows.map(|(row, column)| values[column * outputs + row]).collect();
            let data = TensorData::new::<f32, _>(transposed, [outputs, inputs]);
            self.dict.entries.insert(entry(task, &format!("{name}.weight")), data);
        }
    }

    fn counters(&mut self, name: &str) {
        for task in 0..self.towers {
            self.dict.entries.insert(entry(task, name), TensorData::new(vec![0_i64], [0_usize; 0]));
        }
    }
}

struct Import<B: Backend> {
    dict: StateDict,
    towers: usize,
    device: B::Device,
}

impl<B: Backend> Import<B> {
    fn tables(&mut self, config: &EsmmConfig) -> Result<Tensor<B, 2>, EsmmError> {
        let dim = config.embedding_dim;
        let mut values = Vec::with_capacity(config.copies() * config.schema.num_rows() * dim);
        for (name, range) in table_entries(config) {
            values.extend(self.dict.take(&name, &[range.len, dim])?.iter::<f32>());
        }
        values.resize(values.len().max(config.copies() * dim), 0.0);
        let rows = values.len() / dim;
        Ok(Tensor::from_data(TensorData::new(values, [rows, dim]), &self.device))
    }

    fn rows(&mut self, name: &str, width: usize) -> Result<Tensor<B, 2>, EsmmError> {
        let mut values: Vec<f32> = Vec::with_capacity(self.towers * width);
        for task in 0..self.towers {
            values.extend(self.dict.take(&entry(task, name), &[width])?.iter::<f32>());
        }
        Ok(Tensor::from_data(TensorData::new(values, [self.towers, width]), &self.device))
    }

    fn linear(&mut self, name: &str, outputs: usize, columns: &[usize]) -> Result<Tensor<B, 3>, EsmmError> {
        let inputs = columns.len();
        let mut values = vec![0.0_f32; self.towers * inputs * outputs];
        for (task, stacked) in values.chunks_exact_mut(inputs * outputs).enumerate() {
            let data = self.dict.take(&entry(task, &format!("{name}.weight")), &[outputs, inputs])?;
            for (index, value) in data.iter::<f32>().enumerate() {
                stacked[columns[index % inputs] * outputs + index / inputs] = value;
            }
        }
        let data = TensorData::new(values, [self.towers, inputs, outputs]);
        Ok(Tensor::from_data(data, &self.device))
    }
}

fn replace<B: Backend, const D: usize>(param: &mut Param<Tensor<B, D>>, value: Tensor<B, D>) {
    // `map` takes the tensor as it comes: without this, loaded weights would never get a gradient.
    *param = param.clone().map(|old| value.set_require_grad(old.is_require_grad()));
}

fn entry(task: usize, name: &str) -> String {
    format!("task_{}_dnn.{name}", task + 1)
}

fn identity(len: usize) -> Vec<usize> {
    (0..len).collect()
}

fn dict_names(dict: &StateDict) -> Vec<String> {
    dict.entries.keys().cloned().collect()
}

/// Every table with its entry name and its rows of the arena.
fn table_entries(config: &EsmmConfig) -> Vec<(String, RowRange)> {
    let mut start = 0;
    let mut entries = Vec::new();
    for copy in 0..config.copies() {
        for table in config.schema.tables() {
            let weight = format!("{}.weight", table.name);
            let name = if config.shared_embeddings { weight } else { entry(copy, &weight) };
            entries.push((name, RowRange { start, len: table.num_embeddings }));
            start += table.num_embeddings;
        }
    }
    entries
}

/// For each column of PyTorch's concatenated input (schema order), its column here (sparse first, then dense).
fn input_columns(config: &EsmmConfig) -> Vec<usize> {
    let dim = config.embedding_dim;
    let mut sparse = 0;
    let mut dense = config.schema.num_sparse() * dim;
    let mut columns = Vec::with_capacity(config.schema.input_width(dim));
    for feature in config.schema.features() {
        let (next, width) = match feature {
            Feature::Sparse(_) => (&mut sparse, dim),
            Feature::Dense(feature) => (&mut dense, feature.width()),
        };
        columns.extend(*next..*next + width);
        *next += width;
    }
    columns
}
