//! What the documentation says under `# Panics`: bad code is told with both sizes.

use burn::module::{Module, ModuleMapper};
use burn::tensor::Tensor;
use esmm_core::backend::{
    Kernels, Reference, RowUpdate, TableRule, WeightRule, WeightUpdate, WithGrad, WithMoments,
};
use esmm_core::{
    BatchBuilder, EsmmBackend, Feature, FeatureSchema, FunnelLogits, Side, StateTensor, TouchedRows,
};

use super::on_all_backends;
use crate::common::model::{batch, config, key, user_price_item};
use crate::common::{Auto, Plain, ints, random, tensor, values};

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
            let weight = WithGrad { weight: state, grad: random::<B, 2>(3, [6, 4]) };
            let _ = B::Kernels::update_weights(vec![weight], update);
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
    let shared = state.share();
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shared.update(|_| panic!("an update"))));
    state.value();
}

#[test]
#[should_panic(expected = "the batch was made for another schema than the model's: feature 3 is \
    `item` (sparse, Item, 5 rows) in the batch and `item` (sparse, Item, 4 rows) in the model")]
fn a_batch_for_another_schema() {
    let config = config(user_price_item());
    let mut features = user_price_item();
    features[2] = Feature::sparse("item", Side::Item, 5);
    let schema = FeatureSchema::new(features).unwrap();
    config.init::<Plain>(&Default::default()).unwrap().forward(&batch(&schema));
}

#[test]
#[should_panic(expected = "feature 3 is missing in the batch and `item`")]
fn training_on_a_batch_for_another_schema() {
    let config = config(user_price_item());
    let schema = FeatureSchema::new(user_price_item()[..2].to_vec()).unwrap();
    config.init::<Auto>(&Default::default()).unwrap().forward_train(&batch(&schema), key());
}

#[test]
#[should_panic(
    expected = "logits of `Esmm::forward` have no gradients: in a training call `Esmm::forward_train`"
)]
fn a_backward_pass_from_inference() {
    let config = config(user_price_item());
    let model = config.init::<Auto>(&Default::default()).unwrap();
    let _ = model.forward(&batch(&config.schema)).conditional.sum().backward();
}

#[test]
#[should_panic(expected = "probabilities of `FunnelLogits::probs` have no gradients")]
fn a_backward_pass_from_probabilities() {
    let config = config(user_price_item());
    let model = config.init::<Auto>(&Default::default()).unwrap();
    let forward = model.forward_train(&batch(&config.schema), key());
    let _ = forward.logits.probs().ctcvr.sum().backward();
}

#[test]
#[should_panic(expected = "an optimizer of Burn's trains the towers alone")]
fn an_optimizer_that_forgets_the_tables() {
    let config = config(user_price_item());
    let model = config.init::<Auto>(&Default::default()).unwrap();
    let _ = model.forward_train(&batch(&config.schema), key());
    let _ = model.map(&mut Untouched);
}

#[test]
fn an_optimizer_after_the_tables_or_on_fixed_ones() {
    let config = config(user_price_item());
    let model = config.init::<Auto>(&Default::default()).unwrap();
    let _ = model.forward_train(&batch(&config.schema), key());
    model.embeddings.table.update(|table| table);
    let model = model.map(&mut Untouched);
    let _ = model.forward_train(&batch(&config.schema), key());
    model.embeddings.table.keep();
    let _ = model.map(&mut Untouched);
}

/// Goes over a module as an optimizer does.
struct Untouched;

impl ModuleMapper<Auto> for Untouched {}

#[test]
#[should_panic(
    expected = "the tables of this learner went on with the clone that was optimized after its step"
)]
fn a_state_tensor_that_was_handed_over() {
    let state = StateTensor::<Plain, 1>::new(Tensor::zeros([2], &Default::default()));
    let copy = state.clone();
    state.hand_over(&copy);
    assert_eq!(values(copy.value()), [0.0, 0.0]);
    state.value();
}

#[test]
fn a_state_tensor_is_not_handed_over_for_another_value() {
    let state = StateTensor::<Plain, 1>::new(Tensor::zeros([2], &Default::default()));
    let copy = state.clone();
    copy.update(|value| value + 1.0);
    state.hand_over(&copy);
    state.hand_over(&state.share());
    assert_eq!([values(state.value()), values(copy.value())], [[0.0, 0.0], [1.0, 1.0]]);
}

#[test]
#[should_panic(expected = "3 biases for 2 stages")]
fn biases_of_another_number_of_stages() {
    let model = config(user_price_item()).init::<Plain>(&Default::default()).unwrap();
    let _ = model.with_output_biases(&[0.1, 0.2, 0.3]);
}

/// Bags of more features than the first layer has weights for.
#[test]
fn bags_of_another_width() {
    let model = config(user_price_item()).init::<Auto>(&Default::default()).unwrap();
    let mut features = user_price_item();
    features.push(Feature::sparse("hour", Side::Context, 24));
    let other = config(features);
    let (rows, bags) = {
        let larger = other.init::<Auto>(&Default::default()).unwrap();
        let batch = batch(&other.schema);
        let TouchedRows::Gathered { values, .. } = larger.embeddings.gather(&batch) else {
            panic!("a CPU pools in its first layer");
        };
        (values, batch.bags)
    };
    let found = message(std::panic::AssertUnwindSafe(|| {
        model.towers.forward_train_pooled(rows, bags, key());
    }));
    assert!(!found.is_empty());
}
