//! The funnel of arXiv 1804.07931: an impression is clicked, a click converts. Composed in log space.
//!
//! With conditional logits l_1..l_K and s = sigmoid, P_k is the probability that an impression reaches stage k:
//! `P_k = s(l_1) * ... * s(l_k)`, eq. 1 of the paper for K = 2, where P_1 = pCTR, s(l_2) = pCVR and P_2 = pCTCVR.
//!
//! * `log P_k = log P_(k-1) + log s(l_k)`.
//! * `1 - P_k = (1 - P_(k-1)) + P_(k-1) s(-l_k)`: terms of one sign, so nothing cancels.
//! * `log(1 - P_k)` is `log1p(-P_k)` where P_k < 1/2 and the logarithm of that sum elsewhere.
//!
//! No clamp and no epsilon: exact at conversion rates of 2e-4 and finite at logits of +-90.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive, backend::Backend};

use crate::backend::{EsmmBackend, Kernels};

/// What the towers say about a batch: one conditional logit a stage.
///
/// # Examples
/// ```
/// use burn::tensor::Tensor;
/// use burn_ndarray::NdArray;
/// use esmm_core::FunnelLogits;
///
/// // One impression: logit 0 of a click, logit ln 3 of a conversion given the click.
/// let conditional = Tensor::<NdArray, 2>::from_floats([[0.0, 3.0_f32.ln()]], &Default::default());
/// let probs = FunnelLogits { conditional }.probs();
/// let ctcvr: f32 = probs.ctcvr.into_scalar();
/// assert!((ctcvr - 0.5 * 0.75).abs() < 1e-6);
/// ```
#[derive(Debug, Clone)]
pub struct FunnelLogits<B: Backend> {
    /// Column k is the logit of reaching stage k + 1 given stage k, `[B, K]`.
    pub conditional: Tensor<B, 2>,
}

/// Log-probabilities of all stages.
#[derive(Debug, Clone)]
pub struct ReachLogs<B: Backend> {
    /// `log P_k`, `[B, K]`.
    pub log_reach: Tensor<B, 2>,
    /// `log(1 - P_k)`, `[B, K]`.
    pub log_not_reach: Tensor<B, 2>,
}

/// The three probabilities of the paper, `[B]` each, in `[0, 1]`.
#[derive(Debug, Clone)]
pub struct FunnelProbs<B: Backend> {
    /// p(click | impression).
    pub ctr: Tensor<B, 1>,
    /// p(conversion | click), for every impression.
    pub cvr: Tensor<B, 1>,
    /// p(click and conversion | impression) = pCTR * pCVR, eq. 1 of arXiv 1804.07931.
    pub ctcvr: Tensor<B, 1>,
}

impl<B: Backend> FunnelLogits<B> {
    /// Number of stages, K.
    pub fn stages(&self) -> usize {
        self.conditional.dims()[1]
    }

    /// Logit of stage `stage` (from 0) given the one before, `[B]`.
    ///
    /// # Panics
    /// When there is no such stage.
    pub fn logit(&self, stage: usize) -> Tensor<B, 1> {
        let [rows, stages] = self.conditional.dims();
        assert!(stage < stages, "stage {stage} of a funnel of {stages}");
        self.conditional.clone().slice([0..rows, stage..stage + 1]).reshape([-1])
    }

    /// Logit of pCTR, `[B]`.
    pub fn ctr_logit(&self) -> Tensor<B, 1> {
        self.logit(0)
    }

    /// Logit of pCVR, `[B]`.
    pub fn cvr_logit(&self) -> Tensor<B, 1> {
        self.logit(1)
    }
}

impl<B: EsmmBackend> FunnelLogits<B> {
    /// `log P_k` and `log(1 - P_k)` of every stage. Both have gradients: what losses of your own are made of.
    pub fn reach_logs(&self) -> ReachLogs<B> {
        let [log_reach, log_not_reach] = B::Kernels::funnel_logs(self.primitive()).map(float);
        ReachLogs { log_reach, log_not_reach }
    }

    /// `P_k` of every stage, `[B, K]`, in `[0, 1]`: what `esmm predict` writes.
    pub fn reach_probs(&self) -> Tensor<B, 2> {
        self.reach_logs().log_reach.exp()
    }

    /// pCTR, pCVR and pCTCVR: the first two stages, computed without the logarithms of all stages. They are those of
    /// [`reach_probs`](Self::reach_probs) but for rounding.
    ///
    /// # Panics
    /// On a backend with autodiff, in a backward pass from them: [`reach_logs`](Self::reach_logs) has gradients.
    pub fn probs(&self) -> FunnelProbs<B> {
        let [ctr, cvr, ctcvr] = B::Kernels::funnel_probs(self.primitive()).map(float);
        FunnelProbs { ctr, cvr, ctcvr }
    }

