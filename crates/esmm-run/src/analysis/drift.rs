//! Two periods held against each other: what of a calibration that is off is explained by what has changed.

use serde::{Deserialize, Serialize};

use super::period::{FeatureDistribution, Period, TaskRate, UNKNOWN};

/// 97.5% quantile of the standard normal distribution.
const Z_975: f64 = 1.959_963_984_540_054;
/// The stability index from which on a distribution is said to have moved.
const MOVED: f64 = 0.1;
/// The one from which on it has moved far.
const FAR: f64 = 0.25;
/// How much larger than chance would make it an index must be.
const ABOVE_CHANCE: f64 = 3.0;
/// A rise of the share of missing and new values that is worth a word.
const MANY_NEW: f64 = 0.02;

/// How later rows differ from earlier ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Impressions of the earlier rows.
    pub rows_before: u64,
    /// Impressions of the later rows.
    pub rows_after: u64,
    /// The tasks, in the order of the metrics.
    pub rates: Vec<RateDrift>,
    /// The features, those that moved most first.
    pub features: Vec<FeatureDrift>,
}

/// How a rate has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RateDrift {
    /// The task, as in `metrics.json`.
    pub task: String,
    /// Share of the earlier impressions on which it happened.
    pub before: f64,
    /// Share of the later ones.
    pub after: f64,
    /// 95% interval of `after / before`.
    pub ratio_ci95: [f64; 2],
    /// Mean prediction for the earlier impressions.
    pub predicted_before: f64,
    /// Mean prediction for the later ones: what the features alone say of the change.
    pub predicted_after: f64,
}

/// How the values of a feature have moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureDrift {
    /// The feature.
    pub feature: String,
    /// Population stability index: the sum over bins of `(q - p) ln(q / p)`, p the earlier shares and q the later ones. 0 is
    /// no change; by convention .1 is some and .25 is much.
    pub stability_index: f64,
    /// What it would be by chance, with so many values.
    pub by_chance: f64,
    /// The bin whose share has changed most.
    pub bin: String,
    /// Its earlier share.
    pub share_before: f64,
    /// Its later share.
    pub share_after: f64,
    /// Earlier share of missing and unknown values; of a sparse feature.
    pub unknown_before: Option<f64>,
    /// Later share of missing and unknown values; of a sparse feature.
    pub unknown_after: Option<f64>,
}

/// How far a feature has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// Not beyond chance, or by less than anybody minds.
    Hardly,
    /// An index of .1 or more.
    Some,
    /// An index of .25 or more.
    Far,
}

impl Drift {
    /// How `after` differs from `before`. Features and tasks that only one of them has are left out.
    pub fn between(before: &Period, after: &Period) -> Self {
        let rates = before.rates.iter().filter_map(|before| {
            let after = after.rates.iter().find(|after| after.task == before.task)?;
            RateDrift::between(before, after)
        });
        let features = before.features.iter().filter_map(|before| {
            let after = after.features.iter().find(|after| after.feature == before.feature)?;
            FeatureDrift::between(before, after)
        });
        let mut features: Vec<FeatureDrift> = features.collect();
        features.sort_by(|left, right| right.stability_index.total_cmp(&left.stability_index));
        Self { rows_before: before.rows, rows_after: after.rows, rates: rates.collect(), features }
    }

    /// A sentence for each task, then one for each feature that has moved or has many new values, and one about the others.
    pub fn described(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.rates.iter().map(RateDrift::described).collect();
        let notable: Vec<String> = self.features.iter().filter_map(FeatureDrift::described).collect();
        let quiet = self.features.len() - notable.len();
        let some = !notable.is_empty();
        lines.extend(notable);
        match (quiet, some) {
            (0, _) => {}
            (_, false) => lines.push("the features are spread as in the training rows".to_owned()),
            (1, true) => lines.push("the other feature is spread as in the training rows".to_owned()),
            (quiet, true) => {
                lines.push(format!("the other {quiet} features are spread as in the training rows"));
            }
        }
        lines
    }
}

impl RateDrift {
    fn between(before: &TaskRate, after: &TaskRate) -> Option<Self> {
        let (rate_before, rate_after) = (before.observed()?, after.observed()?);
        if rate_before <= 0.0 || before.events == 0 || after.events == 0 {
            return None;
        }
        // Variance of the logarithm of a ratio of two shares.
        let variance = |rate: &TaskRate| 1.0 / rate.events as f64 - 1.0 / rate.rows as f64;
        let width = (Z_975 * (variance(before) + variance(after)).max(0.0).sqrt()).exp();
        let ratio = rate_after / rate_before;
        Some(Self {
            task: before.task.clone(),
            before: rate_before,
            after: rate_after,
            ratio_ci95: [ratio / width, ratio * width],
            predicted_before: before.expected()?,
            predicted_after: after.expected()?,
        })
    }

