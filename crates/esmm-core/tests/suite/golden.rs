//! The model against PyTorch: the fixtures of `tests/golden` at the root, whose README says how they were made.

use std::process::Command;

use crate::common::{Auto, Plain, assert_entries_near, assert_near, golden, golden_dict, golden_json};
use crate::common::{floats, notebook, numbers, values};
use burn::module::Param;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use esmm_core::{
    Activation, DropoutKey, Esmm, EsmmBackend, EsmmConfig, FeatureBatch, FunnelLogits, NotebookConfig,
    StateDict, TouchedRows,
};
use serde_json::Value;

/// Runs a generic test on ndarray and on every GPU backend that is compiled in.
macro_rules! on_backends {
    ($($name:ident),*) => {
        mod ndarray { $(#[test] fn $name() { super::$name::<super::Auto>(); })* }
        #[cfg(feature = "wgpu")]
        mod wgpu { $(#[test] fn $name() { super::$name::<burn::backend::Autodiff<burn_wgpu::Wgpu>>(); })* }
        #[cfg(feature = "cuda")]
        mod cuda { $(#[test] fn $name() { super::$name::<burn::backend::Autodiff<burn_cuda::Cuda>>(); })* }
    };
}

on_backends!(
    notebook_eval_logits_from_both_files,
    eval_logits_with_activations,
    training_step,
    training_step_with_relu_and_three_stages,
    training_step_with_prelu_and_three_stages
);

/// A backend with gradients, and without.
trait Both: AutodiffBackend<InnerBackend: EsmmBackend> + EsmmBackend {}
impl<A: AutodiffBackend<InnerBackend: EsmmBackend> + EsmmBackend> Both for A {}

/// Everything that a golden training step needs.
struct Golden {
    json: Value,
    notebook: NotebookConfig,
    config: EsmmConfig,
}

impl Golden {
    fn new(name: &str) -> Self {
        let json = golden_json(&format!("{name}.json"));
        let notebook = notebook(&json["config"]);
        let mut config = notebook.model().unwrap();
        config.towers.activation = match json["config"]["activation"].as_str().unwrap() {
            "none" => Activation::None,
            "relu" => Activation::Relu,
            "prelu" => Activation::Prelu,
            other => panic!("activation {other}"),
        };
        Self { json, notebook, config }
    }

    fn load<B: Backend>(&self, file: &str) -> Esmm<B> {
        self.config.load(&golden(file), &Default::default()).unwrap()
    }

    fn batch<B: EsmmBackend>(&self, rows: &Value) -> FeatureBatch<B> {
        let batch = self.notebook.batch(&floats(rows), 6).unwrap();
        batch.to_device(&Default::default())
    }

    /// `[B, K]` as `[K][B]`, the order of the golden files.
    fn assert_logits<B: Backend>(&self, logits: FunnelLogits<B>, key: &str) {
        let found = values(logits.conditional.transpose());
        assert_near(key, &found, &numbers(&self.json[key]), 1e-5, 0.0);
    }
}

fn notebook_eval_logits_from_both_files<A: Both>() {
    let golden = Golden::new("notebook");
    for file in ["notebook.pt", "notebook.safetensors"] {
        let model = golden.load::<A::InnerBackend>(file);
        golden.assert_logits(model.forward(&golden.batch(&golden.json["rows"])), "logits");
    }
}

fn eval_logits_with_activations<A: Both>() {
    for name in ["relu", "prelu"] {
        let golden = Golden::new(name);
        let model = golden.load::<A::InnerBackend>(&format!("{name}_init.safetensors"));
        let rows = &golden.json["batches"][0]["rows"];
        golden.assert_logits(model.forward(&golden.batch(rows)), "eval_logits");
    }
}

fn training_step<A: Both>() {
    training_step_of::<A>("training", 4);
}

fn training_step_with_relu_and_three_stages<A: Both>() {
    training_step_of::<A>("relu", 4);
}

fn training_step_with_prelu_and_three_stages<A: Both>() {
    training_step_of::<A>("prelu", 4);
}

/// Logits, losses, every gradient and the running statistics of one forward and backward on batch 0.
fn training_step_of<A: Both>(name: &str, tables: usize) {
    let golden = Golden::new(name);
    let model = golden.load::<A>(&format!("{name}_init.safetensors"));
    let first = &golden.json["batches"][0];
    let batch = golden.batch::<A>(&first["rows"]);
    let forward = model.forward_train(&batch, DropoutKey { seed: 0, step: 0 });
    golden.assert_logits(forward.logits.clone(), "logits");

    let reached = TensorData::new(floats(&first["reached"]), [batch.rows, golden.config.stages]);
    let losses = forward.logits.losses(Tensor::from_data(reached, &Default::default()));
    assert_near("losses", &values(losses.clone()), &numbers(&golden.json["losses"]), 1e-5, 0.0);

    let mut grads = losses.sum().backward();
    let found = gradients(&golden.config, &model, forward.touched, &mut grads);
    let expected = golden_dict(&format!("{name}_grads.safetensors"));
    let parameters =
        found.entries.keys().filter(|name| !name.contains("running_") && !name.contains("_tracked"));
    assert!(parameters.eq(expected.entries.keys()), "{:?}", found.entries.keys());
    assert_eq!(expected.entries.keys().filter(|name| !name.starts_with("task_")).count(), tables);
    assert_entries_near(&found, &expected, 1e-6);

    let statistics = golden_dict(&format!("{name}_stats.safetensors"));
    assert_entries_near(&model.state_dict(), &statistics, 1e-6);
}

/// The gradients under PyTorch's names: a model that has them for weights, so that transposing and the order of
/// columns are covered. Tables become dense.
fn gradients<A: Both>(
    config: &EsmmConfig,
    model: &Esmm<A>,
    touched: TouchedRows<A>,
    grads: &mut A::Gradients,
) -> StateDict {
    let mut holder = config.init::<A::InnerBackend>(&Default::default()).unwrap();
    let rows = touched.take_grads(grads).unwrap().into_rows();
    let numbers = rows.rows.host().to_vec();
    let values = crate::common::values(rows.grads);
    let [height, width] = holder.embeddings.table.value().dims();
    let mut dense = vec![f64::NAN; height * width];
    for (row, grad) in numbers.iter().zip(values.chunks_exact(width)) {
        let row = &mut dense[*row as usize * width..][..width];
        assert!(row[0].is_nan(), "a row comes twice");
        row.copy_from_slice(grad);
    }
    let untouched = dense.iter().filter(|value| value.is_nan()).count();
    assert!(untouched > 0, "the fixture touches every row");
    let dense: Vec<f64> = dense.iter().map(|&value| if value.is_nan() { 0.0 } else { value }).collect();
    holder.embeddings.table.update(|_| crate::common::tensor(&dense, [height, width]));

    for (to, from) in holder.towers.layers.iter_mut().zip(&model.towers.layers) {
        take(&mut to.linear.weight, &from.linear.weight, grads);
        take(&mut to.linear.bias, &from.linear.bias, grads);
        if let (Some(to), Some(from)) = (&mut to.norm, &from.norm) {
            take(&mut to.gamma, &from.gamma, grads);
            take(&mut to.beta, &from.beta, grads);
        }
        if let (Some(to), Some(from)) = (&mut to.slope, &from.slope) {
            take(to, from, grads);
        }
    }
    take(&mut holder.towers.output.weight, &model.towers.output.weight, grads);
    take(&mut holder.towers.output.bias, &model.towers.output.bias, grads);
    holder.state_dict()
}

fn take<A: Both, const D: usize>(
    to: &mut Param<Tensor<A::InnerBackend, D>>,
    from: &Param<Tensor<A, D>>,
    grads: &A::Gradients,
) {
    *to = Param::from_tensor(from.val().grad(grads).unwrap());
}

#[test]
fn a_state_dict_goes_through_the_model_unchanged() {
    let notebook = Golden::new("notebook");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.safetensors");
    for file in ["notebook.pt", "notebook.safetensors"] {
        let model = notebook.load::<Plain>(file);
        model.state_dict().write_safetensors(&path).unwrap();
        let written = StateDict::read(&path).unwrap();
        let original = golden_dict("notebook.safetensors");
        assert!(written.entries.keys().eq(original.entries.keys()), "{:?}", written.entries.keys());
        for (name, data) in &original.entries {
            let found = &written.entries[name];
            assert_eq!((&found.shape, found.dtype), (&data.shape, data.dtype), "{name}");
            if name.ends_with("num_batches_tracked") {
                assert_eq!(found.as_slice::<i64>().unwrap(), [0], "{name}");
            } else {
                assert_eq!(found.as_bytes(), data.as_bytes(), "{name}");
            }
        }
    }
    check_with_pytorch(&path);
}

/// `check_roundtrip.py` where Python has torch, numpy and safetensors; the test says when it has not.
fn check_with_pytorch(path: &std::path::Path) {
    let python = |arguments: &[&std::ffi::OsStr]| Command::new("python3").arg("-B").args(arguments).output();
    let imports = python(&["-c".as_ref(), "import torch, numpy, safetensors".as_ref()]);
    if !imports.is_ok_and(|output| output.status.success()) {
        eprintln!("no python3 with torch, numpy and safetensors: check_roundtrip.py was not run");
        return;
    }
    let output = python(&[golden("check_roundtrip.py").as_os_str(), path.as_os_str()]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
}
