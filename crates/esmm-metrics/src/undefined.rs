//! Why a metric has no value.

/// The reason for which a metric is undefined on the rows it was given. Rows count from 0, in the order given.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Undefined {
    /// There is nothing to measure.
    #[error("there are no rows")]
    NoRows,
    /// Every label is 0 (with soft labels: every true probability is 0).
    #[error("none of the {rows} rows is positive")]
    NoPositives {
        /// Number of rows.
        rows: u64,
    },
    /// Every label is 1 (with soft labels: every true probability is 1).
    #[error("all of the {rows} rows are positive")]
    NoNegatives {
        /// Number of rows.
        rows: u64,
    },
    /// A score or a log-probability is NaN.
    #[error("row {row}: the score is not a number")]
    NotANumber {
        /// The first such row.
        row: u64,
    },
    /// What happened had probability 0.
    #[error("row {row}: the predicted probability of what happened is 0, so the log loss is infinite")]
    Impossible {
        /// The first such row.
        row: u64,
    },
    /// A soft label outside `[0, 1]`.
    #[error("row {row}: the true probability is {found}, allowed are 0 to 1")]
    NotAProbability {
        /// The first such row.
        row: u64,
        /// The value.
        found: f32,
    },
    /// One row with a soft label has no other row to be ranked against.
    #[error("one row alone cannot be ranked")]
    NoPairs,
    /// The value is known, its variance is not.
    #[error("an interval needs two rows of each class: found {positives} positive, {negatives} negative")]
    NoVariance {
        /// Number of positive rows.
        positives: u64,
        /// Number of negative rows.
        negatives: u64,
    },
    /// No group has a positive and a negative row.
    #[error("none of the {groups} groups has both classes")]
    NoGroups {
        /// Number of groups.
        groups: u64,
    },
    /// The rows of a class, or all rows, have the weight 0.
    #[error("the weights of a class add up to 0 ({rows} rows)")]
    NoWeight {
        /// Number of rows.
        rows: u64,
    },
    /// The sums overflow: the inputs are no log-probabilities.
    #[error("the value is not finite")]
    NotFinite,
}

impl Undefined {
    /// The same reason, its row renamed: for metrics over some of the rows.
    pub(crate) fn with_row(mut self, rename: impl FnOnce(u64) -> u64) -> Self {
        if let Self::NotANumber { row } | Self::Impossible { row } | Self::NotAProbability { row, .. } =
            &mut self
        {
            *row = rename(*row);
        }
        self
    }
}

/// `Ok` when both classes are there.
///
/// # Errors
/// [`Undefined::NoRows`], [`Undefined::NoPositives`], [`Undefined::NoNegatives`].
pub(crate) fn both_classes(positives: u64, negatives: u64) -> Result<(), Undefined> {
    match (positives, negatives) {
        (0, 0) => Err(Undefined::NoRows),
        (0, rows) => Err(Undefined::NoPositives { rows }),
        (rows, 0) => Err(Undefined::NoNegatives { rows }),
        _ => Ok(()),
    }
}

/// What the `rows` rows of a class weigh, where that is more than 0.
///
/// # Errors
/// [`Undefined::NoWeight`].
pub(crate) fn some_weight(weight: f64, rows: u64) -> Result<f64, Undefined> {
    if weight > 0.0 { Ok(weight) } else { Err(Undefined::NoWeight { rows }) }
}

#[cfg(test)]
mod tests {
    use super::{Undefined, both_classes};

    #[test]
    fn reasons_are_words() {
        assert_eq!(both_classes(2, 1), Ok(()));
        assert_eq!(both_classes(0, 0).unwrap_err().to_string(), "there are no rows");
        assert_eq!(both_classes(0, 7), Err(Undefined::NoPositives { rows: 7 }));
        assert_eq!(both_classes(3, 0).unwrap_err().to_string(), "all of the 3 rows are positive");
    }
}
