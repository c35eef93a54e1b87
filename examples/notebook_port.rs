//! The notebook's example: two feature dicts, five rows of floats, one forward pass.
//!
//! ```sh
//! cargo run --example notebook_port
//! ```
//!
//! ```text
//! row  ctr_logit  cvr_logit    pCTR    pCVR  pCTCVR
//!   0    -0.0417    -0.2797  0.4896  0.4305  0.2108
//!   1    -0.3435    -0.0019  0.4150  0.4995  0.2073
//!   2    -0.3351    -0.4964  0.4170  0.3784  0.1578
//!   3    -0.0959    -0.2541  0.4761  0.4368  0.2079
//!   4    -0.0631    -0.3477  0.4842  0.4139  0.2004
//!
//! refused: row 3, column 0, feature `user_id`: 11 is not an id, allowed are whole numbers from 0 to 10
//!
//! layer            type       output shape       parameters      memory
//! user_id          Embedding  [B, 128]                1,408     5.5 KiB
//! user_list        Embedding  [B, 128]                1,536     6.0 KiB
//! item_id          Embedding  [B, 128]                1,024     4.0 KiB
//! item_cate        Embedding  [B, 128]                  768     3.0 KiB
//! input            Concat     [B, 514]                    0           0
//! ctr_hidden_0     Linear     [2, B, 128]           131,840   515.0 KiB
//! ctr_batchnorm_0  BatchNorm  [2, B, 128]               512     4.0 KiB
//! ctr_dropout_0    Dropout    [2, B, 128]                 0           0
//! ctr_hidden_1     Linear     [2, B, 64]             16,512    64.5 KiB
//! ctr_batchnorm_1  BatchNorm  [2, B, 64]                256     2.0 KiB
//! ctr_dropout_1    Dropout    [2, B, 64]                  0           0
//! task_last_layer  Linear     [B, 2]                    130       520 B
//! total                                             153,986   604.5 KiB
//! ```
//!
//! The initial values come from the seed, so they are the same on every machine; untrained, they mean nothing.

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

    let columns = [logits.ctr_logit(), logits.cvr_logit(), probs.ctr, probs.cvr, probs.ctcvr];
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

    print!("\n{}", ModelSummary::new(&config));
    Ok(())
}
