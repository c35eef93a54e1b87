//! Models at the edges of what a configuration allows, and what must hold for each.

use crate::common::model::{ROWS, assert_round_trip, batch, config, key, logits, price, user_price_item};
use crate::common::{Auto, Plain, assert_near, values};
use burn::tensor::Tensor;
use esmm_core::{
    Activation, BatchInput, DropoutKey, EsmmConfig, Feature, FeatureBatch, FeatureSchema, Pooling, Side,
    SparseInput,
};

/// Gradients of one column of the logits with respect to the touched rows, a copy of the tables at a time.
fn table_grads(config: &EsmmConfig, stage: usize) -> Vec<Vec<f64>> {
    let model = config.init::<Auto>(&Default::default()).unwrap();
    let forward = model.forward_train(&batch(&config.schema), key());
    let mut grads = forward.logits.logit(stage).sum().backward();
    let rows = forward.touched.take_grads(&mut grads).unwrap().into_rows();
    let numbers = rows.rows.host().to_vec();
    let mut distinct = numbers.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), numbers.len(), "a row comes twice");
    let grads = values(rows.grads);
    grads.chunks_exact(grads.len() / config.copies()).map(<[f64]>::to_vec).collect()
}

#[test]
fn towers_with_own_tables_do_not_share_gradients() {
    let mut own = config(user_price_item());
    own.shared_embeddings = false;
    own.stages = 3;
    for stage in 0..3 {
        for (copy, grads) in table_grads(&own, stage).iter().enumerate() {
            let is_zero = grads.iter().all(|&grad| grad == 0.0);
            assert_eq!(is_zero, copy != stage, "logit {stage}, tables {copy}: {grads:?}");
        }
    }
    let mut shared = own.clone();
    shared.shared_embeddings = true;
    let grads = table_grads(&shared, 0);
    assert!(grads.len() == 1 && grads[0].iter().any(|&grad| grad != 0.0));
}

/// The biases are what was asked for, and they still learn.
#[test]
fn output_biases_are_set_and_learn() {
    let config = config(user_price_item());
    let model = config.init::<Auto>(&Default::default()).unwrap().with_output_biases(&[-2.0, 0.5]);
    assert_eq!(values(model.towers.output.bias.val().inner()), [-2.0, 0.5]);
    let forward = model.forward_train(&batch(&config.schema), key());
    let grads = forward.logits.conditional.sum().backward();
    let grad = model.towers.output.bias.val().grad(&grads).unwrap();
    assert_eq!(values(grad), [ROWS as f64; 2]);
}

/// `[user embedding, price, item embedding] * weight + bias`, in the columns of the state dict.
#[test]
fn a_linear_model_is_a_dot_product() {
    let mut config = config(user_price_item());
    config.towers.hidden = vec![];
    config.towers.dropout = vec![];
    assert_round_trip(&config);
    let model = config.init::<Plain>(&Default::default()).unwrap();
    let dict = model.state_dict();
    let entry = |name: &str| -> Vec<f64> { dict.entries[name].iter::<f64>().collect() };
    let user = entry("user.weight");
    let item = entry("item.weight");
    let row = |table: &[f64], id: usize| table[3 * id..][..3].to_vec();
    let mut expected = Vec::new();
    for (index, price) in price(0).into_iter().enumerate() {
        let input =
            [row(&user, index * index % 7), vec![f64::from(price)], row(&item, index * index % 4)].concat();
        for task in ["task_1_dnn", "task_2_dnn"] {
            let weight = entry(&format!("{task}.task_last_layer.weight"));
            let bias = entry(&format!("{task}.task_last_layer.bias"))[0];
            expected.push(bias + weight.iter().zip(&input).map(|(w, x)| w * x).sum::<f64>());
        }
    }
    assert_near("logits", &logits(&model, &config), &expected, 1e-6, 1e-6);
}

/// Forward, training forward and backward; gives whether the tables got a gradient.
fn trains(config: &EsmmConfig) -> bool {
    let device = Default::default();
    let found = logits(&config.init::<Plain>(&device).unwrap(), config);
    assert!(found.len() == ROWS * config.stages && found.iter().all(|logit| logit.is_finite()));
    let model = config.init::<Auto>(&device).unwrap();
    let batch = batch::<Auto>(&config.schema);
    let forward = model.forward_train(&batch, key());
    if !config.towers.batch_norm {
        let found_train = values(forward.logits.conditional.clone());
        assert_near("training and inference", &found_train, &found, 1e-6, 1e-6);
    }
    let reached = Tensor::zeros([ROWS, config.stages], &device);
    let mut grads = forward.logits.losses(reached).sum().backward();
    assert!(model.towers.output.weight.grad(&grads).is_some());
    assert!(model.towers.output.bias.grad(&grads).is_some());
    forward.touched.take_grads(&mut grads).is_some()
}

