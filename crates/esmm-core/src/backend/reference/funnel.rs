//! The loss of the funnel, forward and backward in closed form, and its probabilities.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::{float, primitive};

pub(super) fn loss<B: Backend>(logits: FloatTensor<B>, reached: FloatTensor<B>) -> FloatTensor<B> {
    let reached = float::<B, 2>(reached);
    let logs = crate::funnel::reach_logs(float::<B, 2>(logits));
    let missed = reached.clone().neg() + 1.0;
    let losses = (reached * logs.log_reach + missed * logs.log_not_reach).neg().mean_dim(0);
    primitive(losses.squeeze_dim::<1>(0))
}

pub(super) fn logs<B: Backend>(logits: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    let logs = crate::funnel::reach_logs(float::<B, 2>(logits));
    [primitive(logs.log_reach), primitive(logs.log_not_reach)]
}

pub(super) fn probs<B: Backend>(logits: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    let logits = float::<B, 2>(logits);
    let rows = logits.dims()[0];
    let log = |stage: usize| {
        let logit: Tensor<B, 1> = logits.clone().slice([0..rows, stage..stage + 1]).reshape([-1]);
        crate::funnel::log_sigmoid(logit)
    };
    let ctr = log(0);
    let cvr = log(1);
    [ctr.clone().exp(), cvr.clone().exp(), (ctr + cvr).exp()].map(primitive)
}

pub(super) fn loss_backward<B: Backend>(
    logits: FloatTensor<B>,
    reached: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let (logits, reached) = (float::<B, 2>(logits), float::<B, 2>(reached));
    let grad = float::<B, 1>(grad).unsqueeze::<2>();
    let [rows, stages] = logits.dims();
    let logs = crate::funnel::reach_logs(logits.clone());
    let log_fail = crate::funnel::log_sigmoid(logits.neg());
    // d loss_k / d l_j for j <= k, times s(-l_j): -1 where the stage was reached, P_k / (1 - P_k) where not. The
    // quotient and s(-l_j) are joined in log space: each alone may leave the range of f32.
    let log_odds = logs.log_reach - logs.log_not_reach;
    let columns = (0..stages).map(|j| {
        let tasks = stages - j;
        let at = |x: &Tensor<B, 2>| x.clone().slice([0..x.dims()[0], j..stages]);
        let log_fail = log_fail.clone().slice([0..rows, j..j + 1]);
        let missed = (at(&log_odds) + log_fail.clone()).exp() * (at(&reached).neg() + 1.0);
        let hit = log_fail.exp().expand([rows, tasks]) * at(&reached);
        ((missed - hit) * at(&grad)).sum_dim(1)
    });
    primitive(Tensor::cat(columns.collect(), 1) / rows as f64)
}
