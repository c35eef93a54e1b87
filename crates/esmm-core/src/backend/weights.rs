//! How the weights of the towers change: every value of a tensor, by its gradient.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// How a weight changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WeightRule {
    /// `v = momentum * v + g`, `w -= lr * v`; without momentum `w -= lr * g`.
    Sgd {
        /// Decay of the velocity; 0 keeps none.
        momentum: f64,
    },
    /// Adam, as `torch.optim.Adam`: epsilon is added after the bias correction.
    Adam {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the corrected second moment.
        epsilon: f64,
        /// Number of this step, from 1.
        step: u64,
    },
}

/// An update of a weight: rule, learning rate and penalties.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightUpdate {
    /// The rule.
    pub rule: WeightRule,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// `g += l2 * w`.
    pub l2: f64,
    /// `w -= lr * decay * w`, apart from the gradient (AdamW).
    pub decay: f64,
}

/// A weight of any shape with its optimizer state.
#[derive(Debug, Clone)]
pub struct WeightState<B: Backend> {
    /// The weight.
    pub weight: FloatTensor<B>,
    /// What the rule keeps, in the shape of the weight: nothing, the velocity, or the two moments of Adam.
    pub moments: Vec<FloatTensor<B>>,
}

impl WeightRule {
    /// Number of tensors that the rule keeps.
    pub fn num_moments(&self) -> usize {
        match *self {
            Self::Sgd { momentum } => usize::from(momentum != 0.0),
            Self::Adam { .. } => 2,
        }
    }
}
