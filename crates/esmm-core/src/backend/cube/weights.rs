//! Updates of whole weights: one launch a tensor, where Burn's optimizers take a dozen. The weight goes to a new tensor, for
//! modules hold the old one and a copy would be a launch; moments change in place.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::tensor::{Rows, address, grid, owned, vector_size};
use crate::backend::{WeightRule, WeightUpdate};

/// What a kernel does with a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    Plain,
    Momentum,
    Adam,
}

/// Numbers that all values of a weight share. What a rule does not need is 0.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Rates {
    /// Learning rate; of Adam with the bias corrections.
    rate: f32,
    l2: f32,
    /// What decoupled decay leaves of a weight.
    kept: f32,
    /// Decay of velocity or first moment.
    beta_1: f32,
    /// What the first moment takes of a gradient.
    take_1: f32,
    beta_2: f32,
    take_2: f32,
    epsilon: f32,
}

/// Weight and moments, all of one shape, changed by `grad`.
pub(super) fn update_weights<R: CubeRuntime>(
    state: Vec<CubeTensor<R>>,
    grad: CubeTensor<R>,
    update: WeightUpdate,
) -> Vec<CubeTensor<R>> {
    let mut state = state.into_iter();
    let Some(weight) = state.next().map(Rows::new) else { panic!("an update without a weight") };
    let moments: Vec<Rows<R>> = state.map(owned).collect();
    let out = Rows::new(empty_device_dtype(
        weight.tensor.client.clone(),
        weight.tensor.device.clone(),
        weight.tensor.meta.shape().clone(),
        weight.tensor.dtype,
    ));
    let grad = Rows::new(grad);
    let (rule, rates) = rates::<R>(update);
    let found = moments.len();
    assert!(found == update.rule.num_moments(), "{:?} found {found} moments", update.rule);
    // A rule without a moment gets the new weight in its place and does not read it.
    let (first, second) = (moments.first().unwrap_or(&out), moments.get(1).unwrap_or(&out));
    let strides = [weight.stride, out.stride, first.stride, second.stride, grad.stride];
    let vector = vector_size(&[&strides[..], &[weight.width]].concat());
    let units = weight.tensor.meta.num_elements() / vector;
    let (cubes, dim) = grid(&weight.tensor.client, units);
    // SAFETY: one unit for each vector of the weight; gradient and moments have its shape.
    unsafe {
        update_kernel::launch_unchecked(
            &weight.tensor.client,
            cubes,
            dim,
            address(&[&weight.tensor, &out.tensor, &first.tensor, &second.tensor, &grad.tensor]),
            vector,
            weight.array(),
            out.array(),
            first.array(),
            second.array(),
            grad.array(),
            rates,
            weight.width / vector,
            weight.stride / vector,
            out.stride / vector,
            first.stride / vector,
            second.stride / vector,
            grad.stride / vector,
            units,
            rule,
        );
    }
    [out].into_iter().chain(moments).map(|rows| rows.tensor).collect()
}

fn rates<R: CubeRuntime>(update: WeightUpdate) -> (Rule, RatesLaunch<R>) {
    let kept = (1.0 - update.learning_rate * update.decay) as f32;
    let l2 = update.l2 as f32;
    match update.rule {
        WeightRule::Sgd { momentum } => {
            let rule = if momentum == 0.0 { Rule::Plain } else { Rule::Momentum };
            let rate = update.learning_rate as f32;
            (rule, RatesLaunch::new(rate, l2, kept, momentum as f32, 1.0, 0.0, 0.0, 0.0))
        }
        WeightRule::Adam { beta_1, beta_2, epsilon, step } => {
            let root = (1.0 - beta_2.powf(step as f64)).sqrt();
            let rate = update.learning_rate * root / (1.0 - beta_1.powf(step as f64));
            let [beta_1, take_1] = [beta_1, 1.0 - beta_1].map(|beta| beta as f32);
            let [beta_2, take_2] = [beta_2, 1.0 - beta_2].map(|beta| beta as f32);
            let epsilon = (epsilon * root) as f32;
            (Rule::Adam, RatesLaunch::new(rate as f32, l2, kept, beta_1, take_1, beta_2, take_2, epsilon))
        }
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn update_kernel<N: Size>(
    weights: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    first: &mut Array<Vector<f32, N>>,
    second: &mut Array<Vector<f32, N>>,
    grads: &Array<Vector<f32, N>>,
    rates: Rates,
    width: FastDivmod<usize>,
    stride: usize,
    out_stride: usize,
    first_stride: usize,
    second_stride: usize,
    grad_stride: usize,
    units: usize,
    #[comptime] rule: Rule,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    let place = row * out_stride + column;
    let weight = weights[row * stride + column];
    let grad = grads[row * grad_stride + column] + weight * Vector::new(rates.l2);
    let kept = weight * Vector::new(rates.kept);
    if comptime!(rule == Rule::Plain) {
        out[place] = kept - grad * Vector::new(rates.rate);
    } else {
        let first_place = row * first_stride + column;
        let mean = first[first_place] * Vector::new(rates.beta_1) + grad * Vector::new(rates.take_1);
        first[first_place] = mean;
        if comptime!(rule == Rule::Momentum) {
            out[place] = kept - mean * Vector::new(rates.rate);
        } else {
            let second_place = row * second_stride + column;
            let square =
                second[second_place] * Vector::new(rates.beta_2) + grad * grad * Vector::new(rates.take_2);
            second[second_place] = square;
            let root = square.sqrt() + Vector::new(rates.epsilon);
            out[place] = kept - mean * Vector::new(rates.rate) / root;
        }
    }
}
