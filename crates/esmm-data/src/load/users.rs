//! Whether the users of all sources of a split have a file of their own.

use crate::encode::feature::FeatureSpec;
use crate::encode::users::users_stand_apart;
use crate::error::DataError;
use crate::outcome::outcomes::Outcomes;
use crate::split::spec::SplitSpec;

/// Whether the users of all sources stand apart.
///
/// # Errors
/// A file that is missing or damaged.
pub(crate) fn stand_apart(
    spec: &SplitSpec,
    features: &[FeatureSpec],
    outcomes: &Outcomes,
) -> Result<bool, DataError> {
    for source in spec.sources() {
        let others = outcomes.columns_of_impressions().chain(spec.column());
        if !users_stand_apart(source, features, others)? {
            return Ok(false);
        }
    }
    Ok(true)
}
