//! Updates of whole weights: one launch for many tensors, where Burn's optimizers take a dozen a tensor. The weight goes to a new tensor, for
//! modules hold the old one and a copy would be a launch; moments change in place. The new tensor is not padded, so that what a
//! layer knows of its columns is read without a copy.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::tensor::{address, array, empty_like, grid_of, owned, plain, vector_size};
use crate::backend::{WeightRule, WeightUpdate, WithGrad, WithMoments};

/// Units of a cube.
const UNITS: u32 = 256;
/// Tensors of a weight that are read only: itself and its gradient.
const READ: usize = 2;

/// What a kernel does with a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    Plain,
    Momentum,
    Adam,
}

/// Constants that all values of a weight share. What a rule does not need is 0.
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

/// Weights with their moments, each changed by its gradient: one launch for as many as a kernel of the device can bind.
///
/// # Panics
/// When the rule keeps another number of moments.
pub(super) fn update_weights<R: CubeRuntime>(
    weights: Vec<WithGrad<CubeTensor<R>>>,
    update: WeightUpdate,
) -> Vec<WithMoments<CubeTensor<R>>> {
    let wanted = update.rule.num_moments();
    let prepared: Vec<Vec<CubeTensor<R>>> = weights
        .into_iter()
        .map(|WithGrad { weight: WithMoments { tensor, moments }, grad }| {
            let found = moments.len();
            assert_eq!(found, wanted, "{:?} found {found} moments instead of {wanted}", update.rule);
            let weight = plain(tensor);
            let out = empty_like(&weight);
            let moments = moments.into_iter().map(|moment| plain(owned(moment).tensor));
            [weight, plain(grad), out].into_iter().chain(moments).collect()
        })
        .collect();
    let Some(client) = prepared.first().map(|tensors| tensors[0].client.clone()) else { return Vec::new() };
    let bindings = client.properties().hardware.max_bindings as usize;
    // One binding is for the scalars.
    let at_once = (bindings.saturating_sub(1) / (READ + 1 + wanted)).max(1);
    prepared.chunks(at_once).for_each(|tensors| launch(&client, tensors, update));
    // The weight and its gradient have been read.
    let written = prepared.into_iter().filter_map(|tensors| {
        let mut written = tensors.into_iter().skip(READ);
        Some(WithMoments { tensor: written.next()?, moments: written.collect() })
    });
    written.collect()
}

/// Tensors of each weight: the weight, its gradient, the new weight, the moments; their elements one after the other.
fn launch<R: CubeRuntime>(client: &ComputeClient<R>, all: &[Vec<CubeTensor<R>>], update: WeightUpdate) {
    let lengths: Vec<usize> = all.iter().map(|tensors| tensors[0].meta.num_elements()).collect();
    let vector = vector_size(&lengths);
    let mut arrays = SequenceArg::new();
    all.iter().flatten().for_each(|tensor| arrays.push(array(tensor)));
    let mut units = SequenceArg::new();
    lengths.iter().for_each(|length| units.push(length / vector));
    let cubes: usize = lengths.iter().map(|length| (length / vector).div_ceil(UNITS as usize)).sum();
    let (rule, rates) = rates::<R>(update);
    let tensors: Vec<_> = all.iter().flatten().collect();
    // SAFETY: each unit changes its own vector of one weight; units beyond its last one do nothing. All tensors of a weight
    // have one length.
    unsafe {
        update_kernel::launch_unchecked(
            client,
            grid_of(cubes),
            CubeDim::new_1d(UNITS),
            address(&tensors),
            vector,
            arrays,
            units,
            rates,
            all.len(),
            READ + 1 + update.rule.num_moments(),
            rule,
        );
    }
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
        WeightRule::Adam { beta_1, beta_2, epsilon } => {
            let steps = update.step as f64;
            let root = (1.0 - beta_2.powf(steps)).sqrt();
            let rate = update.learning_rate * root / (1.0 - beta_1.powf(steps));
            let [beta_1, take_1] = [beta_1, 1.0 - beta_1].map(|beta| beta as f32);
            let [beta_2, take_2] = [beta_2, 1.0 - beta_2].map(|beta| beta as f32);
            let epsilon = (epsilon * root) as f32;
            (Rule::Adam, RatesLaunch::new(rate as f32, l2, kept, beta_1, take_1, beta_2, take_2, epsilon))
        }
    }
}

/// Cubes are dealt to the weights in their order.
#[cube(launch_unchecked, address_type = "dynamic")]
fn update_kernel<N: Size>(
    arrays: &mut Sequence<Array<Vector<f32, N>>>,
    units: &Sequence<usize>,
    rates: Rates,
    #[comptime] weights: usize,
    #[comptime] each: usize,
    #[comptime] rule: Rule,
) {
    let cube = CUBE_POS;
    let mut first = 0usize;
    #[unroll]
    for weight in 0..weights {
        let len = units[weight];
        let next = first + len.div_ceil(comptime!(UNITS as usize));
        if cube >= first && cube < next {
            let place = (cube - first) * comptime!(UNITS as usize) + UNIT_POS as usize;
            if place < len {
                update_one::<N>(arrays, &rates, place, comptime!(weight * each), rule);
            }
        }
        first = next;
    }
}

#[cube]
fn update_one<N: Size>(
    arrays: &mut Sequence<Array<Vector<f32, N>>>,
    rates: &Rates,
    place: usize,
    #[comptime] first: usize,
    #[comptime] rule: Rule,
) {
    let weight = arrays.index(first)[place];
    let grad = arrays.index(comptime!(first + 1))[place] + weight * Vector::new(rates.l2);
    let kept = weight * Vector::new(rates.kept);
    if comptime!(rule == Rule::Plain) {
        let out = arrays.index_mut(comptime!(first + 2));
        out[place] = kept - grad * Vector::new(rates.rate);
    } else {
        let moment = arrays.index_mut(comptime!(first + 3));
        let mean = moment[place] * Vector::new(rates.beta_1) + grad * Vector::new(rates.take_1);
        moment[place] = mean;
        if comptime!(rule == Rule::Momentum) {
            let out = arrays.index_mut(comptime!(first + 2));
            out[place] = kept - mean * Vector::new(rates.rate);
        } else {
            let moment = arrays.index_mut(comptime!(first + 4));
            let square = moment[place] * Vector::new(rates.beta_2) + grad * grad * Vector::new(rates.take_2);
            moment[place] = square;
            let root = square.sqrt() + Vector::new(rates.epsilon);
            let out = arrays.index_mut(comptime!(first + 2));
            out[place] = kept - mean * Vector::new(rates.rate) / root;
        }
    }
}
