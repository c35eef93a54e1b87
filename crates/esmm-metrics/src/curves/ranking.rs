//! The measured rows of a task in the order of their scores.

use super::super::auc::key;
use super::super::undefined::Undefined;

/// How a score becomes a probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The score is a logit.
    Logit,
    /// The score is a log-probability.
    Log,
}

/// Rows sorted by score. Takes 4 bytes a row, 8 where rows have weights.
///
/// # Examples
/// ```
/// use esmm_metrics::{Link, Ranking};
///
/// let scores = [-2.0, -1.0, 1.0, 2.0]; // logits
/// let ranking = Ranking::new(&scores, &[false, true, false, true], Link::Logit)?;
/// let bins = ranking.reliability(2); // the lower half and the upper half
/// assert_eq!((bins[0].rows, bins[0].positives), (2, 1));
/// assert_eq!(ranking.roc(100)?.last(), Some(&[1.0, 1.0]));
/// # Ok::<(), esmm_metrics::Undefined>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Keys of the negative rows, then those of the positive ones, each part rising.
    keys: Vec<u32>,
    negatives: usize,
    /// The weight of each row, in the order of the keys; `None` where each counts once.
    weights: Option<Vec<f32>>,
    positive_weight: f64,
    negative_weight: f64,
    link: Link,
}

/// Rows of equal score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tie {
    pub(super) score: f32,
    pub(super) positives: u64,
    pub(super) negatives: u64,
    /// What the positive rows weigh: their number where rows have no weights.
    pub(super) positive_weight: f64,
    /// What the negative rows weigh.
    pub(super) negative_weight: f64,
    /// Sum of the squared weights of all of them.
    pub(super) squared_weights: f64,
}

impl Link {
    /// The probability that a score stands for, in f64.
    pub fn probability(self, score: f32) -> f64 {
        let score = f64::from(score);
        match self {
            Self::Logit if score >= 0.0 => 1.0 / (1.0 + (-score).exp()),
            Self::Logit => score.exp() / (1.0 + score.exp()),
            Self::Log => score.exp(),
        }
    }

    /// The logit of that probability; infinite for 0 and 1.
    pub fn logit(self, score: f32) -> f64 {
        let score = f64::from(score);
        match self {
            Self::Logit => score,
            Self::Log => score - (-score.exp_m1()).max(0.0).ln(),
        }
    }
}

