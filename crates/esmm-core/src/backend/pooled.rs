//! What the first layer of the towers reads: pooled rows of the table, some of them shared by groups of rows.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};

use super::{BagPlan, LayerInput, LayerSaved};
use crate::schema::{FeatureSchema, Side};
use crate::slot_order::SlotOrder;

/// The bags of a batch: those of each row, and those that groups of rows share.
#[derive(Debug, Clone)]
pub struct InputPlan<B: Backend> {
    /// What each row has of its own: all features, or those that groups do not share.
    pub own: BagPlan<B>,
    /// What groups of rows share.
    pub groups: Option<GroupPlan<B>>,
}

/// Features that G groups of rows share.
#[derive(Debug, Clone)]
pub struct GroupPlan<B: Backend> {
    /// Their bags, with groups for rows.
    pub bags: BagPlan<B>,
    /// Group of each row, `[B]`.
    pub of_rows: IntTensor<B>,
    /// The rows by group, where the batch brought them: read by the backward of devices.
    pub rows_by_group: Option<SlotOrder<B>>,
    /// Which features of the model these are.
    pub features: Arc<SharedFeatures>,
}

/// For each feature of a model, sparse and dense ones in order, whether groups of rows share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFeatures {
    /// One entry a sparse feature.
    pub sparse: Vec<bool>,
    /// One entry a dense feature.
    pub dense: Vec<bool>,
}

/// What [`EsmmBackend::pooled_layer`](super::EsmmBackend::pooled_layer) reads. Unused tensors are as in
/// [`LayerInput`].
#[derive(Debug, Clone)]
pub struct PooledInput<B: Backend> {
    /// `[T * U, D]`.
    pub table: FloatTensor<B>,
    /// How its rows become the input `[T, B, F * D + V]` of the layer.
    pub plan: InputPlan<B>,
    /// `[K, I, O]`, I = F * D + V.
    pub weight: FloatTensor<B>,
    /// `[K, O]`.
    pub bias: FloatTensor<B>,
    /// Scale of the batch norm, `[K, O]`.
    pub gamma: FloatTensor<B>,
    /// Shift of the batch norm, `[K, O]`.
    pub beta: FloatTensor<B>,
    /// Slope of a PReLU, `[K]`.
    pub slope: FloatTensor<B>,
}

/// What [`EsmmBackend::pooled_layer`](super::EsmmBackend::pooled_layer) gives.
#[derive(Debug, Clone)]
pub struct PooledOutput<B: Backend> {
    /// `[K, B, O]`.
    pub output: FloatTensor<B>,
    /// What the way back needs.
    pub saved: PooledSaved<B>,
}

/// What the backward pass of a pooled layer reads besides its input.
#[derive(Debug, Clone)]
pub struct PooledSaved<B: Backend> {
    /// The pooled input; a backend may keep it in parts that only its own backward pass understands.
    pub pooled: Vec<FloatTensor<B>>,
    /// As of any layer.
    pub layer: LayerSaved<B>,
}

/// Gradients with respect to a [`PooledInput`]. Those of unused tensors mean nothing.
#[derive(Debug, Clone)]
pub struct PooledGrads<B: Backend> {
    /// `[T * U, D]`.
    pub table: FloatTensor<B>,
    /// `[K, I, O]`.
    pub weight: FloatTensor<B>,
    /// `[K, O]`.
    pub bias: FloatTensor<B>,
    /// `[K, O]`.
    pub gamma: FloatTensor<B>,
    /// `[K, O]`.
    pub beta: FloatTensor<B>,
    /// `[K]`.
    pub slope: FloatTensor<B>,
}

impl SharedFeatures {
    /// The features of users.
    pub fn of_users(schema: &FeatureSchema) -> Self {
        Self {
            sparse: schema.sparse().map(|feature| feature.side == Side::User).collect(),
            dense: schema.dense().map(|feature| feature.side == Side::User).collect(),
        }
    }

    /// Whether both groups and rows keep a sparse feature.
    pub fn leave_both_sides(&self) -> bool {
        self.sparse.contains(&true) && self.sparse.contains(&false)
    }

    /// Columns of the towers' input that shared features fill, or those that the others fill; neighbours joined.
    pub fn columns(&self, shared: bool, dim: usize) -> Vec<Range<usize>> {
        let sparse = self.sparse.iter().map(|&is_shared| (is_shared, dim));
        let features = sparse.chain(self.dense.iter().map(|&is_shared| (is_shared, 1)));
        let (mut columns, mut start): (Vec<Range<usize>>, _) = (Vec::new(), 0);
        for (is_shared, width) in features {
            let end = start + width;
            match columns.last_mut() {
                _ if is_shared != shared => {}
                Some(last) if last.end == start => last.end = end,
                _ => columns.push(start..end),
            }
            start = end;
        }
        columns
    }
}

impl<B: Backend> PooledInput<B> {
    /// The same layer on an input that has been pooled.
    pub fn on(self, input: FloatTensor<B>) -> LayerInput<B> {
        let Self { weight, bias, gamma, beta, slope, .. } = self;
        LayerInput { input, weight, bias, gamma, beta, slope }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined() {
        let features =
            SharedFeatures { sparse: vec![true, false, false, true], dense: vec![true, false, true] };
        assert_eq!(features.columns(true, 4), [0..4, 12..17, 18..19]);
        assert_eq!(features.columns(false, 4), [4..12, 17..18]);
    }
}