    /// The later rate over the earlier one.
    pub fn ratio(&self) -> f64 {
        self.after / self.before
    }

    /// Whether the rate has changed by more than chance explains.
    pub fn is_beyond_chance(&self) -> bool {
        let [low, high] = self.ratio_ci95;
        low > 1.0 || high < 1.0
    }

    /// What the features say of the change: the later mean prediction over the earlier one.
    pub fn explained(&self) -> f64 {
        self.predicted_after / self.predicted_before
    }

    /// One sentence.
    pub fn described(&self) -> String {
        let task = match self.task.as_str() {
            "ctr" | "cvr" | "ctcvr" => self.task.to_uppercase(),
            other => other.to_owned(),
        };
        let change = |ratio: f64| format!("{:+.1}%", 100.0 * (ratio - 1.0));
        let chance = match (self.is_beyond_chance(), self.ratio() < 1.0) {
            (false, _) => "within chance",
            (true, true) => "it fell",
            (true, false) => "it rose",
        };
        format!(
            "{task} {} in the training rows, {} here ({}, {chance}); from the features alone the model expects {}",
            percent(self.before),
            percent(self.after),
            change(self.ratio()),
            change(self.explained())
        )
    }
}

impl FeatureDrift {
    fn between(before: &FeatureDistribution, after: &FeatureDistribution) -> Option<Self> {
        let (total_before, total_after) = (before.total(), after.total());
        if before.bins != after.bins || total_before <= 0.0 || total_after <= 0.0 {
            return None;
        }
        // Half a value in each bin keeps the logarithm finite.
        let bins = before.bins.len() as f64;
        let share = |weight: f64, total: f64| (weight + 0.5) / (total + 0.5 * bins);
        let pairs = before.weights.iter().zip(&after.weights);
        let index: f64 = pairs
            .clone()
            .map(|(before, after)| {
                let (p, q) = (share(*before, total_before), share(*after, total_after));
                (q - p) * (q / p).ln()
            })
            .sum();
        let filled = pairs.clone().filter(|(before, after)| **before > 0.0 || **after > 0.0).count();
        let moves = pairs.map(|(before, after)| (before / total_before, after / total_after));
        let farthest = moves
            .clone()
            .enumerate()
            .max_by(|(_, left), (_, right)| (left.1 - left.0).abs().total_cmp(&(right.1 - right.0).abs()));
        let (bin, (share_before, share_after)) = farthest?;
        let unknown = before.bins.iter().position(|name| name == UNKNOWN).filter(|_| !before.dense);
        let unknown = unknown.and_then(|place| moves.clone().nth(place));
        Some(Self {
            feature: before.feature.clone(),
            stability_index: index,
            by_chance: filled.saturating_sub(1) as f64 * (1.0 / total_before + 1.0 / total_after),
            bin: before.bins[bin].clone(),
            share_before,
            share_after,
            unknown_before: unknown.map(|shares| shares.0),
            unknown_after: unknown.map(|shares| shares.1),
        })
    }

    /// How far it has moved.
    pub fn moved(&self) -> Moved {
        match self.stability_index {
            index if index < MOVED || index < ABOVE_CHANCE * self.by_chance => Moved::Hardly,
            index if index < FAR => Moved::Some,
            _ => Moved::Far,
        }
    }

    /// The earlier and the later share of missing and new values, where there are notably more.
    pub fn newer(&self) -> Option<(f64, f64)> {
        let (before, after) = (self.unknown_before?, self.unknown_after?);
        (after - before > MANY_NEW).then_some((before, after))
    }

    /// One sentence; `None` of a feature about which there is nothing to say.
    pub fn described(&self) -> Option<String> {
        let Self { feature, .. } = self;
        let moved = match self.moved() {
            Moved::Hardly => None,
            Moved::Some => Some("moved"),
            Moved::Far => Some("moved far"),
        };
        let news = self.newer().map(|(before, after)| {
            format!(
                "{} of the values are missing or new, {} in the training rows",
                percent(after),
                percent(before)
            )
        });
        match (moved, news) {
            (None, None) => None,
            (None, Some(news)) => Some(format!("`{feature}`: {news}")),
            (Some(moved), Some(news)) if self.bin == UNKNOWN => Some(format!("`{feature}` {moved}: {news}")),
            (Some(moved), _) => Some(format!(
                "`{feature}` {moved}: \"{}\" has {} of the values, {} in the training rows",
                self.bin,
                percent(self.share_after),
                percent(self.share_before)
            )),
        }
    }
}