impl Ranking {
    /// Ranks `scores` (infinities allowed) with their labels (true is positive).
    ///
    /// # Errors
    /// A score that is NaN.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn new(scores: &[f32], labels: &[bool], link: Link) -> Result<Self, Undefined> {
        assert_eq!(scores.len(), labels.len(), "{} scores and {} labels", scores.len(), labels.len());
        Self::of(scores.len(), scores.iter().copied().zip(labels.iter().copied()), link)
    }

    /// The same of rows that each count as `weights` rows, finite and not negative: curves are those of as many copies,
    /// intervals those of the effective size.
    ///
    /// # Errors
    /// As [`Ranking::new`].
    ///
    /// # Panics
    /// When the lengths differ.
    ///
    /// # Examples
    /// ```
    /// use esmm_metrics::{Link, Ranking};
    ///
    /// // Of four impressions without a click one was kept: it stands for four.
    /// let ranking = Ranking::weighted(&[1.0, 0.0], &[true, false], &[1.0, 4.0], Link::Logit)?;
    /// assert_eq!(ranking.reliability(1)[0].observed, 0.2);
    /// # Ok::<(), esmm_metrics::Undefined>(())
    /// ```
    pub fn weighted(scores: &[f32], labels: &[bool], weights: &[f32], link: Link) -> Result<Self, Undefined> {
        let lengths = [scores.len(), labels.len(), weights.len()];
        assert_eq!(lengths, [labels.len(); 3], "scores, labels and weights have {lengths:?} rows");
        let rows = scores.iter().zip(labels).zip(weights);
        Self::of_weighted(rows.map(|((score, positive), weight)| (*score, *positive, *weight)), link)
    }

    /// Ranks pairs (score, is positive), which are `count`.
    ///
    /// # Errors
    /// As [`Ranking::new`].
    pub(crate) fn of(
        count: usize,
        rows: impl Iterator<Item = (f32, bool)>,
        link: Link,
    ) -> Result<Self, Undefined> {
        let mut keys = vec![0; count];
        let mut front = 0;
        let mut back = count;
        for (row, (score, positive)) in rows.enumerate() {
            let key = key(score).ok_or(Undefined::NotANumber { row: row as u64 })?;
            if positive {
                back -= 1;
                keys[back] = key;
            } else {
                keys[front] = key;
                front += 1;
            }
        }
        keys[..front].sort_unstable();
        keys[front..].sort_unstable();
        Ok(Self {
            negatives: front,
            weights: None,
            positive_weight: (count - front) as f64,
            negative_weight: front as f64,
            keys,
            link,
        })
    }

    /// Ranks (score, is positive, weight).
    ///
    /// # Errors
    /// As [`Ranking::new`].
    pub(crate) fn of_weighted(
        rows: impl Iterator<Item = (f32, bool, f32)>,
        link: Link,
    ) -> Result<Self, Undefined> {
        let mut positives = Vec::new();
        let mut negatives = Vec::new();
        for (row, (score, positive, weight)) in rows.enumerate() {
            let key = key(score).ok_or(Undefined::NotANumber { row: row as u64 })?;
            if positive { positives.push((key, weight)) } else { negatives.push((key, weight)) }
        }
        // By weight as well, so that sums do not depend on the order of the rows.
        let order =
            |left: &(u32, f32), right: &(u32, f32)| left.0.cmp(&right.0).then(left.1.total_cmp(&right.1));
        positives.sort_unstable_by(order);
        negatives.sort_unstable_by(order);
        let all = || negatives.iter().chain(&positives);
        let mut ranking = Self {
            keys: all().map(|row| row.0).collect(),
            negatives: negatives.len(),
            weights: Some(all().map(|row| row.1).collect()),
            positive_weight: 0.0,
            negative_weight: 0.0,
            link,
        };
        // Summed as the curves sum, so that these end at exactly 1.
        let mut totals = [0.0, 0.0];
        for tie in ranking.descending() {
            totals[0] += tie.positive_weight;
            totals[1] += tie.negative_weight;
        }
        [ranking.positive_weight, ranking.negative_weight] = totals;
        Ok(ranking)
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Number of positive rows.
    pub fn positives(&self) -> u64 {
        (self.keys.len() - self.negatives) as u64
    }

    /// Number of negative rows.
    pub fn negatives(&self) -> u64 {
        self.negatives as u64
    }

    /// Whether rows have weights.
    pub fn is_weighted(&self) -> bool {
        self.weights.is_some()
    }

    /// What the positive rows weigh: their number where rows have no weights.
    pub fn positive_weight(&self) -> f64 {
        self.positive_weight
    }

    /// What the negative rows weigh: their number where rows have no weights.
    pub fn negative_weight(&self) -> f64 {
        self.negative_weight
    }

    /// How the scores become probabilities.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Rows of equal score, lowest first.
    pub(super) fn ascending(&self) -> impl DoubleEndedIterator<Item = Tie> {
        let (negatives, positives) = self.keys.split_at(self.negatives);
        let weights = self.weights.as_deref().map(|weights| weights.split_at(self.negatives));
        Ties {
            negatives: Class { keys: negatives, weights: weights.map(|(negatives, _)| negatives) },
            positives: Class { keys: positives, weights: weights.map(|(_, positives)| positives) },
        }
    }

    /// Rows of equal score, highest first.
    pub(super) fn descending(&self) -> impl Iterator<Item = Tie> {
        self.ascending().rev()
    }
}

/// What is left of the rows of both classes.
struct Ties<'a> {
    negatives: Class<'a>,
    positives: Class<'a>,
}

/// Rising keys of one class with their weights.
struct Class<'a> {
    keys: &'a [u32],
    weights: Option<&'a [f32]>,
}

/// Rows of one class that are taken together.
struct Taken {
    rows: u64,
    weight: f64,
    squares: f64,
}

impl Class<'_> {
    /// Takes the rows with this key, which is the lowest.
    fn take_lowest(&mut self, key: u32) -> Taken {
        let count = self.keys.iter().take_while(|other| **other == key).count();
        self.keys = &self.keys[count..];
        let (taken, rest) = self.weights.map(|weights| weights.split_at(count)).unzip();
        self.weights = rest;
        Taken::of(count, taken)
    }

    /// Takes the rows with this key, which is the highest.
    fn take_highest(&mut self, key: u32) -> Taken {
        let count = self.keys.iter().rev().take_while(|other| **other == key).count();
        let left = self.keys.len() - count;
        self.keys = &self.keys[..left];
        let (rest, taken) = self.weights.map(|weights| weights.split_at(left)).unzip();
        self.weights = rest;
        Taken::of(count, taken)
    }
}

