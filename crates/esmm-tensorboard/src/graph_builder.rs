//! Nodes of a graph, with the attributes that TensorBoard's graph page reads.

use std::collections::{HashMap, HashSet};

use crate::proto::{Attribute, AttributeList, AttributeValue, DataType, GraphDef, Node, Shape, Versions};

/// A size that is not fixed: rows of a batch, ids of a bag.
pub(crate) const ANY: i64 = -1;
/// A version of TensorFlow's graphs; the page asks that there is one.
const PRODUCER: i32 = 1000;

/// Collects nodes.
#[derive(Default)]
pub(crate) struct GraphBuilder {
    nodes: Vec<Node>,
    variables: HashSet<String>,
    parts: HashMap<String, String>,
    taken: HashSet<String>,
}

impl GraphBuilder {
    /// Adds a node with the shape of its output; returns its name. Slashes in the name nest it.
    pub(crate) fn node(&mut self, name: &str, op: &str, input: Vec<String>, shape: &[i64]) -> String {
        self.nodes.push(Node { name: name.to_owned(), op: op.to_owned(), input, ..Node::default() });
        self.attribute("_output_shapes", Attribute::List(AttributeList { shape: vec![Shape::new(shape)] }));
        name.to_owned()
    }

    /// A tensor that is saved with the model; the same one for the same name.
    pub(crate) fn variable(&mut self, scope: &str, name: &str, shape: &[i64]) -> String {
        let name = format!("{scope}/{name}");
        if !self.variables.insert(name.clone()) {
            return name;
        }
        self.node(&name, "Variable", vec![], shape);
        self.attribute("dtype", Attribute::Type(DataType::Float.into()));
        self.attribute("shape", Attribute::Shape(Shape::new(shape)));
        if !name.contains("/running_") {
            self.attribute("parameters", Attribute::Int(shape.iter().product()));
        }
        name
    }

    /// Notes something about the node that was added last.
    pub(crate) fn attribute(&mut self, key: &str, value: Attribute) {
        if let Some(node) = self.nodes.last_mut() {
            node.attr.insert(key.to_owned(), AttributeValue { value: Some(value) });
        }
    }

    /// A person's name as a part of a node's: slashes would nest it, and the page takes few other characters. Different
    /// names become different parts, the same name always the same.
    pub(crate) fn part(&mut self, name: &str) -> String {
        if let Some(part) = self.parts.get(name) {
            return part.clone();
        }
        let kept = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let plain: String = name.chars().map(kept).collect();
        let numbered = (2..).map(|number| format!("{plain}_{number}"));
        let mut candidates = std::iter::once(plain.clone()).chain(numbered);
        let part = candidates.find(|part| self.taken.insert(part.clone())).unwrap_or(plain);
        self.parts.insert(name.to_owned(), part.clone());
        part
    }

    /// The graph.
    pub(crate) fn finish(self) -> GraphDef {
        GraphDef { node: self.nodes, versions: Some(Versions { producer: PRODUCER }) }
    }
}
