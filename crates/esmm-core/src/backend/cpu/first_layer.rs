//! The first layer on rows of the table, in parts: see `parts.rs`.

use std::borrow::Cow;
use std::ops::Range;

use super::bags::HostBags;
use super::layer::{HostLayer, LayerResult};
use super::parts::Parts;
use super::shared::{self, Addend, Addends, Shared, WeightRows, pick_rows, put_rows, split};
use super::stairs::{StairAddend, Stairs};
use super::sums;
use crate::backend::{FirstLayerGrads, GroupBags, LayerSaved, LayerWeights};

/// Groups in host memory.
pub(super) type HostGroups<'a> = GroupBags<&'a [f32], &'a [u32]>;

/// The first layer: see [`FirstLayer`](crate::backend::FirstLayer).
pub(super) struct HostFirstLayer<'a> {
    /// The layer, with all columns and without an input.
    pub(super) layer: HostLayer<'a>,
    /// `[T * U, D]`.
    pub(super) table: &'a [f32],
    /// Width of a row of the table, D.
    pub(super) dim: usize,
    /// What rows have of their own.
    pub(super) own: HostBags<'a>,
    /// What groups share.
    pub(super) groups: Option<HostGroups<'a>>,
}

/// What forward keeps for backward: how the input was cut, and its pooled parts.
#[derive(Debug)]
pub(super) struct PooledParts {
    parts: Parts,
    /// `[T, B, ..]`.
    own: Vec<f32>,
    /// `[T, G, ..]`; empty without groups.
    groups: Vec<f32>,
}

impl HostFirstLayer<'_> {
    /// Cuts the input and pools its parts.
    pub(super) fn pool(&self) -> PooledParts {
        let features = self.groups.as_ref().map(|groups| groups.features.as_ref());
        let parts = Parts::new(&self.own, features, self.dim);
        let groups = self.groups.as_ref().map(|groups| groups.bags.pool(self.table, self.dim));
        let own = parts.own(&self.own).pool(self.table, self.dim);
        PooledParts { parts, own, groups: groups.unwrap_or_default() }
    }

    pub(super) fn forward(&self, pooled: &PooledParts) -> LayerResult {
        let weight = self.own_weight(pooled);
        let shared = self.shared(pooled);
        let towers = self.layer.towers;
        let outputs = self.layer.outputs;
        let matmuls = shared::matmuls(&shared, towers, outputs);
        let tables = stair_tables(&pooled.parts.stairs, self.layer.weights.weight, towers, outputs);
        let shared = addends(&shared, &matmuls, towers, outputs);
        let stairs = stair_addends(&pooled.parts.stairs, &tables);
        self.own_layer(pooled, &weight, Addends { shared: &shared, stairs: &stairs }).forward()
    }

    /// The gradients; `grad` is overwritten.
    pub(super) fn backward(
        &self,
        pooled: &PooledParts,
        saved: &LayerSaved<&[f32]>,
        grad: &mut [f32],
    ) -> FirstLayerGrads<Vec<f32>> {
        let towers = self.layer.towers;
        let outputs = self.layer.outputs;
        let weight = self.own_weight(pooled);
        // What is read of the table comes first, and dense values need no gradient.
        let own = HostBags { dense: None, bins: None, ..pooled.parts.own(&self.own) };
        let columns = own.width(self.dim);
        let own_layer = self.own_layer(pooled, &weight, Addends::default());
        let own_grads = own_layer.backward_to(columns, saved, grad);
        let num_rows = self.table.len() / (own.tables * self.dim);
        let mut table = own.pool_backward(&own_grads.input, num_rows, self.dim);
        let shared = self.shared(pooled);
        let stairs = &pooled.parts.stairs;
        if shared.is_empty() && stairs.is_empty() {
            return FirstLayerGrads { table, weights: own_grads.weights };
        }
        let sums = sums::by_rows(grad, &shared, towers, outputs);
        let grads = shared::backward(&shared, &sums, towers, outputs);
        let of_stairs: Vec<_> =
            stairs.iter().map(|stairs| stairs.weight_grad(grad, towers, outputs)).collect();
        let own_weights = own_grads.weights;
        let mut weights: Vec<(&[f32], &[Range<usize>])> =
            vec![(own_weights.weight.as_slice(), pooled.parts.own_columns.as_slice())];
        let lens = shared.iter().map(|part| towers * part.width() * outputs);
        weights.extend(split(&grads.weight, lens).zip(shared.iter().map(|part| part.columns)));
        let columns = stairs.iter().map(|stairs| std::slice::from_ref(&stairs.columns));
        weights.extend(of_stairs.iter().map(Vec::as_slice).zip(columns));
        let weight = put_rows(&weights, towers, outputs);
        let lens = shared.iter().map(|part| part.values.iter().map(|values| values.len()).sum());
        let mut of_parts = split(&grads.values, lens);
        for (narrow, grads) in pooled.parts.narrow.iter().zip(of_parts.by_ref()) {
            let start = narrow.rows.start * self.dim;
            let len = narrow.rows.len() * self.dim;
            let copies = table.chunks_exact_mut(num_rows * self.dim).zip(grads.chunks_exact(len));
            for (table, grads) in copies {
                table[start..][..len].iter_mut().zip(grads).for_each(|(to, grad)| *to += grad);
            }
        }
        if let (Some(groups), Some(grads)) = (&self.groups, of_parts.next()) {
            groups.bags.add_backward(grads, self.dim, &mut table);
        }
        FirstLayerGrads { table, weights: LayerWeights { weight, ..own_weights } }
    }

    fn own_weight(&self, pooled: &PooledParts) -> Cow<'_, [f32]> {
        let HostLayer { weights, towers, outputs, .. } = self.layer;
        pick_rows(weights.weight, towers, outputs, &pooled.parts.own_columns)
    }

    /// The layer on what rows have of their own.
    fn own_layer<'b>(
        &'b self,
        pooled: &'b PooledParts,
        weight: &'b [f32],
        addends: Addends<'b>,
    ) -> HostLayer<'b> {
        let inputs = weight.len() / (self.layer.towers * self.layer.outputs);
        let weights = LayerWeights { weight, ..self.layer.weights };
        HostLayer { input: &pooled.own, inputs, weights, addends, ..self.layer }
    }

    fn shared<'b>(&'b self, pooled: &'b PooledParts) -> Vec<Shared<'b>> {
        let HostLayer { weights, towers, outputs, .. } = self.layer;
        let groups = self.groups.as_ref().map(|groups| (groups, pooled.groups.as_slice()));
        let tables = self.own.tables;
        shared_parts(&pooled.parts, (self.table, self.dim, tables), groups, |columns| {
            WeightRows::pick(weights.weight, towers, outputs, columns)
        })
    }
}

