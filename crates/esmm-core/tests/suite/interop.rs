//! State dicts: what does not fit is told in one line that names the entry, what fits goes through unchanged.

use crate::common::model::{assert_round_trip, config, user_price_item};
use crate::common::{Plain, golden, golden_json, notebook, one_line};
use burn::tensor::TensorData;
use esmm_core::{Activation, EsmmConfig, StateDict};

/// Two tables, one dense feature, one hidden layer, two towers.
fn small() -> EsmmConfig {
    let mut config = config(user_price_item());
    config.towers.hidden = vec![4];
    config.towers.dropout = vec![0.0];
    config.towers.batch_norm = true;
    config.towers.activation = Activation::Prelu;
    config
}

/// What loading says after `change` to a dict that fits.
fn refusal(change: impl FnOnce(&mut StateDict)) -> String {
    let config = small();
    let device = Default::default();
    let model = config.init::<Plain>(&device).unwrap();
    let mut dict = model.state_dict();
    change(&mut dict);
    one_line(model.load_state_dict(dict).unwrap_err())
}

fn zeros<const D: usize>(shape: [usize; D]) -> TensorData {
    TensorData::zeros::<f32, _>(shape)
}

fn rename(dict: &mut StateDict, from: &str, to: &str) {
    let data = dict.entries.remove(from).unwrap();
    dict.entries.insert(to.to_owned(), data);
}

#[test]
fn a_missing_entry_is_named() {
    let name = "task_1_dnn.ctr_hidden_0.bias";
    let text = refusal(|dict| drop(dict.entries.remove(name)));
    assert_eq!(text, format!("model: entry `{name}` is missing"));
    let text = refusal(|dict| drop(dict.entries.remove("task_2_dnn.ctr_activation_0.weight")));
    assert_eq!(text, "model: entry `task_2_dnn.ctr_activation_0.weight` is missing");
    let text = refusal(|dict| dict.entries.clear());
    assert!(text.starts_with("model: entry `") && text.ends_with("` is missing"), "{text}");
}

#[test]
fn a_misspelt_entry_is_suggested() {
    let text = refusal(|dict| rename(dict, "user.weight", "users.weight"));
    assert_eq!(text, "model: entry `user.weight` is missing (did you mean `users.weight`?)");
    let text = refusal(|dict| rename(dict, "item.weight", "zzz"));
    assert_eq!(text, "model: entry `item.weight` is missing");
}

#[test]
fn a_surplus_entry_is_named() {
    let text = refusal(|dict| drop(dict.entries.insert("item.weights".into(), zeros([4, 3]))));
    let hint = "(did you mean `item.weight`?)";
    assert_eq!(text, format!("model: entry `item.weights` belongs to no part of the model {hint}"));
    let text = refusal(|dict| drop(dict.entries.insert("zzz".into(), zeros([1]))));
    assert_eq!(text, "model: entry `zzz` belongs to no part of the model");
}

#[test]
fn a_wrong_shape_or_type_is_told() {
    for (name, found, expected) in [
        ("user.weight", vec![3, 7], "[7, 3]"),
        ("item.weight", vec![5, 3], "[4, 3]"),
        ("task_1_dnn.ctr_hidden_0.weight", vec![7, 4], "[4, 7]"),
        ("task_2_dnn.ctr_batchnorm_0.running_var", vec![5], "[4]"),
        ("task_1_dnn.ctr_activation_0.weight", vec![4], "[1]"),
        ("task_2_dnn.task_last_layer.weight", vec![4], "[1, 4]"),
    ] {
        let data = TensorData::zeros::<f32, _>(found.clone());
        let text = refusal(|dict| drop(dict.entries.insert(name.into(), data)));
        assert_eq!(text, format!("model: entry `{name}` is F32 {found:?}, expected F32 {expected}"));
    }
    let whole = TensorData::zeros::<i64, _>([7, 3]);
    let text = refusal(|dict| drop(dict.entries.insert("user.weight".into(), whole)));
    assert_eq!(text, "model: entry `user.weight` is I64 [7, 3], expected F32 [7, 3]");
}

#[test]
fn a_wrapper_s_prefix_is_named_and_stripped() {
    let config = small();
    let device = Default::default();
    let fitting = config.init::<Plain>(&device).unwrap().state_dict();
    for (prefix, writer) in [
        ("module.", ", as torch.nn.DataParallel writes them"),
        ("_orig_mod.", ", as torch.compile writes them"),
        ("module._orig_mod.", ""),
    ] {
        let mut dict = StateDict::new("model");
        let wrapped = fitting.entries.iter().map(|(name, data)| (format!("{prefix}{name}"), data.clone()));
        dict.entries.extend(wrapped);
        let model = config.init::<Plain>(&device).unwrap();
        let text = one_line(model.load_state_dict(dict.clone()).unwrap_err());
        let expected = format!("is missing: the names begin with `{prefix}`{writer}; strip it with ");
        assert!(text.contains(&expected), "{text}");
        let stripped = dict.strip_prefix(prefix).unwrap();
        assert_eq!(stripped.entries, fitting.entries);
    }
    let text = one_line(fitting.clone().strip_prefix("module.").unwrap_err());
    assert!(text.starts_with("model: no entry begins with `module.` (the first one is `"), "{text}");
    let mut both = fitting;
    both.entries.insert("module.user.weight".into(), zeros([7, 3]));
    let text = one_line(both.strip_prefix("module.").unwrap_err());
    assert_eq!(text, "model: without `module.` two entries are named `user.weight`");
}

#[test]
fn another_model_is_refused() {
    let mut config = notebook(&golden_json("notebook.json")["config"]).model().unwrap();
    config.stages = 3;
    for file in ["notebook.pt", "notebook.safetensors"] {
        let path = golden(file);
        let text = one_line(config.load::<Plain>(&path, &Default::default()).unwrap_err());
        let missing = "entry `task_3_dnn.ctr_batchnorm_0.bias` is missing";
        assert_eq!(text, format!("{}: {missing}", path.display()));
    }
}

#[test]
fn counters_of_batches_are_optional() {
    let config = small();
    let device = Default::default();
    let model = config.init::<Plain>(&device).unwrap();
    let mut dict = model.state_dict();
    let before = dict.entries.len();
    dict.entries.retain(|name, _| !name.ends_with("num_batches_tracked"));
    assert_eq!(dict.entries.len(), before - 2);
    assert!(model.load_state_dict(dict).is_ok());
}

#[test]
fn own_tables_have_names_and_go_through_a_file() {
    let mut config = config(user_price_item());
    config.shared_embeddings = false;
    let dict = config.init::<Plain>(&Default::default()).unwrap().state_dict();
    let tables: Vec<_> =
        dict.entries.keys().filter(|name| name.contains("user") || name.contains("item")).collect();
    let expected =
        ["1_dnn.item", "1_dnn.user", "2_dnn.item", "2_dnn.user"].map(|name| format!("task_{name}.weight"));
    assert_eq!(tables, expected.iter().collect::<Vec<_>>());
    assert_ne!(
        dict.entries["task_1_dnn.user.weight"].as_bytes(),
        dict.entries["task_2_dnn.user.weight"].as_bytes()
    );
    assert_round_trip(&config);
}

#[test]
fn every_kind_of_tower_goes_through_a_file() {
    let leaky = Activation::LeakyRelu { negative_slope: 0.2 };
    for activation in [Activation::None, Activation::Relu, leaky, Activation::Prelu] {
        for batch_norm in [true, false] {
            let mut config = config(user_price_item());
            config.towers.activation = activation;
            config.towers.batch_norm = batch_norm;
            assert_round_trip(&config);
        }
    }
}