/// A share in percent.
fn percent(share: f64) -> String {
    let value = 100.0 * share;
    let digits = match value {
        _ if value >= 10.0 || value == 0.0 => 1,
        _ if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(name: &str, bins: &[&str], weights: &[f64]) -> FeatureDistribution {
        FeatureDistribution {
            feature: name.to_owned(),
            bins: bins.iter().map(|bin| (*bin).to_owned()).collect(),
            weights: weights.to_vec(),
            ..FeatureDistribution::default()
        }
    }

    fn rate(task: &str, rows: u64, events: u64, predicted: f64) -> TaskRate {
        let (weight, happened) = (rows as f64, events as f64);
        TaskRate { task: task.to_owned(), rows, events, weight, happened, predicted }
    }

    fn period(rates: Vec<TaskRate>, features: Vec<FeatureDistribution>) -> Period {
        Period { rows: 1000, rates, features }
    }

    #[test]
    fn nothing_has_changed() {
        let one = period(
            vec![rate("ctr", 10_000, 2000, 2000.0)],
            vec![feature("device", &[UNKNOWN, "phone", "desk"], &[0.0, 6000.0, 4000.0])],
        );
        let drift = Drift::between(&one, &one);
        assert_eq!(drift.features[0].stability_index, 0.0);
        assert_eq!(drift.features[0].moved(), Moved::Hardly);
        assert!(!drift.rates[0].is_beyond_chance());
        let lines = drift.described();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].contains("CTR 20.0% in the training rows, 20.0% here (+0.0%, within chance)"),
            "{lines:?}"
        );
        assert_eq!(lines[1], "the features are spread as in the training rows");
    }

    /// Shares .5 and .5 that become .2 and .8: (.8 - .5) ln(.8 / .5) + (.2 - .5) ln(.2 / .5).
    #[test]
    fn the_index_has_its_closed_form() {
        let bins = ["phone", "desk"];
        let before = feature("device", &bins, &[5e6, 5e6]);
        let after = feature("device", &bins, &[2e6, 8e6]);
        let found = FeatureDrift::between(&before, &after).unwrap();
        let expected = 0.3 * 1.6_f64.ln() - 0.3 * 0.4_f64.ln();
        assert!((found.stability_index - expected).abs() < 1e-5, "{found:?}");
        assert_eq!((found.moved(), found.share_before, found.share_after), (Moved::Far, 0.5, 0.8));
        let line = found.described().unwrap();
        assert_eq!(line, "`device` moved far: \"desk\" has 80.0% of the values, 50.0% in the training rows");
    }

    /// Few rows are spread unevenly by chance alone.
    #[test]
    fn chance_is_no_drift() {
        let bins = ["a", "b", "c", "d"];
        let before = feature("x", &bins, &[2500.0; 4]);
        let after = feature("x", &bins, &[5.0, 2.0, 1.0, 2.0]);
        let found = FeatureDrift::between(&before, &after).unwrap();
        assert!(found.stability_index > MOVED && found.moved() == Moved::Hardly, "{found:?}");
    }

    #[test]
    fn new_ids_and_rates_that_fell_are_told() {
        let bins = [UNKNOWN, "u1", "all others"];
        let before = period(
            vec![rate("ctr", 10_000, 2000, 2000.0), rate("ctcvr", 10_000, 400, 400.0)],
            vec![
                feature("user", &bins, &[0.0, 5000.0, 5000.0]),
                feature("item", &bins, &[100.0, 5000.0, 4900.0]),
            ],
        );
        let after = period(
            vec![rate("ctr", 10_000, 2010, 2020.0), rate("ctcvr", 10_000, 270, 406.0)],
            vec![
                feature("user", &bins, &[4000.0, 3000.0, 3000.0]),
                feature("item", &bins, &[600.0, 4900.0, 4500.0]),
            ],
        );
        let drift = Drift::between(&before, &after);
        assert_eq!(drift.features[0].feature, "user", "the farthest first");
        let lines = drift.described();
        assert!(lines[0].contains("(+0.5%, within chance)"), "{lines:?}");
        assert!(
            lines[1].starts_with("CTCVR 4.00% in the training rows, 2.70% here (-32.5%, it fell)"),
            "{lines:?}"
        );
        assert!(lines[1].ends_with("the model expects +1.5%"), "{lines:?}");
        assert!(
            lines[2].starts_with("`user` moved far: 40.0% of the values are missing or new, 0.0%"),
            "{lines:?}"
        );
        assert_eq!(lines[3], "`item`: 6.00% of the values are missing or new, 1.00% in the training rows");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn what_cannot_be_compared_is_left_out() {
        let before = period(
            vec![rate("ctr", 100, 0, 1.0), rate("old", 100, 10, 1.0)],
            vec![
                feature("x", &["a"], &[1.0]),
                feature("y", &["a"], &[0.0]),
                feature("z", &["a", "b"], &[1.0, 2.0]),
            ],
        );
        let after = period(
            vec![rate("ctr", 100, 5, 1.0)],
            vec![feature("y", &["a"], &[1.0]), feature("z", &["b", "a"], &[1.0, 2.0])],
        );
        let drift = Drift::between(&before, &after);
        assert!(drift.rates.is_empty() && drift.features.is_empty(), "{drift:?}");
    }
}
