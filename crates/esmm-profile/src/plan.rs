//! The plan of the training: what its rows and ids allow.

/// Steps of a training at least, where the rows allow so many: in fewer the weights hardly leave their initial values.
const STEPS: u64 = 250;
/// Fewer rows of training an id than this, and wide embeddings are learned by heart.
const ROWS_AN_ID: u64 = 5;
/// With at most so many ids in the largest table each of them is seen often.
const FEW_IDS: u64 = 32;
/// From so many rows on, dropout costs more than it saves.
const MANY_ROWS: u64 = 1_000_000;

/// Sizes of the model and of its training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    /// Rows that are learned from.
    pub(crate) rows: u64,
    pub(crate) embedding_dim: u64,
    /// Where embeddings start far apart, how far; `None`: as the run file has it unless said.
    pub(crate) embedding_init_std: Option<f64>,
    pub(crate) hidden: [u64; 2],
    pub(crate) dropout: f64,
    pub(crate) batch: u64,
    pub(crate) epochs: u64,
}

impl Plan {
    /// For so many rows of training and so many ids in the largest table.
    pub(crate) fn of(rows: u64, ids: u64) -> Self {
        let mut batch = match rows {
            0..50_000 => 256,
            50_000..5_000_000 => 1024,
            _ => 4096,
        };
        let epochs = 2;
        while batch > 32 && epochs * rows < STEPS * batch {
            batch /= 2;
        }
        let embedding_dim = if ids > 0 && rows / ids < ROWS_AN_ID { 8 } else { 16 };
        let few_ids = ids <= FEW_IDS;
        let hidden = if few_ids && rows < 5_000_000 { [64, 32] } else { [128, 64] };
        // Ids of few rows would keep what they start with.
        let embedding_init_std = few_ids.then_some(0.1);
        let dropout = if rows < MANY_ROWS { 0.2 } else { 0.0 };
        Self { rows, embedding_dim, embedding_init_std, hidden, dropout, batch, epochs }
    }

    /// Steps of the training.
    pub(crate) fn steps(&self) -> u64 {
        self.epochs * self.rows.div_ceil(self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_neither_few_nor_many() {
        for rows in [2_000, 10_000, 40_000, 60_000, 200_000, 400_000] {
            let plan = Plan::of(rows, 10);
            assert!((100..=1000).contains(&plan.steps()), "{rows}: {plan:?}, {} steps", plan.steps());
            assert!(plan.steps() >= STEPS || plan.batch == 32, "{rows}: {plan:?}, {} steps", plan.steps());
        }
    }

    #[test]
    fn few_rows_an_id_make_embeddings_narrow() {
        assert_eq!(Plan::of(100_000, 30_000).embedding_dim, 8);
        assert_eq!(Plan::of(100_000, 10_000).embedding_dim, 16);
        assert_eq!(Plan::of(100_000, 0).embedding_dim, 16);
    }

    /// Measured on tables whose ids have few rows: the numbers that embeddings start with stay, and are noise.
    #[test]
    fn embeddings_start_far_apart_only_where_every_id_is_seen_often() {
        let plan = |ids| (Plan::of(100_000, ids).embedding_init_std, Plan::of(100_000, ids).hidden);
        assert_eq!(plan(32), (Some(0.1), [64, 32]));
        assert_eq!(plan(33), (None, [128, 64]));
    }
}
