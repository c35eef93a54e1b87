//! Which columns are the user's, and whether a source has them apart.

use esmm_core::Side;

use super::feature::{FeatureKind, FeatureSpec};
use crate::dataset::Sides;
use crate::error::DataError;
use crate::read::source::SourceSpec;

impl Sides {
    /// Those of some features.
    pub(crate) fn of(specs: &[FeatureSpec]) -> Self {
        let is_user = |spec: &FeatureSpec| spec.side == Side::User;
        let sparse = specs.iter().filter(|spec| matches!(spec.kind, FeatureKind::Sparse { .. }));
        let dense = specs.iter().filter(|spec| matches!(spec.kind, FeatureKind::Dense { .. }));
        Self { sparse: sparse.map(is_user).collect(), dense: dense.map(is_user).collect() }
    }
}

/// Whether a source has groups, in whose file the columns of user features stand and none of the others that are read.
///
/// # Errors
/// A file that is missing or damaged.
pub(crate) fn users_stand_apart<'a>(
    source: &SourceSpec,
    specs: &'a [FeatureSpec],
    others: impl IntoIterator<Item = &'a str>,
) -> Result<bool, DataError> {
    let columns = |user: bool| {
        let specs = specs.iter().filter(move |spec| (spec.side == Side::User) == user);
        specs.flat_map(FeatureSpec::columns)
    };
    let users: Vec<&str> = columns(true).collect();
    let own: Vec<&str> = columns(false).chain(others).collect();
    Ok(!users.is_empty() && source.columns_stand_apart(&own, &users)?)
}