/// Narrow features, then the groups. `table` comes with its width and the number of its copies.
pub(super) fn shared_parts<'b>(
    parts: &'b Parts,
    (table, dim, tables): (&'b [f32], usize, usize),
    groups: Option<(&'b HostGroups<'_>, &'b [f32])>,
    weight_of: impl Fn(&[Range<usize>]) -> WeightRows<'b>,
) -> Vec<Shared<'b>> {
    let copies = || table.chunks_exact(table.len() / tables);
    let mut shared: Vec<_> = parts
        .narrow
        .iter()
        .map(|narrow| Shared {
            rows: narrow.rows.len(),
            values: copies().map(|table| &table[narrow.rows.start * dim..narrow.rows.end * dim]).collect(),
            weight: weight_of(std::slice::from_ref(&narrow.columns)),
            columns: std::slice::from_ref(&narrow.columns),
            of_rows: &narrow.of_rows,
        })
        .collect();
    shared.extend(groups.map(|(groups, pooled)| Shared {
        rows: groups.bags.rows,
        values: pooled.chunks_exact(groups.bags.rows * groups.bags.width(dim)).collect(),
        weight: weight_of(&parts.group_columns),
        columns: &parts.group_columns,
        of_rows: groups.of_rows,
    }));
    shared
}

/// What rows add of every part; `matmuls` are those of [`shared::matmuls`].
pub(super) fn addends<'b>(
    shared: &[Shared<'b>],
    matmuls: &'b [f32],
    towers: usize,
    outputs: usize,
) -> Vec<Addend<'b>> {
    let parts = shared.iter().zip(split(matmuls, shared.iter().map(|part| towers * part.rows * outputs)));
    parts.map(|(part, matmuls)| Addend { matmuls, of_rows: part.of_rows }).collect()
}

/// The tables of every position among bins: see [`StairAddend`].
pub(super) fn stair_tables(
    stairs: &[Stairs],
    weight: &[f32],
    towers: usize,
    outputs: usize,
) -> Vec<Vec<f32>> {
    stairs.iter().map(|stairs| stairs.tables(weight, towers, outputs)).collect()
}

/// What rows add of every position among bins.
pub(super) fn stair_addends<'b>(stairs: &'b [Stairs], tables: &'b [Vec<f32>]) -> Vec<StairAddend<'b>> {
    let pairs = stairs.iter().zip(tables);
    pairs.map(|(stairs, tables)| StairAddend { tables, ones: &stairs.ones, shares: &stairs.shares }).collect()
}
