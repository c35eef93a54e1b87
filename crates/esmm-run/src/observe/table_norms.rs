//! How long the rows of the tables are: which have moved, and which have run away.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use esmm_core::{EmbeddingArena, EsmmConfig};

/// Rows whose norms are computed at once, so that a table of any size needs little memory.
const ROWS_AT_ONCE: usize = 1 << 16;

/// Euclidean norms of the rows of one table, in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct TableNorms {
    /// The table, and after a slash the stage where each tower has tables of its own.
    pub name: String,
    /// One norm a row.
    pub norms: Vec<f32>,
}

impl TableNorms {
    /// The norms of all tables of a model whose stages have these names.
    pub fn of<B: Backend>(
        arena: &EmbeddingArena<B>,
        model: &EsmmConfig,
        stages: &[String],
    ) -> Vec<TableNorms> {
        let mut tables = Vec::new();
        for (copy, stage) in stages.iter().enumerate().take(arena.copies()) {
            let mut start = copy * arena.rows();
            for table in model.schema.tables() {
                let name = match arena.copies() {
                    1 => table.name.clone(),
                    _ => format!("{}/{}", table.name, stage),
                };
                tables.push(TableNorms { name, norms: norms(arena, start, table.num_embeddings) });
                start += table.num_embeddings;
            }
        }
        tables
    }
}

fn norms<B: Backend>(arena: &EmbeddingArena<B>, start: usize, rows: usize) -> Vec<f32> {
    let dim = arena.dim();
    let mut norms = Vec::with_capacity(rows);
    for first in (start..start + rows).step_by(ROWS_AT_ONCE) {
        let last = (first + ROWS_AT_ONCE).min(start + rows);
        let part: Tensor<B, 2> = arena.table.value().slice([first..last, 0..dim]);
        norms.extend((part.clone() * part).sum_dim(1).sqrt().into_data().iter::<f32>());
    }
    norms
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use burn_ndarray::NdArray;
    use esmm_core::{EmbeddingArenaConfig, Feature, FeatureSchema, Side};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Row r of an arena of 5 rows and two copies is (3r, 4r), of norm 5r.
    #[test]
    fn norms_of_every_copy_by_name() {
        let features = vec![Feature::sparse("a", Side::User, 3), Feature::sparse("b", Side::Item, 2)];
        let mut model = EsmmConfig::new(FeatureSchema::new(features).unwrap());
        let stages = ["click", "buy"].map(str::to_owned);
        for (copies, shared) in [(1, true), (2, false)] {
            model.shared_embeddings = shared;
            let config = EmbeddingArenaConfig { rows: 5, dim: 2, copies, init_std: 0.0 };
            let arena = config.init::<NdArray>(&mut ChaCha8Rng::seed_from_u64(0), &Default::default());
            let values: Vec<f32> = (0..5 * copies).flat_map(|r| [3.0 * r as f32, 4.0 * r as f32]).collect();
            let values = TensorData::new(values, [5 * copies, 2]);
            arena.table.update(|_| Tensor::from_data(values, &Default::default()));
            let found = TableNorms::of(&arena, &model, &stages);
            let expected = |name: &str, first: u8, rows: u8| TableNorms {
                name: name.to_owned(),
                norms: (first..first + rows).map(|row| 5.0 * f32::from(row)).collect(),
            };
            match copies {
                1 => assert_eq!(found, [expected("a", 0, 3), expected("b", 3, 2)]),
                _ => assert_eq!(
                    found,
                    [
                        expected("a/click", 0, 3),
                        expected("b/click", 3, 2),
                        expected("a/buy", 5, 3),
                        expected("b/buy", 8, 2)
                    ]
                ),
            }
        }
    }
}
