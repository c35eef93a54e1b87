//! What became of the rows of the embedding tables.

use esmm_core::FeatureSchema;
use esmm_data::{FittedEncoders, MISSING, TrainedRows, UnknownRow};

use super::TableUsage;

/// The use of each table, in the order of the schema.
pub(super) fn usage(encoders: &FittedEncoders, trained: &TrainedRows) -> Vec<TableUsage> {
    of_schema(encoders.schema(), &encoders.unknown_rows(), trained)
}

fn of_schema(
    schema: &FeatureSchema,
    unknown_rows: &[Option<UnknownRow>],
    trained: &TrainedRows,
) -> Vec<TableUsage> {
    let features = || schema.sparse().zip(trained.table_of()).zip(unknown_rows);
    let of_table = |(place, table): (usize, &esmm_core::SparseFeature)| {
        let users = || features().filter(|((_, table), _)| **table == place);
        let unknown = users().find_map(|(_, unknown)| *unknown);
        let mut special = vec![MISSING];
        special.extend(unknown.map(UnknownRow::row).filter(|row| *row != MISSING));
        let rows = table.num_embeddings.saturating_sub(special.len()) as u64;
        let special_trained = special.iter().filter(|row| trained.table_has(place, **row)).count() as u64;
        TableUsage {
            table: table.name.clone(),
            features: users().map(|((feature, _), _)| feature.name.clone()).collect(),
            rows,
            never_touched: rows - (trained.count(place) - special_trained),
            unknown_trained: unknown.is_some_and(|unknown| trained.table_has(place, unknown.row())),
            knows_all: unknown.is_none(),
        }
    };
    schema.tables().enumerate().map(of_table).collect()
}

#[cfg(test)]
mod tests {
    use esmm_core::{Feature, FeatureSchema, Side};
    use esmm_data::{TrainedRows, UnknownRow};

    use super::of_schema;

    #[test]
    fn rows_are_counted_once_for_all_features_of_a_table() {
        let schema = FeatureSchema::new(vec![
            Feature::sparse("item", Side::Item, 130),
            Feature::dense("price", Side::Item),
            Feature::sparse("user", Side::User, 3),
            Feature::sparse("last_item", Side::User, 130).sharing("item"),
        ])
        .unwrap();
        let mut trained = TrainedRows::none(&schema);
        trained.add(0, &[1, 1, 129]);
        trained.add(2, &[64, 1]);
        trained.add(1, &[0, 2]);
        let own = Some(UnknownRow::Own);
        let found = of_schema(&schema, &[own, Some(UnknownRow::OfMissing), own], &trained);
        assert_eq!(found.len(), 2);
        // Of rows 2 to 129 two were trained.
        assert_eq!((found[0].rows, found[0].never_touched, found[0].unknown_trained), (128, 126, true));
        assert_eq!(found[0].features, ["item", "last_item"]);
        assert_eq!((found[1].rows, found[1].never_touched, found[1].unknown_trained), (2, 1, true));
        let hashed = of_schema(&schema, &[None, None, None], &trained);
        assert_eq!((hashed[0].rows, hashed[0].never_touched, hashed[0].knows_all), (129, 126, true));
    }
}
