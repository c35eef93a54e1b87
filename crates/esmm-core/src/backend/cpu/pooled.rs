//! The first layer on rows of the table, in parts: see `parts.rs`.

use std::borrow::Cow;

use rayon::prelude::*;

use super::bags::Bags;
use super::layer::{Layer, LayerResult};
use super::layer_backward::{LayerGradients, Saved};
use super::parts::Parts;
use super::shared::{Addend, Shared, WeightRows, pick_rows, put_rows, sum_by_rows};
use crate::backend::SharedFeatures;

/// Features that groups of rows share: see [`GroupPlan`](crate::backend::GroupPlan).
pub(super) struct Groups<'a> {
    pub(super) bags: Bags<'a>,
    pub(super) of_rows: &'a [u32],
    pub(super) features: &'a SharedFeatures,
}

/// The first layer: see [`PooledInput`](crate::backend::PooledInput).
pub(super) struct PooledLayer<'a> {
    /// The layer, with all columns and without an input.
    pub(super) layer: Layer<'a>,
    /// `[T * U, D]`.
    pub(super) table: &'a [f32],
    /// Width of a row of the table, D.
    pub(super) dim: usize,
    pub(super) groups: Option<Groups<'a>>,
    parts: Parts<'a>,
}

/// The pooled input: of rows `[T, B, ..]`, and of groups `[T, G, ..]`, if there are any.
pub(super) struct Pooled<'a> {
    pub(super) own: Cow<'a, [f32]>,
    pub(super) groups: Cow<'a, [f32]>,
}

/// Gradients: those of the table, and of the layer's weights.
pub(super) struct PooledGradients {
    pub(super) table: Vec<f32>,
    pub(super) weight: Vec<f32>,
    pub(super) layer: LayerGradients,
}

impl<'a> PooledLayer<'a> {
    pub(super) fn new(
        layer: Layer<'a>,
        (table, dim): (&'a [f32], usize),
        own: Bags<'a>,
        groups: Option<Groups<'a>>,
    ) -> Self {
        let parts = Parts::new(own, groups.as_ref().map(|groups| groups.features), dim);
        Self { layer, table, dim, groups, parts }
    }

    pub(super) fn pool(&self) -> Pooled<'static> {
        let groups = self.groups.as_ref().map(|groups| groups.bags.pool(self.table, self.dim));
        Pooled {
            own: self.parts.own().pool(self.table, self.dim).into(),
            groups: groups.unwrap_or_default().into(),
        }
    }

    pub(super) fn forward(&self, pooled: &Pooled<'_>) -> LayerResult {
        let weight = self.own_weight();
        let shared = self.shared(pooled);
        let products = products(&shared, self.layer.towers, self.layer.outputs);
        self.own_layer(pooled, &weight, &addends(&shared, &products)).forward()
    }

    /// The gradients; `grad` is overwritten.
    pub(super) fn backward(
        &self,
        pooled: &Pooled<'_>,
        saved: Saved<'_>,
        grad: &mut [f32],
    ) -> PooledGradients {
        let (towers, outputs) = (self.layer.towers, self.layer.outputs);
        let weight = self.own_weight();
        let mut layer = self.own_layer(pooled, &weight, &[]).backward(saved, grad);
        let own = self.parts.own();
        let num_rows = self.table.len() / (own.tables * self.dim);
        let mut table = own.pool_backward(&layer.input, num_rows, self.dim);
        let shared = self.shared(pooled);
        if shared.is_empty() {
            let weight = std::mem::take(&mut layer.weight);
            return PooledGradients { table, weight, layer };
        }
        let sums = sum_by_rows(grad, &shared, towers, outputs);
        let grads = shared.par_iter().zip(sums).map(|(part, sums)| part.backward(&sums, towers, outputs));
        let grads: Vec<_> = grads.collect();
        let mut weight = vec![0.0; self.layer.weight.len()];
        put_rows(&mut weight, &layer.weight, towers, outputs, &self.parts.own_columns);
        for (part, grads) in shared.iter().zip(&grads) {
            put_rows(&mut weight, &grads.weight, towers, outputs, part.columns);
        }
        for (narrow, grads) in self.parts.narrow.iter().zip(&grads) {
            let (start, len) = (narrow.rows.start * self.dim, narrow.rows.len() * self.dim);
            let copies = table.chunks_exact_mut(num_rows * self.dim).zip(grads.values.chunks_exact(len));
            for (table, grads) in copies {
                table[start..][..len].iter_mut().zip(grads).for_each(|(to, grad)| *to += grad);
            }
        }
        if let (Some(groups), Some(grads)) = (&self.groups, grads.last()) {
            groups.bags.add_backward(&grads.values, self.dim, &mut table);
        }
        PooledGradients { table, weight, layer }
    }

    fn own_weight(&self) -> Cow<'_, [f32]> {
        let Layer { weight, towers, outputs, .. } = self.layer;
        pick_rows(weight, towers, outputs, &self.parts.own_columns)
    }

    /// The layer on what rows have of their own.
    fn own_layer<'b>(
        &'b self,
        pooled: &'b Pooled<'_>,
        weight: &'b [f32],
        addends: &'b [Addend<'b>],
    ) -> Layer<'b> {
        let inputs = weight.len() / (self.layer.towers * self.layer.outputs);
        Layer { input: &pooled.own, inputs, weight, addends, ..self.layer }
    }

    fn shared<'b>(&'b self, pooled: &'b Pooled<'_>) -> Vec<Shared<'b>> {
        let Layer { weight, towers, outputs, .. } = self.layer;
        let groups = self.groups.as_ref().map(|groups| (groups, &*pooled.groups));
        shared_parts(&self.parts, (self.table, self.dim), groups, |columns| {
            WeightRows::pick(weight, towers, outputs, columns)
        })
    }
}

/// Narrow features, then the groups.
pub(super) fn shared_parts<'b>(
    parts: &'b Parts<'_>,
    (table, dim): (&'b [f32], usize),
    groups: Option<(&'b Groups<'_>, &'b [f32])>,
    weight_of: impl Fn(&[std::ops::Range<usize>]) -> WeightRows<'b>,
) -> Vec<Shared<'b>> {
    let copies = || table.chunks_exact(table.len() / parts.own().tables);
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

/// The products of every part.
pub(super) fn products(shared: &[Shared<'_>], towers: usize, outputs: usize) -> Vec<Vec<f32>> {
    shared.par_iter().map(|part| part.products(towers, outputs)).collect()
}

/// What rows add of every part.
pub(super) fn addends<'b>(shared: &[Shared<'b>], products: &'b [Vec<f32>]) -> Vec<Addend<'b>> {
    let parts = shared.iter().zip(products);
    parts.map(|(part, products)| Addend { products, of_rows: part.of_rows }).collect()
}
