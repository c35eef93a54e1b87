//! A Burn training loop of your own: arrays in, model, loss and optimizers in your hands, no Learner.
//!
//! ```sh
//! cargo run --example own_loop   # last digits may differ between processors
//! ```
//!
//! ```text
//! epoch 1  click loss 0.627  click-and-conversion loss 0.269
//! epoch 2  click loss 0.497  click-and-conversion loss 0.163
//! epoch 3  click loss 0.461  click-and-conversion loss 0.151
//! epoch 4  click loss 0.432  click-and-conversion loss 0.142
//! epoch 5  click loss 0.403  click-and-conversion loss 0.133
//! ```

use burn::backend::Autodiff;
use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::tensor::{Tensor, TensorData};
use burn_ndarray::{NdArray, NdArrayDevice};
use esmm_core::{
    BatchBuilder, BatchInput, DropoutKey, EsmmConfig, Feature, FeatureSchema, Side, SparseInput,
};
use esmm_train::EsmmLoss;
use esmm_train::data::synthetic::{CHUNK_ROWS, SyntheticConfig, SyntheticFunnel};
use esmm_train::optimizer::{TableOptimizer, TableOptimizerConfig, TableRule};

type B = Autodiff<NdArray>;

const BATCH: usize = 512;
const LEARNING_RATE: f64 = 1e-3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // 8192 impressions with labels. Any source of ids, numbers and labels will do.
    let source = SyntheticConfig::default();
    let chunk = SyntheticFunnel::new(source.clone())?.next().ok_or("no rows")?;
    let ids = |name: &str| {
        let column = chunk.column_by_name(name).map(|column| column.to_data());
        let column = column.ok_or(format!("no column `{name}`"))?;
        let values = column.buffers()[0].typed_data::<i64>().iter();
        Ok::<Vec<u32>, String>(values.map(|&id| id as u32).collect())
    };
    let (user, item, position) = (ids("user_id")?, ids("item_id")?, ids("position")?);
    let (click, conversion) = (ids("click")?, ids("conversion")?);

    let schema = FeatureSchema::new(vec![
        Feature::sparse("user_id", Side::User, source.users),
        Feature::sparse("item_id", Side::Item, source.items),
        Feature::sparse("position", Side::Context, 11),
    ])?;
    let config = EsmmConfig::new(schema.clone()); // the paper's model
    let device = NdArrayDevice::default();
    let mut model = config.init::<B>(&device)?;

    let loss = EsmmLoss::new(config.stages);
    let mut adam = AdamConfig::new().init();
    let tables = TableOptimizerConfig {
        rule: TableRule::Adagrad { epsilon: 1e-8 },
        learning_rate_ratio: 20.0,
        l2: 0.0,
    };
    let tables = TableOptimizer::new(&tables, &model.embeddings);
    let mut builder = BatchBuilder::new(&schema);
    let mut step = 0;
    for epoch in 1..=5 {
        let mut sums = [0.0, 0.0];
        for rows in (0..CHUNK_ROWS).step_by(BATCH).map(|start| start..start + BATCH) {
            let sparse = [&user, &item, &position].map(|ids| SparseInput::Single(&ids[rows.clone()]));
            let input = BatchInput { rows: BATCH, sparse: &sparse, dense: &[], groups: None };
            let batch = builder.build(input)?.to_device(&device);
            let labels: Vec<f32> = rows.flat_map(|row| [click[row] as f32, conversion[row] as f32]).collect();
            let labels = Tensor::from_data(TensorData::new(labels, [BATCH, 2]), &device);

            let forward = model.forward_train(&batch, DropoutKey { seed: 1, step });
            let losses = loss.forward(&forward.logits, labels);
            let mut grads = losses.backward();
            step += 1;
            // The tables' gradient is a matrix of the touched rows; everything else is Burn as usual.
            if let Some(rows) = forward.touched.take_grads(&mut grads) {
                tables.step(&model.embeddings, rows, LEARNING_RATE, step);
            }
            let grads = GradientsParams::from_grads(grads, &model);
            model = adam.step(LEARNING_RATE, model, grads);
            for (sum, loss) in sums.iter_mut().zip(losses.tasks.into_data().iter::<f64>()) {
                *sum += loss * BATCH as f64 / CHUNK_ROWS as f64;
            }
        }
        let [click, conversion] = sums;
        println!("epoch {epoch}  click loss {click:.3}  click-and-conversion loss {conversion:.3}");
    }
    Ok(())
}
