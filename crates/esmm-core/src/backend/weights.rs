//! How the weights of the towers change: every value of a tensor, by its gradient.

use super::operands::Operands;
use super::rows::WithMoments;

/// A rule of the towers' optimizer.
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
    },
}

/// A step of a weight rule, with its penalties.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightUpdate {
    /// The rule.
    pub rule: WeightRule,
    /// Number of this step, from 1.
    pub step: u64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// `g += l2 * w`.
    pub l2: f64,
    /// `w -= lr * decay * w`, apart from the gradient (AdamW).
    pub decay: f64,
}

/// A weight with its moments, and its gradient: all of one shape.
#[derive(Debug, Clone)]
pub struct WithGrad<T> {
    /// The weight, and what the rule keeps for it.
    pub weight: WithMoments<T>,
    /// Its gradient.
    pub grad: T,
}

impl<T> WithGrad<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> WithGrad<U> {
        WithGrad { weight: self.weight.map(&mut change), grad: change(self.grad) }
    }
}

impl<T> Operands<T> for Vec<WithGrad<T>> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        for weight in self {
            weight.weight.each(see);
            see(&weight.grad);
        }
    }
}

impl WeightRule {
    /// An example of every rule, SGD with momentum and without.
    pub const ALL: [Self; 3] = [
        Self::Sgd { momentum: 0.0 },
        Self::Sgd { momentum: 0.8 },
        Self::Adam { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-3 },
    ];

    /// Number of tensors that the rule keeps, each in the shape of the weight.
    pub fn num_moments(&self) -> usize {
        match *self {
            Self::Sgd { momentum } => usize::from(momentum != 0.0),
            Self::Adam { .. } => 2,
        }
    }
}
