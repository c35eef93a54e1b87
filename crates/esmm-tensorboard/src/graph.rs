//! The model as a graph whose boxes open: features, tables, towers, funnel and loss.
//!
//! It is drawn from the configuration, not traced: one node for what a person would draw, with the shape of its output,
//! where -1 stands for the rows of a batch.

use esmm_core::{Activation, EsmmConfig, Feature, Pooling, SparseFeature};

use crate::graph_builder::{ANY, GraphBuilder};
use crate::proto::{Attribute, DataType, GraphDef};

/// The graph of a model whose stages have these labels and these weights in the loss.
pub(crate) fn graph(model: &EsmmConfig, labels: &[String], task_weights: &[f64]) -> GraphDef {
    let mut graph = GraphBuilder::default();
    let input = input(&mut graph, model);
    let names = stage_names(&mut graph, labels);
    let towers = names.iter().map(|names| tower(&mut graph, model, &names.tower, &input));
    let logits: Vec<String> = towers.collect();
    let reached = funnel(&mut graph, &names, &logits);
    loss(&mut graph, labels, task_weights, &reached);
    graph.finish()
}

/// Shapes of what comes out of tables: with a leading size where each tower has tables of its own.
struct TableShapes {
    copies: Option<i64>,
    dim: i64,
}

impl TableShapes {
    fn of(&self, sizes: &[i64]) -> Vec<i64> {
        self.copies.into_iter().chain(sizes.iter().copied()).chain([self.dim]).collect()
    }
}

/// Features and tables, and what the towers read.
fn input(graph: &mut GraphBuilder, model: &EsmmConfig) -> String {
    let schema = &model.schema;
    let dim = model.embedding_dim as i64;
    let shapes = TableShapes { copies: (!model.shared_embeddings).then_some(model.stages as i64), dim };
    let mut parts = Vec::new();
    for (feature, rows) in schema.sparse().zip(schema.row_ranges()) {
        let table = feature.shares.as_ref().unwrap_or(&feature.name);
        let scope = format!("tables/{}", graph.part(table));
        let weight = graph.variable(&scope, "weight", &shapes.of(&[rows.len as i64]));
        parts.push(lookup(graph, feature, &scope, weight, &shapes));
    }
    for feature in schema.dense() {
        let shape = [ANY, feature.width() as i64];
        parts.push(placeholder(graph, &Feature::Dense(feature.clone()), &shape, DataType::Float));
    }
    let width = TableShapes { copies: shapes.copies, dim: schema.input_width(model.embedding_dim) as i64 };
    graph.node("input/concat", "Concat", parts, &width.of(&[ANY]))
}

/// The rows of a feature's ids, pooled where it is a bag.
fn lookup(
    graph: &mut GraphBuilder,
    feature: &SparseFeature,
    scope: &str,
    weight: String,
    shapes: &TableShapes,
) -> String {
    let name = graph.part(&feature.name);
    let ids: &[i64] = if feature.bag.is_some() { &[ANY, ANY] } else { &[ANY] };
    let placed = placeholder(graph, &Feature::Sparse(feature.clone()), ids, DataType::Int32);
    let inputs = vec![weight, placed];
    let rows = graph.node(&format!("{scope}/lookup_{name}"), "Gather", inputs, &shapes.of(ids));
    match feature.bag {
        None => rows,
        Some(Pooling::Sum) => {
            graph.node(&format!("{scope}/sum_{name}"), "PoolSum", vec![rows], &shapes.of(&[ANY]))
        }
        Some(Pooling::Mean) => {
            graph.node(&format!("{scope}/mean_{name}"), "PoolMean", vec![rows], &shapes.of(&[ANY]))
        }
    }
}

fn placeholder(graph: &mut GraphBuilder, feature: &Feature, shape: &[i64], kind: DataType) -> String {
    let side = format!("{:?}", feature.side()).to_lowercase();
    let name = format!("features/{side}/{}", graph.part(feature.name()));
    let name = graph.node(&name, "Placeholder", vec![], shape);
    graph.attribute("dtype", Attribute::Type(kind.into()));
    name
}

/// One tower; returns the name of its logit.
fn tower(graph: &mut GraphBuilder, model: &EsmmConfig, name: &str, input: &str) -> String {
    let scope = format!("towers/{name}");
    let mut width = model.schema.input_width(model.embedding_dim) as i64;
    let mut x = input.to_owned();
    for (layer, (&hidden, &dropout)) in model.towers.hidden.iter().zip(&model.towers.dropout).enumerate() {
        let scope = format!("{scope}/hidden_{layer}");
        let hidden = hidden as i64;
        x = linear(graph, &scope, x, width, hidden);
        if model.towers.batch_norm {
            let norm = format!("{scope}/batch_norm");
            let names = ["gamma", "beta", "running_mean", "running_variance"];
            let state = names.map(|name| graph.variable(&norm, name, &[hidden]));
            let inputs = std::iter::once(x).chain(state).collect();
            x = graph.node(&format!("{norm}/normalize"), "BatchNorm", inputs, &[ANY, hidden]);
        }
        x = activation(graph, &scope, model.towers.activation, x, hidden);
        if dropout > 0.0 {
            x = graph.node(&format!("{scope}/dropout"), "Dropout", vec![x], &[ANY, hidden]);
            graph.attribute("probability", Attribute::Float(dropout as f32));
        }
        width = hidden;
    }
    linear(graph, &format!("{scope}/logit"), x, width, 1)
}

