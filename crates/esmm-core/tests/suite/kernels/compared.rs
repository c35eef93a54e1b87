//! `Compared`: it runs in a real training, and tells a kernel that is wrong.

use burn::optim::{GradientsParams, Optimizer, SgdConfig};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use esmm_core::backend::{
    Bags, Blend, Compared, FirstLayer, FirstLayerGrads, InferenceLayer, InputBags, Kernels, Layer,
    LayerOutput, LayerSaved, LayerSpec, Moments, Norm, Reference, RowUpdate, TableRule, WeightUpdate,
    WithGrad, WithMoments, compare_kernels,
};
use esmm_core::{Activation, DropoutKey, EsmmBackend, Indices, RowGrads};

use crate::common::model::{batch, config, user_price_item};
use crate::common::{Auto, Plain, ints, random};

/// Off again, however a test ends.
struct On;

impl On {
    fn new() -> Self {
        compare_kernels(true);
        Self
    }
}

impl Drop for On {
    fn drop(&mut self) {
        compare_kernels(false);
    }
}

/// Three steps with every operation that a training has, each held to its definition. (The switch is one for the process:
/// tests beside this one run slower, and no differently.)
#[test]
fn a_training_beside_the_definitions() {
    for (batch_norm, activation) in [(true, Activation::Prelu), (false, Activation::Relu)] {
        let _on = On::new();
        let mut config = config(user_price_item());
        config.towers.batch_norm = batch_norm;
        config.towers.activation = activation;
        config.towers.dropout = vec![0.2, 0.0];
        let device = Default::default();
        let mut model = config.init::<Auto>(&device).unwrap();
        let batch = batch::<Auto>(&config.schema);
        let labels: Vec<f32> = (0..2 * batch.rows).map(|index| f32::from(index % 6 == 0)).collect();
        let reached = Tensor::from_data(TensorData::new(labels, [batch.rows, 2]), &device);
        let mut optimizer = SgdConfig::new().init();
        for step in 0..3 {
            let forward = model.forward_train(&batch, DropoutKey { seed: 3, step });
            let mut grads = forward.logits.losses(reached.clone()).sum().backward();
            let rows = forward.touched.take_grads(&mut grads).unwrap().into_rows();
            update(&model.embeddings.table, rows, step);
            model = optimizer.step(0.1, model.clone(), GradientsParams::from_grads(grads, &model));
        }
        let _ = model.forward(&batch).probs();
    }
}

fn update(table: &esmm_core::StateTensor<Auto, 2>, rows: RowGrads<Plain>, step: u64) {
    let update = RowUpdate { rule: TableRule::Sgd, step: step + 1, learning_rate: 0.1, l2: 0.01 };
    table.update(|table| {
        let state = WithMoments { tensor: table.inner().into_primitive().tensor(), moments: vec![] };
        let grads = rows.grads.into_primitive().tensor();
        let state =
            <<Plain as EsmmBackend>::Kernels as Kernels<Plain>>::update_rows(state, rows.rows, grads, update);
        Tensor::from_inner(Tensor::from_primitive(TensorPrimitive::Float(state.tensor)))
    });
}

/// The definition, but for an update that goes the wrong way.
#[derive(Debug)]
struct Wrong;

impl Kernels<Plain> for Wrong {
    type Saved = <Reference as Kernels<Plain>>::Saved;

