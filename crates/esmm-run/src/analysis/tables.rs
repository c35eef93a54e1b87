//! Which rows of the embedding tables a split has.

use esmm_core::FeatureSchema;

use super::TableUsage;

/// One bit a table row.
#[derive(Debug, Clone)]
pub(super) struct TouchedRows {
    usage: Vec<TableUsage>,
    bits: Vec<Vec<u64>>,
    /// Place of the table of each sparse feature.
    table: Vec<usize>,
}

impl TouchedRows {
    pub(super) fn new(schema: &FeatureSchema) -> Self {
        let tables: Vec<_> = schema.tables().collect();
        let owner = |feature: &esmm_core::SparseFeature| {
            let name = feature.shares.as_ref().unwrap_or(&feature.name);
            tables.iter().position(|table| table.name == *name).unwrap_or(0)
        };
        let table: Vec<usize> = schema.sparse().map(owner).collect();
        let users = |place: usize| {
            let features = schema.sparse().zip(&table).filter(move |(_, table)| **table == place);
            features.map(|(feature, _)| feature.name.clone()).collect()
        };
        let usage = tables.iter().enumerate().map(|(place, table)| TableUsage {
            table: table.name.clone(),
            features: users(place),
            rows: table.num_embeddings.saturating_sub(1) as u64,
            ..TableUsage::default()
        });
        let bits = tables.iter().map(|table| vec![0; table.num_embeddings.div_ceil(64)]);
        Self { usage: usage.collect(), bits: bits.collect(), table }
    }

    /// The ids of some rows of the `feature`-th sparse feature.
    pub(super) fn add(&mut self, feature: usize, ids: &[u32]) {
        let bits = &mut self.bits[self.table[feature]];
        for id in ids {
            bits[*id as usize / 64] |= 1 << (id % 64);
        }
    }

    pub(super) fn finish(self) -> Vec<TableUsage> {
        let of_table = |(usage, bits): (TableUsage, Vec<u64>)| {
            let unknown_trained = bits.first().is_some_and(|word| word & 1 == 1);
            let touched: u64 = bits.iter().map(|word| u64::from(word.count_ones())).sum();
            let never_touched = usage.rows - (touched - u64::from(unknown_trained));
            TableUsage { never_touched, unknown_trained, ..usage }
        };
        self.usage.into_iter().zip(self.bits).map(of_table).collect()
    }
}

#[cfg(test)]
mod tests {
    use esmm_core::{Feature, FeatureSchema, Side};

    use super::TouchedRows;

    #[test]
    fn rows_are_counted_once_for_all_features_of_a_table() {
        let schema = FeatureSchema::new(vec![
            Feature::sparse("item", Side::Item, 130),
            Feature::dense("price", Side::Item),
            Feature::sparse("user", Side::User, 3),
            Feature::sparse("last_item", Side::User, 130).sharing("item"),
        ])
        .unwrap();
        let mut touched = TouchedRows::new(&schema);
        touched.add(0, &[1, 1, 129]);
        touched.add(2, &[64, 1]);
        touched.add(1, &[0, 2]);
        let found = touched.finish();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].rows, found[0].never_touched, found[0].unknown_trained), (129, 126, false));
        assert_eq!(found[0].features, ["item", "last_item"]);
        assert_eq!((found[1].rows, found[1].never_touched, found[1].unknown_trained), (2, 1, true));
    }
}
