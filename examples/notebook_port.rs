//! The notebook's example: two feature dicts, five rows of floats, one forward pass.
//!
//! ```sh
//! cargo run --example notebook_port
//! ```
//!
//! ```text
//! <lead fills in>
//! ```
//!
//! The first values come from the seed, so they are the same on every machine; untrained, they mean nothing.

use burn_ndarray::{NdArray, NdArrayDevice};
use esmm_core::{ModelSummary, NotebookConfig, NotebookFeature};

/// The columns of a row: user_id, item_id, item_cate, user_list, user_num, item_num.
const ROWS: [[f32; 6]; 5] = [
    [1.0, 2.0, 4.0, 2.0, 0.5, 0.1],
    [4.0, 5.0, 3.0, 8.0, 0.6, 0.43],
    [6.0, 3.0, 2.0, 9.0, 0.12, 0.32],
    [9.0, 1.0, 1.0, 1.0, 0.12, 0.45],
    [8.0, 3.0, 1.0, 4.0, 0.21, 0.67],
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // name, number of values (1: dense), column of the matrix
    let users = vec![
        NotebookFeature::new("user_id", 11, 0),
        NotebookFeature::new("user_list", 12, 3),
        NotebookFeature::new("user_num", 1, 4),
    ];
    let items = vec![
        NotebookFeature::new("item_id", 8, 1),
        NotebookFeature::new("item_cate", 6, 2),
        NotebookFeature::new("item_num", 1, 5),
    ];
    let notebook = NotebookConfig::new(users, items);
    let config = notebook.model()?;

    let device = NdArrayDevice::default();
    let model = config.init::<NdArray>(&device)?;
    let batch = notebook.batch(ROWS.as_flattened(), 6)?.to_device(&device);
    let logits = model.forward(&batch);
    let probs = logits.probs();

    let columns = [
        logits.ctr_logit(),
        logits.cvr_logit(),
        probs.ctr,
        probs.cvr,
        probs.ctcvr,
    ];
    let columns = columns.map(|column| column.into_data().iter::<f32>().collect::<Vec<f32>>());
    println!("row  ctr_logit  cvr_logit    pCTR    pCVR  pCTCVR");
    for row in 0..ROWS.len() {
        let [ctr_logit, cvr_logit, ctr, cvr, ctcvr] = columns.each_ref().map(|column| column[row]);
        println!("{row:>3}  {ctr_logit:>9.4}  {cvr_logit:>9.4}  {ctr:.4}  {cvr:.4}  {ctcvr:.4}");
    }

    // A wrong cell is an error that says where it is, not a wrong prediction.
    let mut wrong = ROWS;
    wrong[3][0] = 11.0;
    match notebook.batch(wrong.as_flattened(), 6) {
        Ok(_) => return Err("id 11 of 0..=10 was taken".into()),
        Err(error) => println!("\nrefused: {error}"),
    }

    println!("\n{}", ModelSummary::new(&config));
    Ok(())
}
