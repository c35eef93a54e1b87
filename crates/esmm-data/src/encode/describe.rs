//! From table rows and encoded numbers back to what a person wrote.

use super::encoder::{Fitted, FittedEncoders};
use super::feature::DenseTransform;
use super::table::TableEncoder;

impl FittedEncoders {
    /// What row `row` of the table of the `feature`-th sparse feature stands for: a key, a range of values, a hash
    /// bucket. Row 0 is `missing or unknown`. `None` for a feature or a row that does not exist.
    pub fn sparse_value(&self, feature: usize, row: u32) -> Option<String> {
        let fitted = self
            .fitted()
            .iter()
            .filter(|fitted| !matches!(fitted, Fitted::Dense(_) | Fitted::Pieces(..)))
            .nth(feature)?;
        let fitted = match fitted {
            Fitted::Shares(owner) => self.fitted().get(*owner)?,
            own => own,
        };
        let Fitted::Table(table) = fitted else { return None };
        match row.checked_sub(1) {
            _ if row as usize >= table.num_embeddings() => None,
            None => Some("missing or unknown".to_owned()),
            Some(place) => table.value(place as usize),
        }
    }

    /// The value that the `feature`-th dense feature encodes as `number`, or as several numbers that add up to it, up to
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
    /// What the row behind `place` others (row 0 not counted) stands for.
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
        let vocabulary = TableEncoder::Vocabulary(counts.finish(1));
        assert_eq!((vocabulary.value(0).as_deref(), vocabulary.value(1)), (Some("<b>"), None));
    }

    #[test]
    fn transforms_are_undone() {
        use super::super::encoder::{Fitted, FittedEncoders};
        use super::super::feature::{FeatureKind, FeatureSpec};
        let transforms = [DenseTransform::None, DenseTransform::Standardize, DenseTransform::Log1p];
        let spec = |transform| FeatureSpec {
            name: format!("{transform:?}"),
            column: "x".to_owned(),
            side: esmm_core::Side::Item,
            kind: FeatureKind::Dense { transform, missing: None },
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
