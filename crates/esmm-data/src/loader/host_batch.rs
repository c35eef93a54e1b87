//! Rows of a dataset as a batch.

use esmm_core::{BatchBuilder, BatchInput, HostBatch, SparseInput};

use super::{BatchLoaderConfig, EncodedRows, Purpose, RowLabels};
use crate::{Dataset, SparseColumn, UserGroups};

impl Dataset {
    /// The rows as a batch with their labels; `number` tells it from the other batches of all passes.
    pub(super) fn host_batch(
        &self,
        rows: &[u32],
        number: u64,
        config: &BatchLoaderConfig,
        builder: &mut BatchBuilder,
    ) -> (HostBatch, RowLabels) {
        let mut part = self.take(rows);
        match config.purpose {
            Purpose::Training { seed } => config.unknown.apply(&mut part, seed, number),
            Purpose::Scoring => {}
        }
        let sparse: Vec<SparseInput<'_>> = part.sparse.iter().map(SparseColumn::as_input).collect();
        let dense: Vec<&[f32]> = part.dense.iter().map(Vec::as_slice).collect();
        let groups = part.users.as_ref().map(UserGroups::as_input);
        let input = BatchInput { rows: part.rows, sparse: &sparse, dense: &dense, groups };
        let batch = match config.purpose {
            Purpose::Training { .. } => builder.build(input),
            Purpose::Scoring => builder.build_for_inference(input),
        };
        let batch = batch.unwrap_or_else(|error| {
            panic!("the dataset does not fit the schema {:?}: {error}", config.schema)
        });
        let scored = config.purpose == Purpose::Scoring;
        let encoded = scored
            .then(|| Box::new(EncodedRows { sparse: part.sparse, dense: part.dense, users: part.users }));
        let counts = part.counts.without_plain_parts();
        (batch, RowLabels { depth: part.depth, group: part.group, truth: part.truth, counts, encoded })
    }
}
