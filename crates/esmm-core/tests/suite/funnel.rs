//! The funnel at logits where probabilities leave f32, against 50-digit arithmetic (`tests/golden/funnel.json`).

use crate::common::{Auto, Plain, assert_near, golden_json, numbers, tensor, uniform, values};
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use esmm_core::FunnelLogits;
use serde_json::Value;

/// Below it f32 loses digits, and processors may flush to 0.
const TINY: f64 = f32::MIN_POSITIVE as f64;
/// Relative gap of a logarithm: 8 units in the last place.
const RELATIVE: f64 = 1e-6;

fn pairs() -> Vec<Value> {
    golden_json("funnel.json")["pairs"].as_array().unwrap().clone()
}

fn column(pairs: &[Value], key: &str) -> Vec<f64> {
    pairs.iter().map(|pair| pair[key].as_f64().unwrap()).collect()
}

fn logits<B: Backend>(pairs: &[Value]) -> Tensor<B, 2> {
    let rows: Vec<f64> =
        column(pairs, "a").into_iter().zip(column(pairs, "b")).flat_map(<[f64; 2]>::from).collect();
    tensor(&rows, [pairs.len(), 2])
}

/// The same numbers laid out by columns, as the towers give them.
fn by_columns<B: Backend>(rows: &Tensor<B, 2>) -> Tensor<B, 2> {
    let columns: TensorData = rows.clone().transpose().into_data();
    Tensor::<B, 2>::from_data(columns, &rows.device()).transpose()
}

fn stage<B: Backend>(x: &Tensor<B, 2>, k: usize) -> Vec<f64> {
    values(x.clone().slice([0..x.dims()[0], k..k + 1]))
}

#[test]
fn log_probabilities() {
    let pairs = pairs();
    let rows = logits::<Plain>(&pairs);
    for conditional in [by_columns(&rows), rows] {
        let logs = FunnelLogits { conditional }.reach_logs();
        let near = |key, found: &[f64]| assert_near(key, found, &column(&pairs, key), TINY, RELATIVE);
        near("log_ctr", &stage(&logs.log_reach, 0));
        near("log_ctcvr", &stage(&logs.log_reach, 1));
        // Where P is small, log(1 - P) is -P, and P = exp(log P) is as near as a rounded log P lets it be.
        for (k, key, log_p) in [(0, "log_not_ctr", "log_ctr"), (1, "log_not_ctcvr", "log_ctcvr")] {
            let found = stage(&logs.log_not_reach, k);
            let expected = column(&pairs, key);
            for (row, log_p) in column(&pairs, log_p).into_iter().enumerate() {
                let relative = RELATIVE + log_p.abs() * f64::from(f32::EPSILON);
                assert_near(
                    &format!("{key} {}", pairs[row]),
                    &found[row..=row],
                    &expected[row..=row],
                    TINY,
                    relative,
                );
            }
        }
    }
}

#[test]
fn probabilities() {
    let pairs = pairs();
    let rows = logits::<Plain>(&pairs);
    for conditional in [by_columns(&rows), rows] {
        let probs = FunnelLogits { conditional }.probs();
        for (key, found) in [("log_ctr", probs.ctr), ("log_cvr", probs.cvr), ("log_ctcvr", probs.ctcvr)] {
            for (found, log_p) in values(found).into_iter().zip(column(&pairs, key)) {
                let relative = RELATIVE + log_p.abs() * f64::from(f32::EPSILON);
                assert_near(key, &[found], &[log_p.exp()], TINY, relative);
            }
        }
    }
}

/// There are two ways to a probability: from the logarithms of all stages, as predictions have it, and for two stages the
/// shorter one.
#[test]
fn both_ways_to_a_probability_agree() {
    let rows = 500;
    for scale in [1.0, 10.0, 60.0] {
        let logits: Vec<f64> = uniform(37, rows * 2).iter().map(|x| scale * x).collect();
        let conditional = by_columns(&tensor::<Plain, 2>(&logits, [rows, 2]));
        let funnel = FunnelLogits { conditional };
        let probs = funnel.probs();
        let reach = funnel.reach_probs();
        let relative = RELATIVE + 2.0 * scale * f64::from(f32::EPSILON);
        for (stage, found) in [(0, probs.ctr), (1, probs.ctcvr)] {
            let expected = values(reach.clone().slice([0..rows, stage..stage + 1]));
            assert_near(&format!("stage {stage} at {scale}"), &values(found), &expected, TINY, relative);
        }
        let expected = values(sigmoid(funnel.cvr_logit()));
        assert_near(&format!("pCVR at {scale}"), &values(probs.cvr), &expected, TINY, relative);
    }
}

#[test]
fn a_closed_form() {
    let conditional = tensor::<Plain, 2>(&[0.0, 3.0_f64.ln()], [1, 2]);
    let probs = FunnelLogits { conditional }.probs();
    let found = [values(probs.ctr), values(probs.cvr), values(probs.ctcvr)].concat();
    assert_near("1/2, 3/4, 3/8", &found, &[0.5, 0.75, 0.375], 1e-7, 0.0);
}