    /// Mean cross-entropy of reaching each stage, `[K]`: the terms of eq. 3 of arXiv 1804.07931, each over all
    /// impressions.
    ///
    /// # Shapes
    /// `reached`: `[B, K]`, 1 where the impression reached the stage, 0 where not.
    ///
    /// # Panics
    /// When the shapes differ.
    pub fn losses(&self, reached: Tensor<B, 2>) -> Tensor<B, 1> {
        let logits = self.conditional.dims();
        let labels = reached.dims();
        assert_eq!(logits, labels, "logits {logits:?} and labels {labels:?} must have one shape");
        float(B::Kernels::funnel_loss(self.primitive(), reached.into_primitive().tensor()))
    }

    fn primitive(&self) -> FloatTensor<B> {
        self.conditional.clone().into_primitive().tensor()
    }
}

fn float<B: Backend, const D: usize>(tensor: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// `log s(x)`, without overflow: `min(x, 0) - log1p(exp(-|x|))`.
pub(crate) fn log_sigmoid<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    x.clone().clamp_max(0.0) - negative_abs(x).exp().log1p()
}

/// `-|x|`. Not `x.abs().neg()`: on a transposed tensor of 32 values and more, as the logits are, `abs` of burn-ndarray
/// 0.21 puts the values in another order (<https://github.com/tracel-ai/burn/issues/5552>).
fn negative_abs<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    x.clone().min_pair(x.neg())
}

pub(crate) fn reach_logs<B: Backend>(conditional: Tensor<B, 2>) -> ReachLogs<B> {
    let [rows, stages] = conditional.dims();
    let log_pass = log_sigmoid(conditional.clone());
    let log_fail = log_sigmoid(conditional.neg());
    let column = |x: &Tensor<B, 2>, k: usize| x.clone().slice([0..rows, k..k + 1]);
    let mut reach = vec![column(&log_pass, 0)];
    let mut missed = vec![column(&log_fail, 0)];
    for k in 1..stages {
        let fails_here = reach[k - 1].clone() + column(&log_fail, k);
        missed.push(log_add_exp(missed[k - 1].clone(), fails_here));
        reach.push(reach[k - 1].clone() + column(&log_pass, k));
    }
    let log_reach = Tensor::cat(reach, 1);
    let log_missed = Tensor::cat(missed, 1);
    let small = log_reach.clone().clamp_max(-std::f64::consts::LN_2).exp().neg().log1p();
    let is_small = log_reach.clone().lower_elem(-std::f64::consts::LN_2);
    ReachLogs { log_not_reach: log_missed.mask_where(is_small, small), log_reach }
}

/// Gradient of `log P_k` with respect to the logits: `d log P_k / d l_j = s(-l_j)` for j <= k. `grads` is that of
/// `log P_k`, `[B, K]`.
pub(crate) fn log_reach_backward<B: Backend>(conditional: Tensor<B, 2>, grads: Tensor<B, 2>) -> Tensor<B, 2> {
    let [rows, stages] = conditional.dims();
    let fails = log_sigmoid(conditional.neg()).exp();
    let later = |j: usize| grads.clone().slice([0..rows, j..stages]).sum_dim(1);
    Tensor::cat((0..stages).map(later).collect(), 1) * fails
}

/// Gradient of `log(1 - P_k)` with respect to the logits: `d log(1 - P_k) / d l_j = -s(-l_j) P_k / (1 - P_k)` for
/// j <= k. The quotient and `s(-l_j)` are joined in log space: each alone may leave the range of f32.
pub(crate) fn log_not_reach_backward<B: Backend>(
    conditional: Tensor<B, 2>,
    logs: ReachLogs<B>,
    grads: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let [rows, stages] = conditional.dims();
    let log_odds = logs.log_reach - logs.log_not_reach;
    let log_fail = log_sigmoid(conditional.neg());
    let columns = (0..stages).map(|j| {
        let later = |x: &Tensor<B, 2>| x.clone().slice([0..rows, j..stages]);
        let log_fail = log_fail.clone().slice([0..rows, j..j + 1]);
        ((later(&log_odds) + log_fail).exp() * later(&grads)).sum_dim(1).neg()
    });
    Tensor::cat(columns.collect(), 1)
}

/// `log(exp(x) + exp(y))`.
fn log_add_exp<B: Backend>(x: Tensor<B, 2>, y: Tensor<B, 2>) -> Tensor<B, 2> {
    let difference = negative_abs(x.clone() - y.clone());
    x.max_pair(y) + difference.exp().log1p()
}
