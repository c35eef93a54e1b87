//! What the cells of some rows were to the encoders: known, missing, unknown, outside of what a feature takes.

use serde::Serialize;

/// A feature is mostly unknown above this share of its values.
const MOSTLY: f64 = 0.5;

/// Counts of the values of all features, in schema order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ValueCounts {
    /// One entry for each feature.
    pub features: Vec<FeatureCounts>,
}

/// Counts of the values of one feature. What the impressions of a group share is counted once a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FeatureCounts {
    /// The feature.
    pub name: String,
    /// Values, missing ones included; of a list its items.
    pub values: u64,
    /// Values that are missing.
    pub missing: u64,
    /// Values that are there, but that no training row had, or too few of them.
    pub unknown: u64,
    /// Values whose row of the table no training row had, missing and unknown ones included; `None` where nobody noted
    /// which rows were trained, and for a dense feature.
    pub untrained: Option<u64>,
    /// Values that the encoding does not take: something stood in for them.
    pub outside: u64,
}

/// A cell whose value an encoding does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideCell {
    /// Place of its feature among the specifications.
    pub feature: usize,
    /// Its row in the chunk that the feature is read from: of a user's feature, where groups stand apart, the group.
    pub row: usize,
}

impl FeatureCounts {
    /// Of a feature without values.
    pub(crate) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Share of unknown values among those that are there, in `[0, 1]`; 0 where there are none.
    pub fn unknown_rate(&self) -> f64 {
        share(self.unknown, self.values.saturating_sub(self.missing))
    }

    /// Share of missing values, in `[0, 1]`; 0 where there are no values.
    pub fn missing_rate(&self) -> f64 {
        share(self.missing, self.values)
    }

    /// Share of values whose row was never trained, in `[0, 1]`; 0 where there are no values.
    pub fn untrained_rate(&self) -> Option<f64> {
        self.untrained.map(|untrained| share(untrained, self.values))
    }

    fn add(&mut self, other: &Self) {
        self.values += other.values;
        self.missing += other.missing;
        self.unknown += other.unknown;
        self.untrained = self.untrained.zip(other.untrained).map(|(own, more)| own + more);
        self.outside += other.outside;
    }

    /// What a person should know before believing the scores.
    fn warnings(&self) -> Vec<String> {
        let percent = |share: f64| format!("{:.0}%", 100.0 * share);
        let name = crate::error::quoted(&self.name);
        let mut warnings = Vec::new();
        let unknown = self.unknown_rate();
        if unknown > MOSTLY {
            warnings
                .push(format!("feature {name}: {} of its values are unknown in training", percent(unknown)));
        }
        if let Some(untrained) = self.untrained_rate().filter(|share| *share > MOSTLY) {
            warnings.push(format!(
                "feature {name}: {} of its values have a row of the table that was never trained, and are scored with \
                 its initial values",
                percent(untrained)
            ));
        }
        if self.outside > 0 {
            warnings.push(format!(
                "feature {name}: {} of {} values are outside of what it takes; the feature's `outside` says what stood \
                 in for them, --strict makes them errors",
                self.outside, self.values
            ));
        }
        warnings
    }
}

impl ValueCounts {
    /// Adds the counts of other rows of the same features.
    pub fn add(&mut self, other: &Self) {
        if self.features.is_empty() {
            self.features.clone_from(&other.features);
            return;
        }
        for (own, more) in self.features.iter_mut().zip(&other.features) {
            own.add(more);
        }
    }

    /// What a person should know before believing the scores, a line each.
    pub fn warnings(&self) -> Vec<String> {
        self.features.iter().flat_map(FeatureCounts::warnings).collect()
    }
}

fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mostly_empty(unknown: u64, outside: u64) -> FeatureCounts {
        FeatureCounts {
            values: 100,
            missing: 94,
            unknown,
            untrained: Some(0),
            outside,
            ..FeatureCounts::of("x")
        }
    }

    #[test]
    fn missing_values_are_not_unknown() {
        let half = ValueCounts { features: vec![mostly_empty(3, 0)] };
        assert!(half.warnings().is_empty(), "half of those that are there: {:?}", half.warnings());
        let mut mostly = ValueCounts { features: vec![mostly_empty(4, 2)] };
        let warnings = mostly.warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert_eq!(warnings[0], "feature `x`: 67% of its values are unknown in training");
        assert!(warnings[1].starts_with("feature `x`: 2 of 100 values are outside"), "{warnings:?}");
        mostly.add(&half);
        let both = FeatureCounts { values: 200, missing: 188, ..mostly_empty(7, 2) };
        assert_eq!(mostly.features, [both]);
    }

    #[test]
    fn rows_that_were_never_trained_are_said_where_they_are_known() {
        let counts = |untrained| ValueCounts {
            features: vec![FeatureCounts { values: 10, untrained, ..FeatureCounts::of("a\nb") }],
        };
        assert!(counts(None).warnings().is_empty() && counts(Some(5)).warnings().is_empty());
        let warnings = counts(Some(6)).warnings();
        assert!(warnings[0].starts_with("feature `a\\nb`: 60% of its values have a row"), "{warnings:?}");
        let mut sum = counts(Some(6));
        sum.add(&counts(None));
        assert_eq!(sum.features[0].untrained, None, "nobody knows it of all rows");
    }
}
