//! The operations of the model, as a set that a backend names.

use std::fmt::Debug;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::{
    Blend, FirstLayer, FirstLayerGrads, GroupedLayer, GroupedLayerGrads, Indices, InferenceLayer, InputBags,
    Layer, LayerOutput, LayerSaved, LayerSpec, Moments, Norm, Pooled, RowUpdate, Running, TowersGrads,
    TowersOperands, TowersOutput, WeightUpdate, WithGrad, WithMoments, towers,
};

/// The operations of the model on the tensors of a backend. [`Reference`](super::Reference) defines them.
///
/// Functions without a `*_backward` are not differentiable. The letters of the shapes are declared in the
/// [crate documentation](crate).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no set of kernels for `{B}`",
    note = "`esmm_core::backend::Reference` works on every backend"
)]
pub trait Kernels<B: Backend>: Debug + Send + Sync + Sized + 'static {
    /// What the first layer keeps for its own backward, besides what every layer keeps.
    type Saved: Clone + Debug + Send + 'static;

    /// Copies rows of a table.
    ///
    /// # Shapes
    /// `table [R, D]`, `rows [N]` to `[N, D]`.
    fn gather_rows(table: FloatTensor<B>, rows: Indices<B>) -> FloatTensor<B>;

    /// The first layer of all towers in training: rows of the table are pooled by bag, dense values follow, and then
    /// all that a [`layer`](Self::layer) does. What many rows of the batch have in common may be multiplied once.
    fn first_layer(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> (LayerOutput<FloatTensor<B>>, Self::Saved);

    /// Gradients of [`first_layer`](Self::first_layer).
    ///
    /// # Shapes
    /// `grad [K, B, O]`; `saved` and `own` as the layer returned them.
    fn first_layer_backward(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        own: Self::Saved,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> FirstLayerGrads<FloatTensor<B>>;

    /// A layer of all towers in training: `x * W + b`, batch norm with the statistics of the batch, activation, dropout.
    fn layer(layer: Layer<FloatTensor<B>>, spec: LayerSpec) -> LayerOutput<FloatTensor<B>>;

    /// Gradients of [`layer`](Self::layer).
    ///
    /// # Shapes
    /// `grad [K, B, O]`; `saved` as the layer returned it.
    fn layer_backward(
        layer: Layer<FloatTensor<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> Layer<FloatTensor<B>>;

    /// The first layer of all towers in training on what was pooled, where groups of rows share features: what they share is
    /// multiplied once a group and added to its rows; then all that a [`layer`](Self::layer) does.
    ///
    /// # Panics
    /// When the bags of the input have no groups.
    fn grouped_layer(
        layer: GroupedLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> LayerOutput<FloatTensor<B>>;

    /// Gradients of [`grouped_layer`](Self::grouped_layer).
    ///
    /// # Shapes
    /// `grad [K, B, O]`; `saved` as the layer returned it.
    ///
    /// # Panics
    /// When the bags of the input have no groups.
    fn grouped_layer_backward(
        layer: GroupedLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> GroupedLayerGrads<FloatTensor<B>>;

    /// All layers of all towers in training: [`first_layer`](Self::first_layer),
    /// [`grouped_layer`](Self::grouped_layer) or [`layer`](Self::layer), and [`layer`](Self::layer) for all that follow. Running statistics, one for each layer or none at all, move towards
    /// those of the batch, in place where no one else holds them.
    ///
    /// # Panics
    /// Without a layer.
    fn towers(
        towers: TowersOperands<FloatTensor<B>, Indices<B>>,
        running: Vec<Option<Running<FloatTensor<B>>>>,
        specs: &[LayerSpec],
    ) -> TowersOutput<FloatTensor<B>, Self::Saved> {
        towers::forward::<B, Self>(towers, running, specs)
    }

    /// Gradients of [`towers`](Self::towers).
    ///
    /// # Shapes
    /// `grad [K, B, O]` of the last layer; `saved` as the towers returned it.
    fn towers_backward(
        towers: TowersOperands<FloatTensor<B>, Indices<B>>,
        saved: TowersOutput<FloatTensor<B>, Self::Saved>,
        grad: FloatTensor<B>,
        specs: &[LayerSpec],
    ) -> TowersGrads<FloatTensor<B>> {
        towers::backward::<B, Self>(towers, saved, grad, specs)
    }

    /// `old * keep + new * take`: how running statistics move. All of a step at once, for a device that launches.
    fn blend(blends: Vec<Blend<FloatTensor<B>>>) -> Vec<FloatTensor<B>>;

    /// Factor and shift after `x * W` that stand for a bias and a batch norm with running statistics: for inference.
    ///
    /// # Shapes
    /// All `[K, O]`.
    fn fold_norm(
        bias: FloatTensor<B>,
        norm: Norm<FloatTensor<B>>,
        running: Moments<FloatTensor<B>>,
        epsilon: f64,
    ) -> [FloatTensor<B>; 2];

    /// From the table through all layers of all towers to the logits, for inference.
    ///
    /// # Shapes
    /// `table [T * R, D]` to `[B, K]`.
    fn infer(
        table: FloatTensor<B>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        layers: Vec<InferenceLayer<FloatTensor<B>>>,
    ) -> FloatTensor<B>;

    /// `log P_k` and `log(1 - P_k)` of reaching each stage, in log space as `funnel.rs` says.
    ///
    /// # Shapes
    /// `logits [B, K]` (conditional) to `[B, K]` each.
    fn funnel_logs(logits: FloatTensor<B>) -> [FloatTensor<B>; 2];

    /// pCTR, pCVR and pCTCVR: the probabilities of the first two stages and their product.
    ///
    /// An operation of its own beside [`funnel_logs`](Self::funnel_logs), from which they follow as well: two exponentials a
    /// row instead of five and two logarithms, a sixth of the time on a CPU, and no more than rounding apart.
    ///
    /// # Shapes
    /// `logits [B, K]` (conditional) to `[B]` each.
    fn funnel_probs(logits: FloatTensor<B>) -> [FloatTensor<B>; 3];

    /// Mean cross-entropy of reaching each stage, over all impressions: eq. 3 of arXiv 1804.07931, extended to K
    /// stages, in log space.
    ///
    /// # Shapes
    /// `logits [B, K]` (conditional), `reached [B, K]` (1 where the impression reached the stage) to `[K]`.
    fn funnel_loss(logits: FloatTensor<B>, reached: FloatTensor<B>) -> FloatTensor<B>;

    /// Gradient of [`funnel_loss`](Self::funnel_loss) with respect to the logits, in closed form.
    ///
    /// # Shapes
    /// `grad [K]` to `[B, K]`.
    fn funnel_loss_backward(
        logits: FloatTensor<B>,
        reached: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B>;

    /// Changes the touched rows of a table and of its moments; all others keep their bits.
    ///
    /// # Shapes
    /// `rows [U]` without repetition, `grads [U, D]`.
    ///
    /// # Panics
    /// When the rule keeps another number of moments.
    fn update_rows(
        table: WithMoments<FloatTensor<B>>,
        rows: Indices<B>,
        grads: FloatTensor<B>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>>;

    /// Weighted sums of table rows, bag by bag, with the dense values after them: of each row, and of each group where
    /// groups share features. Not differentiable: what it returns are leaves of a graph, whose gradients
    /// [`update_pooled`](Self::update_pooled) takes apart.
    ///
    /// # Shapes
    /// `table [T * R, D]`.
    fn pool(table: FloatTensor<B>, bags: InputBags<FloatTensor<B>, Indices<B>>) -> Pooled<FloatTensor<B>>;

    /// Gradients of the rows that bags pooled, each at the place that the first of its entries has when entries are sorted
    /// by row, those of a row in their order, entries of groups after all others; 0 at all other places.
    ///
    /// # Shapes
    /// `grads` of what was pooled to `[T * N, D]`, N entries of rows and groups; rows are below `num_rows`.
    fn row_grads(
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        grads: Pooled<FloatTensor<B>>,
        num_rows: usize,
    ) -> FloatTensor<B>;

    /// Changes the rows of a table that bags pooled, and their moments; all others keep their bits.
    ///
    /// # Shapes
    /// `table [T * R, D]`, `grads` of what was pooled.
    ///
    /// # Panics
    /// When the rule keeps another number of moments.
    fn update_pooled(
        table: WithMoments<FloatTensor<B>>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        grads: Pooled<FloatTensor<B>>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>>;

    /// Changes weights of any shapes and their moments, each by its gradient. All of a step at once, for a device that
    /// launches.
    ///
    /// # Panics
    /// When the rule keeps another number of moments.
    fn update_weights(
        weights: Vec<WithGrad<FloatTensor<B>>>,
        update: WeightUpdate,
    ) -> Vec<WithMoments<FloatTensor<B>>>;
}
