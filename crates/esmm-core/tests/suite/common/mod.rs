//! What the integration tests share: fixtures, seeded values, comparisons that say where they fail.

pub(crate) mod differences;
pub(crate) mod model;

use std::path::PathBuf;

use burn::backend::Autodiff;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorMetadata, TensorPrimitive};
use burn_ndarray::NdArray;
use esmm_core::{EsmmError, Indices, NotebookConfig, NotebookFeature, StateDict};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// Forward only.
pub(crate) type Plain = NdArray;
/// With gradients.
pub(crate) type Auto = Autodiff<NdArray>;

/// A file of the golden folder, which PyTorch and mpmath wrote (its README says how).
pub(crate) fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/golden", name].iter().collect()
}

pub(crate) fn golden_json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(name)).unwrap()).unwrap()
}

pub(crate) fn golden_dict(name: &str) -> StateDict {
    StateDict::read(&golden(name)).unwrap()
}

/// All numbers of a JSON value, row by row.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

pub(crate) fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|number| number as f32).collect()
}

/// The notebook's arguments out of the `config` of a golden file.
pub(crate) fn notebook(config: &Value) -> NotebookConfig {
    let whole = |value: &Value| value.as_u64().unwrap() as usize;
    let features = |key: &str| {
        let rows = config[key].as_array().unwrap().iter();
        rows.map(|row| NotebookFeature::new(row[0].as_str().unwrap(), whole(&row[1]), whole(&row[2])))
            .collect()
    };
    NotebookConfig {
        emb_dim: whole(&config["emb_dim"]),
        hidden_dim: config["hidden_dim"].as_array().unwrap().iter().map(whole).collect(),
        dropouts: numbers(&config["dropouts"]),
        num_task: whole(&config["num_task"]),
        ..NotebookConfig::new(features("user_features"), features("item_features"))
    }
}

/// `len` values uniform in `[-1, 1)` that f32 holds exactly; the same for the same seed.
pub(crate) fn uniform(seed: u64, len: usize) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| f64::from(rng.random::<f32>() * 2.0 - 1.0)).collect()
}

pub(crate) fn tensor<B: Backend, const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<B, D> {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

pub(crate) fn ints<B: Backend>(values: &[usize]) -> Indices<B> {
    Indices::new(values.iter().map(|&value| value as u32).collect(), &Default::default())
}

pub(crate) fn flat<B: Backend>(primitive: &FloatTensor<B>) -> Vec<f64> {
    let len = primitive.shape().num_elements();
    values(float::<B, 1>(B::float_reshape(primitive.clone(), [len].into())))
}

pub(crate) fn random<B: Backend, const D: usize>(seed: u64, shape: [usize; D]) -> FloatTensor<B> {
    primitive(tensor::<B, D>(&uniform(seed, shape.iter().product()), shape))
}

/// The same values on another backend.
pub(crate) fn moved<E: Backend, B: Backend>(from: FloatTensor<E>) -> FloatTensor<B> {
    let shape = from.shape();
    let data = TensorData::new(
        flat::<E>(&from).into_iter().map(|value| value as f32).collect::<Vec<_>>(),
        [shape.num_elements()],
    );
    B::float_reshape(primitive(Tensor::<B, 1>::from_data(data, &Default::default())), shape)
}

pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

pub(crate) fn float<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

pub(crate) fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Every value within `absolute + relative * |expected|`; NaN never is.
pub(crate) fn assert_near(what: &str, found: &[f64], expected: &[f64], absolute: f64, relative: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = absolute + relative * expected.abs();
        let gap = (found - expected).abs();
        assert!(
            gap <= allowed,
            "{what}[{index}]: found {found:e}, expected {expected:e}, allowed gap {allowed:e}"
        );
    }
}

/// [`assert_near`] for every entry of `expected`.
pub(crate) fn assert_entries_near(found: &StateDict, expected: &StateDict, absolute: f64) {
    for (name, data) in &expected.entries {
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        let entry = found.entries.get(name).unwrap_or_else(|| panic!("entry `{name}` is missing"));
        assert_eq!(entry.shape, data.shape, "shape of `{name}`");
        let [entry, data] = [entry, data].map(|data| data.iter::<f64>().collect::<Vec<_>>());
        assert_near(name, &entry, &data, absolute, 0.0);
    }
}

/// The text of an error, which must be one clear line.
pub(crate) fn one_line(error: EsmmError) -> String {
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 500, "{text:?}");
    text
}
