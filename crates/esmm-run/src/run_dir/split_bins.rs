//! Models written before the schema counted bins: there a number in a piecewise-linear encoding was a dense feature for
//! each of its bins. Their weights are the same, for a bin had a column of the towers' input then as now.

use esmm_core::{DenseFeature, Feature, FeatureSchema};

/// Whether a schema may be of such a model: a feature is named like the first bin of a number.
pub(super) fn may_be_split(schema: &FeatureSchema) -> bool {
    schema.dense().any(|feature| feature.name.ends_with("[1]"))
}

/// Whether `split` has a dense feature for each bin where `whole`, the schema of the encoders, has a number with bins.
pub(super) fn is_split(split: &FeatureSchema, whole: &FeatureSchema) -> bool {
    let has_bins = whole.dense().any(|feature| feature.bins.is_some());
    let bins = whole.features().iter().flat_map(bins_apart);
    has_bins && bins.eq(split.features().iter().cloned())
}

/// A feature as a schema of that time has it.
fn bins_apart(feature: &Feature) -> Vec<Feature> {
    match feature {
        Feature::Sparse(_) => vec![feature.clone()],
        Feature::Dense(dense @ DenseFeature { side, .. }) => {
            dense.columns().into_iter().map(|name| Feature::dense(name, *side)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use esmm_core::{Feature, FeatureSchema, Side};

    use super::{is_split, may_be_split};

    fn schema(features: &[Feature]) -> FeatureSchema {
        FeatureSchema::new(features.to_vec()).unwrap()
    }

    #[test]
    fn bins_apart_are_told_from_features_of_such_names() {
        let user = Feature::sparse("user", Side::User, 7);
        let [first, second] = ["price[1]", "price[2]"].map(|name| Feature::dense(name, Side::Item));
        let split = schema(&[user.clone(), first.clone(), second]);
        assert!(may_be_split(&split));
        let with = |bins| schema(&[user.clone(), Feature::piecewise("price", Side::Item, bins)]);
        assert!(is_split(&split, &with(2)));
        assert!(!is_split(&split, &with(3)), "another number of bins");
        assert!(!is_split(&split, &split), "columns that are named so");
        assert!(!is_split(&schema(&[user.clone(), first]), &with(2)));
        assert!(!may_be_split(&with(2)));
    }
}