fn linear(graph: &mut GraphBuilder, scope: &str, input: String, width: i64, out: i64) -> String {
    let weight = graph.variable(scope, "weight", &[width, out]);
    let bias = graph.variable(scope, "bias", &[out]);
    graph.node(&format!("{scope}/linear"), "Linear", vec![input, weight, bias], &[ANY, out])
}

fn activation(graph: &mut GraphBuilder, scope: &str, kind: Activation, x: String, width: i64) -> String {
    let node = |graph: &mut GraphBuilder, name: &str, op: &str, inputs: Vec<String>| {
        graph.node(&format!("{scope}/{name}"), op, inputs, &[ANY, width])
    };
    match kind {
        Activation::None => x,
        Activation::Relu => node(graph, "relu", "Relu", vec![x]),
        Activation::LeakyRelu { negative_slope } => {
            let name = node(graph, "leaky_relu", "LeakyRelu", vec![x]);
            graph.attribute("negative_slope", Attribute::Float(negative_slope as f32));
            name
        }
        Activation::Prelu => {
            let slope = graph.variable(scope, "slope", &[]);
            node(graph, "prelu", "Prelu", vec![x, slope])
        }
    }
}

/// What the parts of the graph that belong to a stage are called.
struct StageNames {
    /// Its tower, which has the probability of the stage when the one before was reached.
    tower: String,
    /// The probability of reaching it from an impression.
    reach: String,
}

fn stage_names(graph: &mut GraphBuilder, labels: &[String]) -> Vec<StageNames> {
    let own = |tower: &str, reach: &str| StageNames { tower: tower.to_owned(), reach: reach.to_owned() };
    if labels.len() == 2 {
        return vec![own("ctr", "ctr"), own("cvr", "ctcvr")];
    }
    let labels: Vec<String> = labels.iter().map(|label| graph.part(label)).collect();
    let given = |index: usize| match index {
        0 => labels[0].clone(),
        _ => format!("{}_given_{}", labels[index], labels[index - 1]),
    };
    labels.iter().enumerate().map(|(index, label)| own(&given(index), label)).collect()
}

/// Log-probabilities of reaching each stage and of not reaching it, composed as [`esmm_core::FunnelLogits`] does.
fn funnel(graph: &mut GraphBuilder, names: &[StageNames], logits: &[String]) -> Vec<[String; 2]> {
    let mut node = |scope: &str, name: &str, op: &str, inputs: &[&String]| {
        let inputs = inputs.iter().map(|&input| input.clone()).collect();
        graph.node(&format!("funnel/{scope}/{name}"), op, inputs, &[ANY])
    };
    let mut reached: Vec<[String; 2]> = Vec::new();
    for (StageNames { tower, reach }, logit) in names.iter().zip(logits) {
        let passed = node(tower, "log_p", "LogSigmoid", &[logit]);
        let failed = node(tower, "log_1_minus_p", "LogSigmoidOfMinus", &[logit]);
        node(tower, "p", "Exp", &[&passed]);
        let Some([before, missed]) = reached.last() else {
            reached.push([passed, failed]);
            continue;
        };
        let log_p = node(reach, "log_p", "Add", &[before, &passed]);
        let log_not_p = node(reach, "log_1_minus_p", "LogAddExp", &[missed, before, &failed]);
        node(reach, "p", "Exp", &[&log_p]);
        reached.push([log_p, log_not_p]);
    }
    reached
}