#[test]
fn gradients() {
    let pairs = pairs();
    for (k, key) in [(0, "click_grads"), (1, "ctcvr_grads")] {
        for label in [0, 1] {
            let expected: Vec<f64> = pairs.iter().flat_map(|pair| numbers(&pair[key][label])).collect();
            let rows = logits::<Auto>(&pairs).require_grad();
            let columns = by_columns(&rows.clone().detach()).require_grad();
            for leaf in [rows, columns] {
                let reached = Tensor::full([pairs.len(), 2], label as f32, &Default::default());
                let losses = FunnelLogits { conditional: leaf.clone() }.losses(reached);
                // The loss is a mean: times the number of rows it is the sum of the pairs.
                let grads = (losses.slice(k..k + 1) * pairs.len() as f64).backward();
                let found = values(leaf.grad(&grads).unwrap());
                // An exponential of a sum of logarithms of up to 180, rounded to some 1e-5 at 110 and more; what
                // it gives there is below 1e-40.
                assert_near(&format!("{key}, label {label}"), &found, &expected, TINY, 2e-5);
            }
        }
    }
}

/// Why the loss is in log space: at these logits a product of f32 sigmoids is 1, and what follows is lost.
#[test]
fn a_product_of_sigmoids_is_not_finite() {
    let leaf = tensor::<Auto, 2>(&[20.0, 20.0], [1, 2]).require_grad();
    let both = sigmoid(leaf.clone()).prod_dim(1);
    let naive = (both.neg() + 1.0).log().neg().sum();
    assert_eq!(values(naive.clone()), [f64::INFINITY]);
    assert!(values(leaf.grad(&naive.backward()).unwrap()).iter().all(|grad| !grad.is_finite()));

    let leaf = tensor::<Auto, 2>(&[20.0, 20.0], [1, 2]).require_grad();
    let losses =
        FunnelLogits { conditional: leaf.clone() }.losses(Tensor::zeros([1, 2], &Default::default()));
    let grads = losses.clone().slice(1..2).backward();
    // -log(1 - s(20)^2), near 20 - log 2; each derivative is s(20)^2 s(-20) / (1 - s(20)^2), near 1/2.
    assert_near("loss", &values(losses)[1..], &[20.0 - 2.0_f64.ln()], 1e-5, 0.0);
    assert_near("gradient", &values(leaf.grad(&grads).unwrap()), &[0.5, 0.5], 1e-5, 0.0);
}

#[test]
fn a_later_stage_is_never_likelier() {
    let rows = 2000;
    let stages = 4;
    for scale in [1.0, 10.0, 120.0] {
        let logits: Vec<f64> = uniform(21, rows * stages).iter().map(|x| scale * x).collect();
        let conditional = by_columns(&tensor::<Plain, 2>(&logits, [rows, stages]));
        let funnel = FunnelLogits { conditional };
        let reach = values(funnel.reach_probs());
        for reach in reach.chunks_exact(stages) {
            assert!(reach.windows(2).all(|pair| 1.0 >= pair[0] && pair[0] >= pair[1]), "{reach:?}");
            assert!(reach[stages - 1] >= 0.0);
        }
        let probs = funnel.probs();
        let [ctr, cvr, ctcvr] = [probs.ctr, probs.cvr, probs.ctcvr].map(values);
        for row in 0..rows {
            assert!(ctcvr[row] <= ctr[row] && ctcvr[row] <= cvr[row], "row {row} at scale {scale}");
        }
        let logs = funnel.reach_logs();
        let sums = values(logs.log_reach.exp() + logs.log_not_reach.exp());
        assert_near("P + (1 - P)", &sums, &vec![1.0; rows * stages], 1e-6, 0.0);
    }
}

/// A loss that is written with `reach_logs` has the gradients of the built-in one.
#[test]
fn logarithms_have_gradients() {
    let (rows, stages) = (60, 3);
    for scale in [1.0, 20.0, 60.0] {
        let logits: Vec<f64> = uniform(31, rows * stages).iter().map(|x| scale * x).collect();
        let depth = (0..rows).map(|row| row % (stages + 1));
        let reached: Vec<f64> = depth
            .flat_map(|depth| (0..stages).map(move |stage| f64::from(u8::from(stage < depth))))
            .collect();
        let reached = tensor::<Auto, 2>(&reached, [rows, stages]);
        let gradient = |loss: &dyn Fn(&FunnelLogits<Auto>) -> Tensor<Auto, 1>| {
            let leaf = tensor::<Auto, 2>(&logits, [rows, stages]).require_grad();
            let grads = loss(&FunnelLogits { conditional: leaf.clone() }).backward();
            values(leaf.grad(&grads).unwrap())
        };
        // A weight a stage, so that no two of them could be mixed up.
        let weights = Tensor::<Auto, 2>::from_floats([[1.0, 2.0, 4.0]], &Default::default());
        let built_in = gradient(&|funnel| {
            (funnel.losses(reached.clone()) * weights.clone().squeeze_dim::<1>(0)).sum() * rows as f64
        });
        let own = gradient(&|funnel| {
            let logs = funnel.reach_logs();
            let missed = reached.clone() * -1.0 + 1.0;
            let likelihood = reached.clone() * logs.log_reach + missed * logs.log_not_reach;
            (likelihood * weights.clone()).sum().neg()
        });
        assert_near(&format!("logits to {scale}"), &own, &built_in, 1e-6, 1e-4);
    }
}
