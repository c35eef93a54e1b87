//! Kernels are held to their definitions in a real training, and the definitions are enough for a backend.

use burn::optim::{GradientsParams, Optimizer, SgdConfig};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use esmm_core::backend::{Kernels, Reference, RowUpdate, TableRule, WithMoments, compare_kernels};
use esmm_core::{Activation, DropoutKey, EsmmBackend, RowGrads};

use crate::common::model::{batch, config, user_price_item};
use crate::common::{Auto, Plain};

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