/// Cross-entropy of reaching each stage, over all impressions, and their weighted sum.
fn loss(graph: &mut GraphBuilder, labels: &[String], weights: &[f64], reached: &[[String; 2]]) {
    let mut losses = Vec::new();
    for ((label, [log_p, log_not_p]), &weight) in labels.iter().zip(reached).zip(weights) {
        let label = graph.part(label);
        let happened = graph.node(&format!("labels/{label}"), "Placeholder", vec![], &[ANY]);
        graph.attribute("dtype", Attribute::Type(DataType::Float.into()));
        let inputs = vec![happened, log_p.clone(), log_not_p.clone()];
        losses.push(graph.node(&format!("loss/{label}"), "MeanCrossEntropy", inputs, &[]));
        graph.attribute("weight", Attribute::Float(weight as f32));
    }
    graph.node("loss/total", "WeightedSum", losses, &[]);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use esmm_core::{FeatureSchema, Side};

    use super::*;
    use crate::proto::{AttributeList, Node};

    fn model() -> EsmmConfig {
        let schema = FeatureSchema::new(vec![
            Feature::sparse("user", Side::User, 1000),
            Feature::dense("price", Side::Item),
            Feature::bag("seen/items", Side::User, 0, Pooling::Mean).sharing("item"),
            Feature::sparse("item", Side::Item, 500),
        ]);
        EsmmConfig::new(schema.unwrap())
    }

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn shape(node: &Node) -> Vec<i64> {
        let Some(Attribute::List(AttributeList { shape })) = &node.attr["_output_shapes"].value else {
            panic!("{node:?}")
        };
        shape[0].dim.iter().map(|dim| dim.size).collect()
    }

    /// Every input is a node above, every name is unique, and no name is a box and a node at once.
    fn check(graph: &GraphDef) {
        let mut known = HashSet::new();
        for node in &graph.node {
            for input in &node.input {
                assert!(known.contains(input.as_str()), "{}: no `{input}` above it", node.name);
            }
            assert!(known.insert(node.name.as_str()), "{} is there twice", node.name);
        }
        for name in &known {
            assert!(!known.iter().any(|other| other.starts_with(&format!("{name}/"))), "{name}");
        }
    }

    #[test]
    fn the_paper_s_model() {
        let graph = graph(&model(), &labels(&["click", "conversion"]), &[1.0, 0.5]);
        check(&graph);
        let node = |name: &str| graph.node.iter().find(|node| node.name == name).expect(name);
        assert_eq!(shape(node("tables/item/weight")), [500, 18]);
        assert_eq!(node("tables/item/mean_seen_items").input, ["tables/item/lookup_seen_items"]);
        assert_eq!(shape(node("tables/item/mean_seen_items")), [-1, 18]);
        assert_eq!(shape(node("input/concat")), [-1, 3 * 18 + 1]);
        assert_eq!(shape(node("towers/cvr/hidden_0/weight")), [55, 360]);
        assert_eq!(shape(node("towers/cvr/logit/linear")), [-1, 1]);
        let product = &node("funnel/ctcvr/log_p").input;
        assert_eq!(*product, ["funnel/ctr/log_p", "funnel/cvr/log_p"], "pCTCVR = pCTR x pCVR");
        let expected = ["labels/conversion", "funnel/ctcvr/log_p", "funnel/ctcvr/log_1_minus_p"];
        assert_eq!(node("loss/conversion").input, expected);
        assert_eq!(node("loss/total").input, ["loss/click", "loss/conversion"]);
        let parameters = graph.node.iter().filter_map(|node| match node.attr.get("parameters")?.value {
            Some(Attribute::Int(count)) => Some(count as u64),
            _ => None,
        });
        assert_eq!(parameters.sum::<u64>(), esmm_core::ModelSummary::new(&model()).parameters());
    }

    #[test]
    fn three_stages_batch_norm_and_tables_of_their_own() {
        let mut config = model();
        (config.stages, config.shared_embeddings) = (3, false);
        (config.towers.batch_norm, config.towers.activation) = (true, Activation::Prelu);
        config.towers.dropout = vec![0.5, 0.0, 0.5];
        let graph = graph(&config, &labels(&["click", "cart", "purchase"]), &[1.0; 3]);
        check(&graph);
        let node = |name: &str| graph.node.iter().find(|node| node.name == name).expect(name);
        assert_eq!(shape(node("tables/user/weight")), [3, 1000, 18]);
        assert_eq!(shape(node("input/concat")), [3, -1, 55]);
        assert_eq!(node("towers/cart_given_click/hidden_0/batch_norm/normalize").input.len(), 5);
        assert_eq!(
            node("funnel/purchase/log_p").input,
            ["funnel/cart/log_p", "funnel/purchase_given_cart/log_p"]
        );
        assert!(graph.node.iter().any(|node| node.name.ends_with("hidden_2/dropout")));
        assert!(!graph.node.iter().any(|node| node.name.ends_with("hidden_1/dropout")));
    }

    #[test]
    fn names_that_would_fall_together_are_numbered() {
        let names = ["a b", "a_b", "a/b", "features"];
        let features = names.map(|name| Feature::sparse(name, Side::User, 10));
        let config = EsmmConfig::new(FeatureSchema::new(features.to_vec()).unwrap());
        let graph = graph(&config, &labels(&["a:b", "a_b"]), &[1.0; 2]);
        check(&graph);
        for name in ["tables/a_b/weight", "tables/a_b_2/weight", "tables/a_b_3/weight", "labels/a_b_4"] {
            assert!(graph.node.iter().any(|node| node.name == name), "{name}");
        }
    }
}