#[test]
fn schemas_of_one_kind() {
    let dense = || (0..3).map(|j| Feature::dense(format!("x{j}"), Side::Context)).collect();
    let sparse = vec![Feature::sparse("user", Side::User, 7), Feature::sparse("item", Side::Item, 1)];
    for (shared, batch_norm, hidden) in
        [(true, true, vec![5]), (false, false, vec![5]), (true, false, vec![])]
    {
        for (features, has_tables) in [(dense(), false), (sparse.clone(), true)] {
            let mut config = config(features);
            config.shared_embeddings = shared;
            config.towers.dropout = vec![0.0; hidden.len()];
            config.towers.hidden = hidden.clone();
            config.towers.batch_norm = batch_norm;
            assert_eq!(trains(&config), has_tables, "{config:?}");
            assert_round_trip(&config);
        }
    }
}

/// One row, the same bag with its ids turned around and cut into another order.
#[test]
fn the_order_of_a_bag_does_not_matter() {
    for pooling in [Pooling::Sum, Pooling::Mean] {
        let features =
            vec![Feature::bag("history", Side::User, 9, pooling), Feature::sparse("item", Side::Item, 4)];
        let config = config(features);
        let model = config.init::<Plain>(&Default::default()).unwrap();
        let run = |ids: &[u32], weights: Option<&[f32]>| {
            let bag = SparseInput::Bag { offsets: &[0, ids.len()], ids, weights };
            let sparse = [bag, SparseInput::Single(&[2])];
            let input = BatchInput { rows: 1, sparse: &sparse, dense: &[], groups: None };
            values(
                model
                    .forward(&FeatureBatch::new(&config.schema, input, &Default::default()).unwrap())
                    .conditional,
            )
        };
        let ids = [3, 8, 3, 0, 5];
        let weights = [0.5, 1.0, -0.25, 2.0, 0.125];
        let turned = [5, 3, 0, 8, 3];
        let turned_weights = [0.125, -0.25, 2.0, 1.0, 0.5];
        assert_near("weighted", &run(&turned, Some(&turned_weights)), &run(&ids, Some(&weights)), 1e-6, 1e-6);
        assert_near("plain", &run(&turned, None), &run(&ids, None), 1e-6, 1e-6);
        assert_ne!(run(&ids, None), run(&ids, Some(&weights)));
        assert_ne!(run(&ids[..4], None), run(&ids, None));
    }
}

#[test]
fn dropout_is_for_training_and_depends_on_the_key_alone() {
    let mut config = config(user_price_item());
    config.towers.dropout = vec![0.5, 0.25];
    let model = config.init::<Auto>(&Default::default()).unwrap();
    let batch = batch::<Auto>(&config.schema);
    let run = |step| values(model.forward_train(&batch, DropoutKey { seed: 9, step }).logits.conditional);
    assert_eq!(run(4), run(4));
    assert_ne!(run(4), run(5));
    assert_eq!(logits(&model, &config), logits(&model, &config));
}

#[test]
fn a_model_on_the_autodiff_backend_scores_the_same() {
    let config = config(user_price_item());
    let scores = logits(&config.init::<Plain>(&Default::default()).unwrap(), &config);
    assert_eq!(logits(&config.init::<Auto>(&Default::default()).unwrap(), &config), scores);
}

#[test]
fn configurations_go_through_json() {
    let leaky = Activation::LeakyRelu { negative_slope: 0.2 };
    let history = Feature::bag("history", Side::User, 0, Pooling::Mean).sharing("item");
    let hours = Feature::bag("hours", Side::Context, 24, Pooling::Sum);
    for activation in [Activation::None, Activation::Relu, leaky, Activation::Prelu] {
        let mut config = config([user_price_item(), vec![history.clone(), hours.clone()]].concat());
        config.towers.activation = activation;
        config.seed = u64::MAX;
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<EsmmConfig>(&text).unwrap(), config);
        let text = serde_json::to_string(&config.schema).unwrap();
        assert_eq!(serde_json::from_str::<FeatureSchema>(&text).unwrap(), config.schema);
    }
    let twice =
        r#"[{"kind": "dense", "name": "x", "side": "user"}, {"kind": "dense", "name": "x", "side": "item"}]"#;
    let error = serde_json::from_str::<FeatureSchema>(twice).unwrap_err().to_string();
    assert_eq!(error, "feature `x` is declared twice: names must be unique");
}

#[test]
fn first_values_depend_on_the_seed_alone() {
    let config = config(user_price_item());
    let table = |seed| {
        let config = EsmmConfig { seed, ..config.clone() };
        values(config.init::<Plain>(&Default::default()).unwrap().embeddings.table.value())
    };
    assert_eq!(table(3), table(3));
    assert_ne!(table(3), table(4));
}
