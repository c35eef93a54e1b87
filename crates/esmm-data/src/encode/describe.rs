//! From table rows and encoded numbers back to what a person wrote.

use super::encoder::{Fitted, FittedEncoders};
use super::feature::DenseTransform;
use super::table::TableEncoder;
use super::unknown_row::UnknownRow;

impl FittedEncoders {
    /// What row `row` of the table of the `feature`-th sparse feature stands for: a key, a range of values, a hash
    /// bucket; `missing`, `unknown` or, where one row is for both, `missing or unknown`. `None` for a feature or a row that
    /// does not exist.
    pub fn sparse_value(&self, feature: usize, row: u32) -> Option<String> {
        let fitted = self
            .fitted()
            .iter()
            .filter(|fitted| !matches!(fitted, Fitted::Dense(_) | Fitted::Pieces(..)))
            .nth(feature)?;
        let table = self.table(fitted)?;
        if row as usize >= table.num_embeddings() {
            return None;
        }
        match (row.checked_sub(table.first_value()), table.unknown_row()) {
            (Some(place), _) => table.value(place as usize),
            (None, Some(UnknownRow::OfMissing)) => Some("missing or unknown".to_owned()),
            (None, Some(unknown)) if row == unknown.row() => Some("unknown".to_owned()),
            (None, _) => Some("missing".to_owned()),
        }
    }

    /// For each sparse feature in schema order, where values that training does not know have their row; `None` where no
    /// value is unknown.
    pub fn unknown_rows(&self) -> Vec<Option<UnknownRow>> {
        let tables = self.fitted().iter().filter_map(|fitted| self.table(fitted));
        tables.map(TableEncoder::unknown_row).collect()
    }

    /// The table of a sparse feature, its own or another's.
    fn table<'a>(&'a self, fitted: &'a Fitted) -> Option<&'a TableEncoder> {
        let fitted = match fitted {
            Fitted::Shares(owner) => self.fitted().get(*owner)?,
            own => own,
        };
        match fitted {
            Fitted::Table(table) => Some(table),
            Fitted::Shares(_) | Fitted::Dense(_) | Fitted::Pieces(..) => None,
        }
    }

    /// The value that the `feature`-th dense feature encodes as `number`, up to
    /// rounding. `None` for a feature that does not exist, and for one that saw no value in training.
    pub fn dense_value(&self, feature: usize, number: f32) -> Option<f64> {
        let mut dense =
            self.fitted().iter().filter(|fitted| matches!(fitted, Fitted::Dense(_) | Fitted::Pieces(..)));
        let number = f64::from(number);
        let encoder = match dense.nth(feature)? {
            Fitted::Dense(encoder) => encoder,
            Fitted::Pieces(_, pieces) => return pieces.value(number),
            Fitted::Table(_) | Fitted::Shares(_) => return None,
        };
        Some(match encoder.transform {
            DenseTransform::None | DenseTransform::PiecewiseLinear { .. } => number,
            DenseTransform::Standardize if encoder.std > 0.0 => number * encoder.std + encoder.mean,
            DenseTransform::Standardize => number + encoder.mean,
            DenseTransform::Log1p => number.exp_m1(),
        })
    }
}

impl TableEncoder {
    /// What the row after `place` others stands for, of those that stand for a value.
    fn value(&self, place: usize) -> Option<String> {
        match self {
            Self::Vocabulary(vocabulary) => vocabulary.entries().get(place).map(|(key, _)| key.text()),
            Self::Hash { .. } => Some(format!("hash bucket {place}")),
            Self::Raw { .. } => Some(place.to_string()),
            Self::Quantile(quantiles) => {
                let edge = |place: usize| quantiles.edges().get(place);
                Some(match (place.checked_sub(1).and_then(edge), edge(place)) {
                    (None, None) => "any number".to_owned(),
                    (None, Some(end)) => format!("below {end}"),
                    (Some(start), None) => format!("{start} or more"),
                    (Some(start), Some(end)) => format!("{start} up to {end}"),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dense::DenseEncoder;
    use super::super::feature::DenseTransform;
    use super::super::quantile::Quantiles;
    use super::super::table::TableEncoder;
    use super::super::unknown_row::UnknownRow;
    use super::super::vocabulary::KeyCounts;
    use crate::column::key::Key;

    #[test]
    fn rows_have_the_names_of_their_values() {
        let quantile = TableEncoder::Quantile(Quantiles::fit(vec![1.0, 2.0, 3.0, 4.5], 3));
        let names: Vec<_> = (0..4).map(|place| quantile.value(place)).collect();
        let expected = ["below 2", "2 up to 3", "3 or more"].map(|name| Some(name.to_owned()));
        assert_eq!(names[..3], expected);
        assert_eq!(TableEncoder::Raw { num_embeddings: 9 }.value(3).as_deref(), Some("3"));
        let mut counts = KeyCounts::default();
        counts.add(Key::Text("<b>"));
        let vocabulary = TableEncoder::Vocabulary(counts.finish(1, UnknownRow::Own));
        assert_eq!((vocabulary.value(0).as_deref(), vocabulary.value(1)), (Some("<b>"), None));
    }

    #[test]
    fn transforms_are_undone() {
        use super::super::encoder::{Fitted, FittedEncoders};
        use super::super::feature::{FeatureKind, FeatureSpec, Outside};
        let transforms = [DenseTransform::None, DenseTransform::Standardize, DenseTransform::Log1p];
        let spec = |transform| FeatureSpec {
            name: format!("{transform:?}"),
            column: "x".to_owned(),
            side: esmm_core::Side::Item,
            kind: FeatureKind::Dense { transform, missing: None },
            outside: Outside::Clip,
        };
        let encoder = |transform| DenseEncoder { transform, missing: None, mean: 3.0, std: 2.0 };
        let fitted = transforms.map(|transform| Fitted::Dense(encoder(transform))).to_vec();
        let encoders = FittedEncoders::new(transforms.map(spec).to_vec(), fitted).unwrap();
        for (feature, transform) in transforms.into_iter().enumerate() {
            let number = encoder(transform).apply(Some(7.25)).unwrap();
            assert!((encoders.dense_value(feature, number).unwrap() - 7.25).abs() < 1e-5, "{transform:?}");
        }
        assert_eq!(encoders.dense_value(3, 0.0), None);
        assert_eq!(encoders.sparse_value(0, 0), None);
    }
}
