//! What the values of scored rows were to the encoders, as JSON.

use esmm_train::data::{FeatureCounts, ValueCounts};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// For each feature, in order, its values and the shares of missing, unknown and untrained ones, and how many are outside
/// of what it takes.
pub(super) struct ByFeature<'a>(pub(super) &'a ValueCounts);

/// What is said of one feature.
#[derive(Serialize)]
struct Shares {
    values: u64,
    missing_rate: f64,
    unknown_rate: f64,
    untrained_rate: Option<f64>,
    outside: u64,
}

impl Serialize for ByFeature<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for feature in &self.0.features {
            map.serialize_entry(&feature.name, &Shares::of(feature))?;
        }
        map.end()
    }
}

impl Shares {
    fn of(feature: &FeatureCounts) -> Self {
        Self {
            values: feature.values,
            missing_rate: feature.missing_rate(),
            unknown_rate: feature.unknown_rate(),
            untrained_rate: feature.untrained_rate(),
            outside: feature.outside,
        }
    }
}
