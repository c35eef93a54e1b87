//! A graph: `tensorboard.GraphDef`.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

use super::event::Shape;

/// `tensorboard.GraphDef`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphDef {
    #[prost(message, repeated, tag = "1")]
    pub(crate) node: Vec<Node>,
    #[prost(message, optional, tag = "4")]
    pub(crate) versions: Option<Versions>,
}

/// `tensorboard.VersionDef`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Versions {
    #[prost(int32, tag = "1")]
    pub(crate) producer: i32,
}

/// `tensorboard.NodeDef`; slashes in the name nest it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) op: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) input: Vec<String>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub(crate) attr: BTreeMap<String, AttributeValue>,
}

/// `tensorboard.AttrValue`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AttributeValue {
    #[prost(oneof = "Attribute", tags = "1, 2, 3, 4, 6, 7")]
    pub(crate) value: Option<Attribute>,
}

/// `tensorboard.AttrValue.value`
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Attribute {
    #[prost(message, tag = "1")]
    List(AttributeList),
    #[prost(bytes, tag = "2")]
    Text(Vec<u8>),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(float, tag = "4")]
    Float(f32),
    #[prost(enumeration = "super::event::DataType", tag = "6")]
    Type(i32),
    #[prost(message, tag = "7")]
    Shape(Shape),
}

/// `tensorboard.AttrValue.ListValue`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AttributeList {
    #[prost(message, repeated, tag = "7")]
    pub(crate) shape: Vec<Shape>,
}
