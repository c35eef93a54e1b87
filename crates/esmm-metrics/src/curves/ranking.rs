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

/// Rows sorted by score. Takes 4 bytes a row.
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
    link: Link,
}

/// Rows of equal score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tie {
    pub(super) score: f32,
    pub(super) positives: u64,
    pub(super) negatives: u64,
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
        Ok(Self { keys, negatives: front, link })
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

    /// How the scores become probabilities.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Rows of equal score, lowest first.
    pub(super) fn ascending(&self) -> impl DoubleEndedIterator<Item = Tie> {
        let (negatives, positives) = self.keys.split_at(self.negatives);
        Ties { negatives, positives }
    }

    /// Rows of equal score, highest first.
    pub(super) fn descending(&self) -> impl Iterator<Item = Tie> {
        self.ascending().rev()
    }
}

/// What is left of two rising lists of keys.
struct Ties<'a> {
    negatives: &'a [u32],
    positives: &'a [u32],
}

impl Iterator for Ties<'_> {
    type Item = Tie;

    fn next(&mut self) -> Option<Tie> {
        let lowest = match (self.positives.first(), self.negatives.first()) {
            (Some(positive), Some(negative)) => *positive.min(negative),
            (one, other) => *one.or(other)?,
        };
        let take = |keys: &mut &[u32]| {
            let count = keys.iter().take_while(|key| **key == lowest).count();
            *keys = &keys[count..];
            count as u64
        };
        let positives = take(&mut self.positives);
        let negatives = take(&mut self.negatives);
        Some(Tie { score: score(lowest), positives, negatives })
    }
}

impl DoubleEndedIterator for Ties<'_> {
    fn next_back(&mut self) -> Option<Tie> {
        let highest = match (self.positives.last(), self.negatives.last()) {
            (Some(positive), Some(negative)) => *positive.max(negative),
            (one, other) => *one.or(other)?,
        };
        let take = |keys: &mut &[u32]| {
            let count = keys.iter().rev().take_while(|key| **key == highest).count();
            *keys = &keys[..keys.len() - count];
            count as u64
        };
        let positives = take(&mut self.positives);
        let negatives = take(&mut self.negatives);
        Some(Tie { score: score(highest), positives, negatives })
    }
}

impl Tie {
    pub(super) fn rows(self) -> u64 {
        self.positives + self.negatives
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
