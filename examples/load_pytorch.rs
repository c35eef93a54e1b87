//! Weights that PyTorch saved with `torch.save(model.state_dict(), "notebook.pt")`: read, compared, written back as
//! safetensors, which `model.load_state_dict(safetensors.torch.load_file(...), strict=True)` takes.
//!
//! ```sh
//! cargo run --example load_pytorch
//! ```
//!
//! ```text
//! row 0  ctr_logit    0.1725  PyTorch   0.1725
//! row 1  ctr_logit    0.6026  PyTorch   0.6026
//! row 2  ctr_logit    0.6714  PyTorch   0.6714
//! row 3  ctr_logit    0.4439  PyTorch   0.4439
//! row 4  ctr_logit    0.4386  PyTorch   0.4386
//! row 0  cvr_logit    0.3785  PyTorch   0.3785
//! row 1  cvr_logit    0.7620  PyTorch   0.7620
//! row 2  cvr_logit    0.3732  PyTorch   0.3732
//! row 3  cvr_logit    0.1445  PyTorch   0.1445
//! row 4  cvr_logit    0.1397  PyTorch   0.1397
//! all logits agree within 1e-5
//! wrote notebook.safetensors, 36 entries, among them:
//!   item_cate.weight [6, 128]
//!   item_id.weight [8, 128]
//!   task_1_dnn.ctr_batchnorm_0.bias [128]
//!   task_1_dnn.ctr_batchnorm_0.num_batches_tracked []
//! ```

use std::path::Path;

use burn_ndarray::{NdArray, NdArrayDevice};
use esmm_core::{NotebookConfig, NotebookFeature, StateDict};
use serde_json::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(golden.join("notebook.json"))?)?;
    let sides = ["user_features", "item_features"].map(|key| features(&expected["config"][key]));
    let [users, items] = sides;
    let notebook = NotebookConfig::new(users.ok_or("no user features")?, items.ok_or("no item features")?);
    let config = notebook.model()?;

    let device = NdArrayDevice::default();
    let model = config.load::<NdArray>(&golden.join("notebook.pt"), &device)?;
    let matrix: Vec<f32> = numbers(&expected["rows"]);
    let batch = notebook.batch(&matrix, 6)?.to_device(&device);
    let logits = model.forward(&batch);

    let mut largest = 0.0_f32;
    for (task, name) in ["ctr_logit", "cvr_logit"].into_iter().enumerate() {
        let ours: Vec<f32> = logits.logit(task).into_data().iter::<f32>().collect();
        let theirs = numbers(&expected["logits"][task]);
        for (row, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            println!("row {row}  {name}  {ours:>8.4}  PyTorch {theirs:>8.4}");
            largest = largest.max((ours - theirs).abs());
        }
    }
    if largest.is_nan() || largest > 1e-5 {
        return Err(format!("the logits differ by {largest:e}").into());
    }
    println!("all logits agree within 1e-5");

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("notebook.safetensors");
    model.state_dict().write_safetensors(&file)?;
    let written = StateDict::read(&file)?;
    println!("wrote notebook.safetensors, {} entries, among them:", written.entries.len());
    for (name, data) in written.entries.iter().take(4) {
        println!("  {name} {:?}", data.shape.to_vec());
    }
    Ok(())
}

/// `[name, number of values, column]` each.
fn features(value: &Value) -> Option<Vec<NotebookFeature>> {
    let whole = |value: &Value| Some(value.as_u64()? as usize);
    let feature =
        |entry: &Value| Some(NotebookFeature::new(entry[0].as_str()?, whole(&entry[1])?, whole(&entry[2])?));
    value.as_array()?.iter().map(feature).collect()
}

/// All numbers of nested lists.
fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        number => number.as_f64().map(|number| number as f32).into_iter().collect(),
    }
}
