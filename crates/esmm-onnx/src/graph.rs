//! The model as a graph of ONNX operators.

use esmm_core::{EsmmConfig, Pooling};
use esmm_rank::{FoldedLayer, FoldedModel, ScoreColumn, ScoreKind};
use esmm_run::correction::{Correction, MOST_CONDITIONAL};

use crate::inputs::{Inputs, Who};
use crate::message::{
    Attribute, Dimension, FLOAT, Graph, INT64, Length, Node, Shape, Tensor, TensorType, Type, ValueInfo,
};

/// Builds a graph.
#[derive(Default)]
pub(crate) struct Builder {
    graph: Graph,
}

/// The graph of a model. Table rows are offset into one table a copy, and the user's half of the first layer is computed for
/// one row.
pub(crate) fn graph(
    config: &EsmmConfig,
    folded: FoldedModel,
    stages: &[String],
    correction: Option<&Correction>,
) -> Graph {
    let FoldedModel { tables, layers } = folded;
    let mut builder = Builder::default();
    builder.graph.name = "esmm".to_owned();
    let sides = Who::ALL.map(|who| (who, Inputs::of(config, who)));
    for (who, inputs) in &sides {
        builder.declare(*who, inputs);
    }
    let towers_of_copy = config.stages / config.copies();
    let mut logits = Vec::new();
    for (copy, tables) in tables.into_iter().enumerate() {
        let values: usize = tables.iter().map(Vec::len).sum();
        let rows = (values / config.embedding_dim) as i64;
        let table_name = format!("table_{copy}");
        if rows > 0 {
            // Each table goes as soon as its bytes are there: they are most of a model.
            let mut bytes = Vec::with_capacity(values * 4);
            for table in tables {
                bytes.extend(table.iter().flat_map(|value| value.to_le_bytes()));
            }
            builder.constant(&table_name, FLOAT, bytes, &[rows, config.embedding_dim as i64]);
        }
        let read: Vec<Option<String>> = sides
            .iter()
            .map(|(who, inputs)| builder.read(*who, inputs, &table_name, copy, config.embedding_dim))
            .collect();
        for tower in copy * towers_of_copy..(copy + 1) * towers_of_copy {
            logits.push(builder.tower(&sides, &read, &layers, tower));
        }
    }
    builder.scores(&logits, stages, correction);
    builder.graph
}

