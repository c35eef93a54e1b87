//! The loss of the funnel, its gradient and its probabilities, row by row: the formulas are those of `funnel.rs` in the crate's root.

use std::f32::consts::LN_2;

use super::tasks;

/// Rows of a task; part of the order of summation. A row takes some 50 ns.
const ROWS: usize = 128;

/// Mean cross-entropy of each stage, `[K]`.
pub(super) fn loss(logits: &[f32], reached: &[f32], stages: usize) -> Vec<f32> {
    let rows = (logits.len() / stages) as f64;
    let tasks = logits.chunks(ROWS * stages).zip(reached.chunks(ROWS * stages)).collect();
    let sums = tasks::map("loss", tasks, |(logits, reached)| sum_losses(logits, reached, stages));
    let total = |stage: usize| sums.iter().map(|sums| sums[stage]).sum::<f64>();
    (0..stages).map(|stage| (total(stage) / rows) as f32).collect()
}

/// Gradient with respect to the logits, `[B, K]`; `grad [K]` is that of the losses.
pub(super) fn loss_backward(logits: &[f32], reached: &[f32], grad: &[f32]) -> Vec<f32> {
    let stages = grad.len();
    let rows = (logits.len() / stages) as f32;
    let grad: Vec<f32> = grad.iter().map(|grad| grad / rows).collect();
    let mut out = vec![0.0; logits.len()];
    let tasks = logits.chunks(ROWS * stages).zip(reached.chunks(ROWS * stages));
    let tasks = tasks.zip(out.chunks_mut(ROWS * stages)).collect();
    tasks::each("loss backward", tasks, |((logits, reached), out)| {
        let mut logs = vec![Stage::default(); stages];
        let rows = logits.chunks_exact(stages).zip(reached.chunks_exact(stages));
        for ((logits, reached), out) in rows.zip(out.chunks_exact_mut(stages)) {
            walk(logits, &mut logs);
            row_gradient(&logs, reached, &grad, out);
        }
    });
    out
}

/// `log P` and `log(1 - P)` of each stage, `[B, K]`.
pub(super) fn logs(logits: &[f32], stages: usize) -> [Vec<f32>; 2] {
    let mut reach = vec![0.0; logits.len()];
    let mut not_reach = vec![0.0; logits.len()];
    let outs = reach.chunks_mut(ROWS * stages).zip(not_reach.chunks_mut(ROWS * stages));
    let tasks = logits.chunks(ROWS * stages).zip(outs).collect();
    tasks::each("logs of the funnel", tasks, |(logits, (reach, not_reach))| {
        let mut stage_logs = vec![Stage::default(); stages];
        let outs = reach.chunks_exact_mut(stages).zip(not_reach.chunks_exact_mut(stages));
        for (logits, (reach, not_reach)) in logits.chunks_exact(stages).zip(outs) {
            walk(logits, &mut stage_logs);
            for ((stage, reach), not_reach) in stage_logs.iter().zip(reach).zip(not_reach) {
                (*reach, *not_reach) = (stage.log_reach, stage.log_not_reach);
            }
        }
    });
    [reach, not_reach]
}

/// Probabilities of the first two stages and their product, `[B]` each.
pub(super) fn probs(logits: &[f32], stages: usize) -> [Vec<f32>; 3] {
    let rows = logits.len() / stages;
    let [mut ctr, mut cvr, mut ctcvr] = [(); 3].map(|()| vec![0.0; rows]);
    let outs = ctr.chunks_mut(ROWS).zip(cvr.chunks_mut(ROWS)).zip(ctcvr.chunks_mut(ROWS));
    let tasks = logits.chunks(ROWS * stages).zip(outs).collect();
    tasks::each("probabilities", tasks, |(logits, ((ctr, cvr), ctcvr))| {
        let outs = ctr.iter_mut().zip(cvr).zip(ctcvr);
        for (logits, ((ctr, cvr), ctcvr)) in logits.chunks_exact(stages).zip(outs) {
            (*ctr, *cvr) = (sigmoid(logits[0]), sigmoid(logits[1]));
            *ctcvr = *ctr * *cvr;
        }
    });
    [ctr, cvr, ctcvr]
}

/// Without overflow, and with all digits at both ends.
fn sigmoid(x: f32) -> f32 {
    let tail = (-x.abs()).exp();
    (if x < 0.0 { tail } else { 1.0 }) / (1.0 + tail)
}

/// What one row knows at a stage.
#[derive(Debug, Clone, Copy, Default)]
struct Stage {
    /// `log s(-l)` of this stage alone.
    log_fail: f32,
    /// `log P`.
    log_reach: f32,
    /// `log(1 - P)`.
    log_not_reach: f32,
}

fn sum_losses(logits: &[f32], reached: &[f32], stages: usize) -> Vec<f64> {
    let mut logs = vec![Stage::default(); stages];
    let mut sums = vec![0.0; stages];
    for (logits, reached) in logits.chunks_exact(stages).zip(reached.chunks_exact(stages)) {
        walk(logits, &mut logs);
        for ((sum, stage), reached) in sums.iter_mut().zip(&logs).zip(reached) {
            let loss = reached * stage.log_reach + (1.0 - reached) * stage.log_not_reach;
            *sum -= f64::from(loss);
        }
    }
    sums
}

/// The logs of every stage of a row.
fn walk(logits: &[f32], logs: &mut [Stage]) {
    let mut log_reach = 0.0;
    let mut log_missed = f32::NEG_INFINITY;
    for (&logit, stage) in logits.iter().zip(logs) {
        let tail = (-logit.abs()).exp().ln_1p();
        let log_pass = logit.min(0.0) - tail;
        let log_fail = (-logit).min(0.0) - tail;
        log_missed = log_add_exp(log_missed, log_reach + log_fail);
        log_reach += log_pass;
        let log_not_reach = if log_reach < -LN_2 { (-log_reach.exp()).ln_1p() } else { log_missed };
        *stage = Stage { log_fail, log_reach, log_not_reach };
    }
}

/// The derivative of task k with respect to logit j <= k is `s(-l_j)` times -1 where the stage was reached and times
/// `P_k / (1 - P_k)` where not, the product joined in log space.
fn row_gradient(logs: &[Stage], reached: &[f32], grad: &[f32], out: &mut [f32]) {
    for (j, out) in out.iter_mut().enumerate() {
        let log_fail = logs[j].log_fail;
        let fail = log_fail.exp();
        let tasks = logs[j..].iter().zip(&reached[j..]).zip(&grad[j..]);
        *out = tasks.fold(0.0, |sum, ((stage, &reached), grad)| {
            let missed = if reached == 1.0 {
                0.0
            } else {
                (stage.log_reach - stage.log_not_reach + log_fail).exp() * (1.0 - reached)
            };
            sum + (missed - fail * reached) * grad
        });
    }
}

/// `log(exp(x) + exp(y))`; `x` may be minus infinity.
fn log_add_exp(x: f32, y: f32) -> f32 {
    if x == f32::NEG_INFINITY {
        return y;
    }
    x.max(y) + (-(x - y).abs()).exp().ln_1p()
}