    fn update_rows(
        table: WithMoments<FloatTensor<Plain>>,
        rows: Indices<Plain>,
        grads: FloatTensor<Plain>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<Plain>> {
        let update = RowUpdate { learning_rate: -update.learning_rate, ..update };
        <Reference as Kernels<Plain>>::update_rows(table, rows, grads, update)
    }

    fn gather_rows(table: FloatTensor<Plain>, rows: Indices<Plain>) -> FloatTensor<Plain> {
        <Reference as Kernels<Plain>>::gather_rows(table, rows)
    }

    fn first_layer(
        layer: FirstLayer<FloatTensor<Plain>, Indices<Plain>>,
        spec: LayerSpec,
    ) -> (LayerOutput<FloatTensor<Plain>>, Self::Saved) {
        <Reference as Kernels<Plain>>::first_layer(layer, spec)
    }

    fn first_layer_backward(
        layer: FirstLayer<FloatTensor<Plain>, Indices<Plain>>,
        saved: LayerSaved<FloatTensor<Plain>>,
        own: Self::Saved,
        grad: FloatTensor<Plain>,
        spec: LayerSpec,
    ) -> FirstLayerGrads<FloatTensor<Plain>> {
        <Reference as Kernels<Plain>>::first_layer_backward(layer, saved, own, grad, spec)
    }

    fn layer(layer: Layer<FloatTensor<Plain>>, spec: LayerSpec) -> LayerOutput<FloatTensor<Plain>> {
        <Reference as Kernels<Plain>>::layer(layer, spec)
    }

    fn layer_backward(
        layer: Layer<FloatTensor<Plain>>,
        saved: LayerSaved<FloatTensor<Plain>>,
        grad: FloatTensor<Plain>,
        spec: LayerSpec,
    ) -> Layer<FloatTensor<Plain>> {
        <Reference as Kernels<Plain>>::layer_backward(layer, saved, grad, spec)
    }

    fn blend(blends: Vec<Blend<FloatTensor<Plain>>>) -> Vec<FloatTensor<Plain>> {
        <Reference as Kernels<Plain>>::blend(blends)
    }

    fn fold_norm(
        bias: FloatTensor<Plain>,
        norm: Norm<FloatTensor<Plain>>,
        running: Moments<FloatTensor<Plain>>,
        epsilon: f64,
    ) -> [FloatTensor<Plain>; 2] {
        <Reference as Kernels<Plain>>::fold_norm(bias, norm, running, epsilon)
    }

    fn infer(
        table: FloatTensor<Plain>,
        bags: InputBags<FloatTensor<Plain>, Indices<Plain>>,
        layers: Vec<InferenceLayer<FloatTensor<Plain>>>,
    ) -> FloatTensor<Plain> {
        <Reference as Kernels<Plain>>::infer(table, bags, layers)
    }

    fn funnel_logs(logits: FloatTensor<Plain>) -> [FloatTensor<Plain>; 2] {
        <Reference as Kernels<Plain>>::funnel_logs(logits)
    }

    fn funnel_probs(logits: FloatTensor<Plain>) -> [FloatTensor<Plain>; 3] {
        <Reference as Kernels<Plain>>::funnel_probs(logits)
    }

    fn funnel_loss(logits: FloatTensor<Plain>, reached: FloatTensor<Plain>) -> FloatTensor<Plain> {
        <Reference as Kernels<Plain>>::funnel_loss(logits, reached)
    }

    fn funnel_loss_backward(
        logits: FloatTensor<Plain>,
        reached: FloatTensor<Plain>,
        grad: FloatTensor<Plain>,
    ) -> FloatTensor<Plain> {
        <Reference as Kernels<Plain>>::funnel_loss_backward(logits, reached, grad)
    }

    fn pool(table: FloatTensor<Plain>, bags: Bags<FloatTensor<Plain>, Indices<Plain>>) -> FloatTensor<Plain> {
        <Reference as Kernels<Plain>>::pool(table, bags)
    }

    fn row_grads(
        bags: Bags<FloatTensor<Plain>, Indices<Plain>>,
        grad: FloatTensor<Plain>,
        num_rows: usize,
    ) -> FloatTensor<Plain> {
        <Reference as Kernels<Plain>>::row_grads(bags, grad, num_rows)
    }

    fn update_pooled(
        table: WithMoments<FloatTensor<Plain>>,
        bags: Bags<FloatTensor<Plain>, Indices<Plain>>,
        grad: FloatTensor<Plain>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<Plain>> {
        <Reference as Kernels<Plain>>::update_pooled(table, bags, grad, update)
    }

    fn update_weights(
        weights: Vec<WithGrad<FloatTensor<Plain>>>,
        update: WeightUpdate,
    ) -> Vec<WithMoments<FloatTensor<Plain>>> {
        <Reference as Kernels<Plain>>::update_weights(weights, update)
    }
}

#[test]
#[should_panic(expected = "update_rows: tensor 0 differs by")]
fn a_wrong_kernel_is_told() {
    // Some other test may switch it off in between: once is enough.
    for _ in 0..1000 {
        let _on = On::new();
        let state = WithMoments { tensor: random::<Plain, 2>(1, [5, 3]), moments: vec![] };
        let update = RowUpdate { rule: TableRule::Sgd, step: 1, learning_rate: 1e-3, l2: 0.0 };
        let grads = random::<Plain, 2>(2, [2, 3]);
        let _ =
            <Compared<Wrong> as Kernels<Plain>>::update_rows(state, ints::<Plain>(&[4, 1]), grads, update);
    }
}

/// A backend of one's own needs nothing but the definitions.
fn reference_is_enough<B: Backend>()
where
    Reference: Kernels<B>,
{
}

#[test]
fn the_reference_works_on_any_backend() {
    reference_is_enough::<burn_ndarray::NdArray<f64>>();
}