impl Builder {
    fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<Attribute>) -> String {
        self.graph.node.push(Node {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op.to_owned(),
            attribute: attributes,
        });
        output.to_owned()
    }

    fn floats(&mut self, name: &str, values: &[f32], dims: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, FLOAT, bytes, dims)
    }

    fn ints(&mut self, name: &str, values: &[i64], dims: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, INT64, bytes, dims)
    }

    fn constant(&mut self, name: &str, data_type: i32, bytes: Vec<u8>, dims: &[i64]) -> String {
        self.graph.initializer.push(Tensor {
            dims: dims.to_vec(),
            data_type,
            name: name.to_owned(),
            raw_data: Some(bytes),
            ..Tensor::default()
        });
        name.to_owned()
    }

    fn declare(&mut self, who: Who, inputs: &Inputs) {
        let rows = if who == Who::User { Length::Value(1) } else { Length::Any("N".to_owned()) };
        let mut declare = |name: String, elem_type: i32, width: Length| {
            self.graph.input.push(value(name, elem_type, vec![rows.clone(), width]));
        };
        if !inputs.singles.is_empty() {
            declare(who.name().to_owned(), INT64, Length::Value(inputs.singles.len() as i64));
        }
        if !inputs.dense.is_empty() {
            declare(format!("{}_dense", who.name()), FLOAT, Length::Value(inputs.dense.len() as i64));
        }
        for bag in &inputs.bags {
            let any = Length::Any(format!("L_{}", bag.name));
            declare(format!("{}_ids", bag.name), INT64, any.clone());
            declare(format!("{}_weights", bag.name), FLOAT, any);
        }
    }

    /// What one side brings to the first layer: `[1 or N, width]`; `None` where it has no feature.
    fn read(&mut self, who: Who, inputs: &Inputs, table: &str, copy: usize, dim: usize) -> Option<String> {
        let side = format!("{}_{copy}", who.name());
        let mut parts = Vec::new();
        if !inputs.singles.is_empty() {
            let first: Vec<i64> = inputs.singles.iter().map(|(_, first)| *first as i64).collect();
            let offsets = self.ints(&format!("{side}_offsets"), &first, &[1, first.len() as i64]);
            let rows = self.node("Add", &[who.name(), &offsets], &format!("{side}_rows"), vec![]);
            let found =
                self.node("Gather", &[table, &rows], &format!("{side}_embeddings"), vec![int("axis", 0)]);
            let shape = self.ints(&format!("{side}_shape"), &[-1, (first.len() * dim) as i64], &[2]);
            parts.push(self.node("Reshape", &[&found, &shape], &format!("{side}_single"), vec![]));
        }
        for bag in &inputs.bags {
            parts.push(self.pool(bag, table, copy));
        }
        if !inputs.dense.is_empty() {
            parts.push(format!("{}_dense", who.name()));
        }
        match parts.len() {
            0 => None,
            1 => parts.pop(),
            _ => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                Some(self.node("Concat", &parts, &format!("{side}_input"), vec![int("axis", 1)]))
            }
        }
    }

    /// The weighted sum or mean of a bag's embeddings, `[1 or N, D]`; an empty bag gives zeros.
    fn pool(&mut self, bag: &crate::inputs::Bag, table: &str, copy: usize) -> String {
        let name = format!("{}_{copy}", bag.name);
        let (ids, weights) = (format!("{}_ids", bag.name), format!("{}_weights", bag.name));
        let offset = self.ints(&format!("{name}_offset"), &[bag.first_row as i64], &[1]);
        let rows = self.node("Add", &[&ids, &offset], &format!("{name}_rows"), vec![]);
        let found = self.node("Gather", &[table, &rows], &format!("{name}_embeddings"), vec![int("axis", 0)]);
        let axis = self.ints(&format!("{name}_axis"), &[1], &[1]);
        // [rows, 1, L] times [rows, L, D].
        let flat = self.node("Unsqueeze", &[&weights, &axis], &format!("{name}_weights_row"), vec![]);
        let sums = self.node("MatMul", &[&flat, &found], &format!("{name}_sums"), vec![]);
        let sum = self.node("Squeeze", &[&sums, &axis], &format!("{name}_sum"), vec![]);
        match bag.pooling {
            Pooling::Sum => sum,
            Pooling::Mean => {
                let total = self.node(
                    "ReduceSum",
                    &[&weights, &axis],
                    &format!("{name}_total"),
                    vec![int("keepdims", 1)],
                );
                let zero = self.floats(&format!("{name}_zero"), &[0.0], &[1]);
                let one = self.floats(&format!("{name}_one"), &[1.0], &[1]);
                let empty = self.node("Equal", &[&total, &zero], &format!("{name}_empty"), vec![]);
                let divisor = self.node("Where", &[&empty, &one, &total], &format!("{name}_divisor"), vec![]);
                self.node("Div", &[&sum, &divisor], &format!("{name}_mean"), vec![])
            }
        }
    }

    /// The logit of a tower, `[N, 1]`.
    fn tower(
        &mut self,
        sides: &[(Who, Inputs); 2],
        read: &[Option<String>],
        layers: &[Vec<FoldedLayer>],
        tower: usize,
    ) -> String {
        let mut x = String::new();
        for (index, layer) in layers.iter().map(|layer| &layer[tower]).enumerate() {
            let name = format!("tower_{}_layer_{index}", tower + 1);
            let bias = self.floats(&format!("{name}_bias"), layer.bias(), &[layer.outputs() as i64]);
            let sum = if index == 0 {
                self.first_layer(&name, &bias, sides, read, layer)
            } else {
                let all: Vec<usize> = (0..layer.inputs()).collect();
                let dims = [layer.inputs() as i64, layer.outputs() as i64];
                let weight = self.floats(&format!("{name}_weight"), &layer.weights(&all), &dims);
                self.node("Gemm", &[&x, &weight, &bias], &format!("{name}_sum"), vec![])
            };
            x = match layer.slope() {
                None => sum,
                Some(0.0) => self.node("Relu", &[&sum], &format!("{name}_output"), vec![]),
                Some(slope) => {
                    self.node("LeakyRelu", &[&sum], &format!("{name}_output"), vec![float("alpha", slope)])
                }
            };
        }
        x
    }

    /// The user's half once, the items' half N times, and their sum.
    fn first_layer(
        &mut self,
        name: &str,
        bias: &str,
        sides: &[(Who, Inputs); 2],
        read: &[Option<String>],
        layer: &FoldedLayer,
    ) -> String {
        let mut sum = bias.to_owned();
        for ((who, inputs), read) in sides.iter().zip(read) {
            let Some(read) = read else { continue };
            let columns = inputs.columns();
            let dims = [columns.len() as i64, layer.outputs() as i64];
            let weight =
                self.floats(&format!("{name}_weight_{}", who.name()), &layer.weights(&columns), &dims);
            let half = self.node("MatMul", &[read, &weight], &format!("{name}_{}", who.name()), vec![]);
            sum = self.node("Add", &[&half, &sum], &format!("{name}_sum_{}", who.name()), vec![]);
        }
        sum
    }

    /// Probabilities `[N]` of all columns of scores. `logits` are those of the stages, of several models one after the other:
    /// their probabilities of reaching a stage are averaged.
    fn scores(&mut self, logits: &[String], stages: &[String], correction: Option<&Correction>) {
        let shape = self.ints("flat", &[-1], &[1]);
        let several = logits.len() > stages.len();
        let mut of_models: Vec<[Vec<String>; 2]> = Vec::new();
        for (model, logits) in logits.chunks(stages.len()).enumerate() {
            let prefix = if several { format!("model_{}_", model + 1) } else { String::new() };
            let (mut conditional, mut reach): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
            for (stage, logit) in logits.iter().enumerate() {
                let name = |what: &str| format!("{prefix}{what}_{}", stage + 1);
                let flat = self.node("Reshape", &[logit, &shape], &name("logit"), vec![]);
                let prob = self.node("Sigmoid", &[&flat], &name("conditional"), vec![]);
                reach.push(match reach.last().cloned() {
                    None => prob.clone(),
                    Some(before) => self.node("Mul", &[&before, &prob], &name("reach"), vec![]),
                });
                conditional.push(prob);
            }
            of_models.push([conditional, reach]);
        }
        let [mut conditional, mut reach] = match several {
            false => of_models.remove(0),
            true => self.average(&of_models, stages.len()),
        };
        if let Some(correction) = correction {
            // Of one model the logit of the first stage has all its digits.
            let first = (!several).then_some("logit_1");
            [conditional, reach] = self.corrected(&reach, first, correction);
        }
        for column in ScoreColumn::all(stages) {
            let from = match column.kind {
                ScoreKind::Reach(stage) => &reach[stage],
                ScoreKind::Conditional(stage) => &conditional[stage],
            };
            let from = from.clone();
            self.node("Identity", &[&from], &column.name, vec![]);
            self.graph.output.push(value(column.name, FLOAT, vec![Length::Any("N".to_owned())]));
        }
    }

    /// Corrected probabilities of each stage, conditional and of reaching it, as [`Correction`] defines them. `first` is the
    /// logit of the first stage where it is known.
    fn corrected(
        &mut self,
        reach: &[String],
        first: Option<&str>,
        correction: &Correction,
    ) -> [Vec<String>; 2] {
        let one = self.floats("correction_one", &[1.0], &[1]);
        let most = self.floats("correction_most", &[MOST_CONDITIONAL as f32], &[1]);
        // No quotient of zeros, where both probabilities are below the smallest f32.
        let least = self.floats("correction_least", &[f32::MIN_POSITIVE], &[1]);
        let (mut conditional, mut corrected): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for (stage, (before, platt)) in reach.iter().zip(&correction.stages).enumerate() {
            let name = |part: &str| format!("correction_{}_{part}", stage + 1);
            let slope = self.floats(&name("slope"), &[platt.slope as f32], &[1]);
            let intercept = self.floats(&name("intercept"), &[platt.intercept as f32], &[1]);
            let logit = match first.filter(|_| stage == 0) {
                Some(logit) => logit.to_owned(),
                None => {
                    let rest = self.node("Sub", &[&one, before], &name("rest"), vec![]);
                    let log = self.node("Log", &[before], &name("log"), vec![]);
                    let log_rest = self.node("Log", &[&rest], &name("log_rest"), vec![]);
                    self.node("Sub", &[&log, &log_rest], &name("logit"), vec![])
                }
            };
            let scaled = self.node("Mul", &[&logit, &slope], &name("scaled"), vec![]);
            let moved = self.node("Add", &[&scaled, &intercept], &name("moved"), vec![]);
            let prob = self.node("Sigmoid", &[&moved], &name("prob"), vec![]);
            let Some(earlier) = corrected.last().cloned() else {
                conditional.push(prob.clone());
                corrected.push(prob);
                continue;
            };
            let bound = self.node("Mul", &[&earlier, &most], &name("bound"), vec![]);
            let held = self.node("Min", &[&prob, &bound], &name("reach"), vec![]);
            let divisor = self.node("Max", &[&earlier, &least], &name("divisor"), vec![]);
            conditional.push(self.node("Div", &[&held, &divisor], &name("conditional"), vec![]));
            corrected.push(held);
        }
        [conditional, corrected]
    }

    /// Means of what the models reach, and their quotients.
    fn average(&mut self, of_models: &[[Vec<String>; 2]], stages: usize) -> [Vec<String>; 2] {
        let least = self.floats("least", &[f32::MIN_POSITIVE], &[1]);
        let (mut conditional, mut reach): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for stage in 0..stages {
            let name = |what: &str| format!("{what}_{}", stage + 1);
            let models: Vec<&str> = of_models.iter().map(|[_, reach]| reach[stage].as_str()).collect();
            let mean = self.node("Mean", &models, &name("reach"), vec![]);
            conditional.push(match reach.last().cloned() {
                None => mean.clone(),
                Some(before) => {
                    let before = self.node("Max", &[&before, &least], &name("above_zero"), vec![]);
                    self.node("Div", &[&mean, &before], &name("conditional"), vec![])
                }
            });
            reach.push(mean);
        }
        [conditional, reach]
    }
}

fn value(name: String, elem_type: i32, lengths: Vec<Length>) -> ValueInfo {
    let dim = lengths.into_iter().map(|length| Dimension { length: Some(length) }).collect();
    let tensor = TensorType { elem_type, shape: Some(Shape { dim }) };
    ValueInfo { name, kind: Some(Type { tensor: Some(tensor) }) }
}

fn int(name: &str, i: i64) -> Attribute {
    Attribute { name: name.to_owned(), i, kind: 2, ..Attribute::default() }
}

fn float(name: &str, f: f32) -> Attribute {
    Attribute { name: name.to_owned(), f, kind: 1, ..Attribute::default() }
}
