//! What the documentation says under `# Panics`: bad code is told with both sizes.

use burn::tensor::Tensor;
use esmm_core::backend::{Kernels, Reference, RowUpdate, TableRule, WeightRule, WeightUpdate, WithMoments};
use esmm_core::{BatchBuilder, EsmmBackend, FunnelLogits, SlotOrder, StateTensor};

use super::on_all_backends;
use crate::common::model::{config, key, user_price_item};
use crate::common::{Auto, Plain, ints, random, tensor};

on_all_backends!(moments_are_counted);

fn message(work: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let error = std::panic::catch_unwind(work).unwrap_err();
    let text = error.downcast_ref::<String>().cloned();
    text.unwrap_or_else(|| error.downcast_ref::<&str>().unwrap().to_string())
}

/// Every rule on every backend, kernel and definition, with one moment more than it keeps.
fn moments_are_counted<B: EsmmBackend>() {
    for rule in TableRule::ALL {
        let run = |is_reference: bool| {
            let widths = rule.widths(4).into_iter().chain([4]);
            let moments = widths.map(|width| random::<B, 2>(2, [6, width])).collect();
            let state = WithMoments { tensor: random::<B, 2>(1, [6, 4]), moments };
            let update = RowUpdate { rule, step: 1, learning_rate: 0.1, l2: 0.0 };
            let (rows, grads) = (ints::<B>(&[3]), random::<B, 2>(3, [1, 4]));
            let _ = match is_reference {
                true => <Reference as Kernels<B>>::update_rows(state, rows, grads, update),
                false => B::Kernels::update_rows(state, rows, grads, update),
            };
        };
        let name = format!("{rule:?}");
        for is_reference in [true, false] {
            let text = message(|| run(is_reference));
            assert!(text.contains(&name), "{text}");
        }
    }
    for rule in WeightRule::ALL {
        let text = message(|| {
            let moments = (0..=rule.num_moments()).map(|_| random::<B, 2>(2, [6, 4])).collect();
            let state = WithMoments { tensor: random::<B, 2>(1, [6, 4]), moments };
            let update = WeightUpdate { rule, step: 1, learning_rate: 0.1, l2: 0.0, decay: 0.0 };
            let _ = B::Kernels::update_weights(state, random::<B, 2>(3, [6, 4]), update);
        });
        let found = rule.num_moments() + 1;
        let kept = rule.num_moments();
        assert!(text.contains(&format!("{rule:?} found {found} moments instead of {kept}")), "{text}");
    }
}

#[test]
#[should_panic(expected = "stage 2 of a funnel of 2")]
fn a_stage_that_is_not_there() {
    FunnelLogits { conditional: tensor::<Plain, 2>(&[0.0; 4], [2, 2]) }.logit(2);
}

#[test]
#[should_panic(expected = "logits [2, 2] and labels [1, 2] must have one shape")]
fn labels_of_another_batch() {
    let labels = Tensor::zeros([1, 2], &Default::default());
    FunnelLogits { conditional: tensor::<Plain, 2>(&[0.0; 4], [2, 2]) }.losses(labels);
}

#[test]
#[should_panic(expected = "input [1, 3, 4] does not fit the weights [2, 7, 5]")]
fn an_input_of_another_width() {
    let model = config(user_price_item()).init::<Auto>(&Default::default()).unwrap();
    model.towers.forward_train(Tensor::zeros([1, 3, 4], &Default::default()), key());
}

#[test]
#[should_panic(
    expected = "a batch from `BatchBuilder::build_for_inference` cannot be trained on: use `build`"
)]
fn training_on_a_batch_for_inference() {
    let config = config(user_price_item());
    let sparse = [&[1_u32][..], &[2]].map(esmm_core::SparseInput::Single);
    let input = esmm_core::BatchInput { rows: 1, sparse: &sparse, dense: &[&[0.5]], groups: None };
    let batch = BatchBuilder::new(&config.schema).build_for_inference(input).unwrap();
    let device = Default::default();
    config.init::<Auto>(&device).unwrap().forward_train(&batch.to_device(&device), key());
}

#[test]
#[should_panic(expected = "the state tensor was lost in an update that panicked")]
fn a_state_tensor_that_was_lost() {
    let state = StateTensor::<Plain, 1>::new(Tensor::zeros([2], &Default::default()));
    let clone = state.clone();
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| clone.update(|_| panic!("an update"))));
    state.value();
}

#[test]
#[should_panic]
fn an_order_of_slots_beyond_the_last() {
    SlotOrder::sorted(&[0, 3], 3);
}

#[test]
#[should_panic(expected = "slots of an order that was made before")]
fn an_order_for_two_numbers_of_slots() {
    let indices = ints::<Plain>(&[0, 1]);
    indices.order(2);
    indices.order(3);
}