impl Taken {
    fn of(rows: usize, weights: Option<&[f32]>) -> Self {
        let Some(weights) = weights else {
            return Self { rows: rows as u64, weight: rows as f64, squares: rows as f64 };
        };
        let weights = weights.iter().map(|weight| f64::from(*weight));
        Self {
            rows: rows as u64,
            weight: weights.clone().sum(),
            squares: weights.map(|weight| weight * weight).sum(),
        }
    }
}

impl Iterator for Ties<'_> {
    type Item = Tie;

    fn next(&mut self) -> Option<Tie> {
        let lowest = match (self.positives.keys.first(), self.negatives.keys.first()) {
            (Some(positive), Some(negative)) => *positive.min(negative),
            (one, other) => *one.or(other)?,
        };
        Some(Tie::of(lowest, self.positives.take_lowest(lowest), self.negatives.take_lowest(lowest)))
    }
}

impl DoubleEndedIterator for Ties<'_> {
    fn next_back(&mut self) -> Option<Tie> {
        let highest = match (self.positives.keys.last(), self.negatives.keys.last()) {
            (Some(positive), Some(negative)) => *positive.max(negative),
            (one, other) => *one.or(other)?,
        };
        Some(Tie::of(highest, self.positives.take_highest(highest), self.negatives.take_highest(highest)))
    }
}

impl Tie {
    fn of(key: u32, positives: Taken, negatives: Taken) -> Self {
        Self {
            score: score(key),
            positives: positives.rows,
            negatives: negatives.rows,
            positive_weight: positives.weight,
            negative_weight: negatives.weight,
            squared_weights: positives.squares + negatives.squares,
        }
    }

    /// What all of its rows weigh.
    pub(super) fn weight(self) -> f64 {
        self.positive_weight + self.negative_weight
    }
}

/// The score that a key was made of, but that 0 has no sign.
fn score(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
mod tests {
    use super::{Link, Ranking, Undefined};

    #[test]
    fn scores_come_back_in_order() {
        let scores = [0.0, -3.5, f32::INFINITY, 2.0, -0.0, f32::NEG_INFINITY, 1e-40, 2.0];
        let ranking = Ranking::new(&scores, &[true; 8], Link::Logit).unwrap();
        let found: Vec<(f32, u64)> = ranking.ascending().map(|tie| (tie.score, tie.positives)).collect();
        let infinity = f32::INFINITY;
        let expected = [(-infinity, 1), (-3.5, 1), (0.0, 2), (1e-40, 1), (2.0, 2), (infinity, 1)];
        assert_eq!(found, expected);
        let mut backwards: Vec<f32> = ranking.descending().map(|tie| tie.score).collect();
        backwards.reverse();
        assert_eq!(backwards, expected.map(|(score, _)| score));
        let error = Ranking::new(&[1.0, f32::NAN], &[true; 2], Link::Logit).unwrap_err();
        assert_eq!(error, Undefined::NotANumber { row: 1 });
    }

    #[test]
    fn links_agree_on_probabilities_and_logits() {
        for logit in [-60.0_f32, -8.0, -1.0, 0.0, 2.0, 9.0] {
            let p = 1.0 / (1.0 + f64::from(-logit).exp());
            assert!((Link::Logit.probability(logit) - p).abs() <= 1e-15 * p);
            let log_p = p.ln() as f32;
            assert!((Link::Log.probability(log_p) / p - 1.0).abs() < 1e-5, "{logit}");
            // Near p = 1 the f32 logarithm has few digits of 1 - p left.
            let tolerance = 1e-5 + 1e-7 * f64::from(logit).exp();
            assert!((Link::Log.logit(log_p) - f64::from(logit)).abs() < tolerance.max(1e-5), "{logit}");
        }
        assert_eq!(Link::Log.logit(0.0), f64::INFINITY);
        assert_eq!(Link::Log.logit(f32::NEG_INFINITY), f64::NEG_INFINITY);
        assert_eq!(Link::Logit.probability(f32::NEG_INFINITY), 0.0);
    }
}
