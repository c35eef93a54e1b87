//! How touched rows of a table change: the rules of the tables' optimizer, and their constants.

use serde::{Deserialize, Serialize};

use super::operands::Operands;

/// A rule of the tables' optimizer.
///
/// # Examples
/// ```
/// use esmm_core::TableRule;
///
/// // What lazy Adam keeps beside a table of width 16: two moments of each value.
/// let rule = TableRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 };
/// assert_eq!(rule.widths(16), [16, 16]);
/// assert_eq!(TableRule::Adagrad { epsilon: 1e-8 }.widths(16), [1]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "optimizer", rename_all = "snake_case")]
pub enum TableRule {
    /// Adam on the rows that have a gradient, as `torch.optim.SparseAdam`: moments of untouched rows stay, the bias
    /// correction counts all steps.
    LazyAdam {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
    },
    /// The same with one second moment a row, that of `mean(g^2)`, as FBGEMM's `PARTIAL_ROWWISE_ADAM`: two tables of
    /// memory where lazy Adam takes three.
    RowWiseAdam {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
    },
    /// One accumulator a row, as FBGEMM's `EXACT_ROWWISE_ADAGRAD`: `s += mean(g^2)`,
    /// `w -= lr * g / (sqrt(s) + epsilon)`.
    Adagrad {
        /// Added to the root of the accumulator: keeps the first steps finite.
        epsilon: f64,
    },
    /// Stochastic gradient descent: `w -= lr * g`.
    Sgd,
}

/// A step of a table rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowUpdate {
    /// The rule.
    pub rule: TableRule,
    /// Number of this step, from 1.
    pub step: u64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// `g += l2 * w` on touched rows only.
    pub l2: f64,
}

/// A tensor with the state of its optimizer.
#[derive(Debug, Clone)]
pub struct WithMoments<T> {
    /// A table, `[R, D]`, or a weight of any shape.
    pub tensor: T,
    /// What the rule keeps: for tables [`TableRule::widths`], for weights tensors of the weight's shape.
    pub moments: Vec<T>,
}

impl TableRule {
    /// Every rule with the constants that are usual: what a list of choices, and a test that must know all of them, goes
    /// through.
    pub const ALL: [Self; 4] = [
        Self::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 },
        Self::RowWiseAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 },
        Self::Adagrad { epsilon: 1e-8 },
        Self::Sgd,
    ];

    /// Its name in configurations.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LazyAdam { .. } => "lazy_adam",
            Self::RowWiseAdam { .. } => "row_wise_adam",
            Self::Adagrad { .. } => "adagrad",
            Self::Sgd => "sgd",
        }
    }

    /// What it is and what it costs, in a sentence for the person who chooses one.
    pub const fn summary(&self) -> &'static str {
        match self {
            Self::LazyAdam { .. } => "Adam; its moments take two tables.",
            Self::RowWiseAdam { .. } => "Adam with one second moment a row: one table and a value a row.",
            Self::Adagrad { .. } => "Row-wise Adagrad: one sum of squares a row.",
            Self::Sgd => "SGD.",
        }
    }

    /// The rule with other constants. A rule without decays, or without an epsilon, leaves them out.
    #[must_use]
    pub fn with_constants(self, [beta_1, beta_2]: [f64; 2], epsilon: f64) -> Self {
        match self {
            Self::LazyAdam { .. } => Self::LazyAdam { beta_1, beta_2, epsilon },
            Self::RowWiseAdam { .. } => Self::RowWiseAdam { beta_1, beta_2, epsilon },
            Self::Adagrad { .. } => Self::Adagrad { epsilon },
            Self::Sgd => Self::Sgd,
        }
    }

    /// The decays of the first and of the second moment, where it has both.
    pub fn decays(&self) -> Option<[f64; 2]> {
        match *self {
            Self::LazyAdam { beta_1, beta_2, .. } | Self::RowWiseAdam { beta_1, beta_2, .. } => {
                Some([beta_1, beta_2])
            }
            Self::Adagrad { .. } | Self::Sgd => None,
        }
    }

    /// Widths of the tensors that the rule keeps beside a table of width `dim`; each has a row for each of the table's.
    pub fn widths(&self, dim: usize) -> Vec<usize> {
        match self {
            Self::LazyAdam { .. } => vec![dim, dim],
            Self::RowWiseAdam { .. } => vec![dim, 1],
            Self::Adagrad { .. } => vec![1],
            Self::Sgd => vec![],
        }
    }
}

/// What the moments of Adam, which begin at 0, multiply the learning rate with at a step (from 1).
pub(crate) fn bias_correction(beta_1: f64, beta_2: f64, step: u64) -> f64 {
    let steps = step as f64;
    (1.0 - beta_2.powf(steps)).sqrt() / (1.0 - beta_1.powf(steps))
}

impl<T> WithMoments<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> WithMoments<U> {
        WithMoments { tensor: change(self.tensor), moments: self.moments.into_iter().map(change).collect() }
    }
}

impl<T> Operands<T> for WithMoments<T> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        see(&self.tensor);
        self.moments.iter().for_each(see);
    }
}

#[cfg(test)]
mod tests {
    use super::TableRule;

    /// A new rule must stand in the list that tests go through: this match does not compile without it.
    #[test]
    fn all_rules_are_listed() {
        let place = |rule: &TableRule| match rule {
            TableRule::LazyAdam { .. } => 0,
            TableRule::RowWiseAdam { .. } => 1,
            TableRule::Adagrad { .. } => 2,
            TableRule::Sgd => 3,
        };
        assert!(TableRule::ALL.iter().map(place).eq(0..4));
    }

    /// Saved configurations have the name that run files have.
    #[test]
    fn a_rule_is_saved_under_its_name() {
        for rule in TableRule::ALL {
            let saved = serde_json::to_value(rule).unwrap();
            assert_eq!(saved["optimizer"], rule.name());
        }
    }

    #[test]
    fn constants_are_those_that_were_given() {
        for rule in TableRule::ALL {
            let other = rule.with_constants([0.5, 0.25], 1e-3);
            assert_eq!(other.name(), rule.name());
            assert!(other.decays().is_none_or(|decays| decays == [0.5, 0.25]), "{other:?}");
            assert_eq!(rule.with_constants(rule.decays().unwrap_or([0.9, 0.999]), 1e-8), rule);
        }
    }
}
