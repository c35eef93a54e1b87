//! The inputs of the graph: which feature is where.

use esmm_core::{EsmmConfig, Feature, Pooling, Side};
use serde_json::{Value, json};

/// Whom an input speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// User and context: one row a request.
    User,
    /// The items: N rows.
    Items,
}

impl Who {
    pub(crate) const ALL: [Self; 2] = [Self::User, Self::Items];

    pub(crate) fn of(feature: &Feature) -> Self {
        match feature.side() {
            Side::User | Side::Context => Self::User,
            Side::Item => Self::Items,
        }
    }

    /// Name of the input with the ids.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Items => "items",
        }
    }
}

/// A bag: two inputs, padded with weights of 0.
#[derive(Debug, Clone)]
pub(crate) struct Bag {
    pub(crate) name: String,
    pub(crate) pooling: Pooling,
    /// First row of its table among all rows.
    pub(crate) first_row: usize,
    /// Columns of the first layer's input.
    pub(crate) columns: Vec<usize>,
}

/// What one side brings, in the order in which the graph reads it: single ids, bags, dense values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    /// Name and first row of the table of each single id.
    pub(crate) singles: Vec<(String, usize)>,
    pub(crate) single_columns: Vec<usize>,
    pub(crate) bags: Vec<Bag>,
    /// Names of the columns of dense features: of one with bins one a bin.
    pub(crate) dense: Vec<String>,
    pub(crate) dense_columns: Vec<usize>,
}

impl Inputs {
    pub(crate) fn of(config: &EsmmConfig, who: Who) -> Self {
        let mut inputs = Self::default();
        let mut ranges = config.schema.row_ranges().into_iter();
        for (feature, columns) in config.schema.features().iter().zip(esmm_rank::input_columns(config)) {
            let first_row = match feature {
                Feature::Sparse(_) => ranges.next().map_or(0, |range| range.start),
                Feature::Dense(_) => 0,
            };
            if Who::of(feature) != who {
                continue;
            }
            let name = feature.name().to_owned();
            match feature {
                Feature::Dense(feature) => {
                    inputs.dense.extend(feature.columns());
                    inputs.dense_columns.extend(columns);
                }
                Feature::Sparse(sparse) => match sparse.bag {
                    Some(pooling) => {
                        inputs.bags.push(Bag { name, pooling, first_row, columns: columns.collect() });
                    }
                    None => {
                        inputs.singles.push((name, first_row));
                        inputs.single_columns.extend(columns);
                    }
                },
            }
        }
        inputs
    }

    /// Columns of the first layer's input in the order of the graph.
    pub(crate) fn columns(&self) -> Vec<usize> {
        let bags = self.bags.iter().flat_map(|bag| &bag.columns);
        self.single_columns.iter().chain(bags).chain(&self.dense_columns).copied().collect()
    }

    /// For people and programs.
    pub(crate) fn describe(&self, who: Who) -> Vec<Value> {
        let rows = if who == Who::User { json!(1) } else { json!("N") };
        let mut described = Vec::new();
        if !self.singles.is_empty() {
            let names: Vec<&String> = self.singles.iter().map(|(name, _)| name).collect();
            described.push(json!({ "input": who.name(), "dtype": "int64", "shape": [rows, names.len()], "columns": names }));
        }
        if !self.dense.is_empty() {
            let name = format!("{}_dense", who.name());
            described.push(json!({ "input": name, "dtype": "float32", "shape": [rows, self.dense.len()], "columns": self.dense }));
        }
        for bag in &self.bags {
            for (part, dtype) in [("ids", "int64"), ("weights", "float32")] {
                let name = format!("{}_{part}", bag.name);
                described.push(
                    json!({ "input": name, "dtype": dtype, "shape": [rows, "L"], "feature": bag.name }),
                );
            }
        }
        described
    }
}
