//! The operations of [`EsmmBackend`](super::EsmmBackend) in terms of Burn's own: their definition, on every backend.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, TensorPrimitive};

use super::random::Dropout;
use super::{BagPlan, BlockGrads, BlockInput, BlockOutput, BlockSpec, RowRule, RowState, RowUpdate};
use crate::tower::Activation;

/// See [`EsmmBackend::bag_pool`](super::EsmmBackend::bag_pool).
pub fn bag_pool<B: Backend>(touched: FloatTensor<B>, plan: BagPlan<B>) -> FloatTensor<B> {
    let touched = float::<B, 3>(touched);
    let [tables, _, dim] = touched.dims();
    let entries = touched.select(1, ints(plan.slots));
    let bags = match plan.bags {
        None => entries,
        Some((segments, weights)) => {
            let weighted = entries * float::<B, 1>(weights).unsqueeze::<2>().unsqueeze_dim(2);
            let empty = Tensor::zeros([tables, plan.rows * plan.num_sparse, dim], &weighted.device());
            empty.select_assign(1, ints(segments), weighted, IndexingUpdateOp::Add)
        }
    };
    primitive(bags.reshape([tables, plan.rows, plan.num_sparse * dim]))
}

/// See [`EsmmBackend::bag_pool_backward`](super::EsmmBackend::bag_pool_backward).
pub fn bag_pool_backward<B: Backend>(
    grad: FloatTensor<B>,
    plan: BagPlan<B>,
    num_touched: usize,
) -> FloatTensor<B> {
    let grad = float::<B, 3>(grad);
    let [tables, rows, width] = grad.dims();
    let dim = width / plan.num_sparse;
    let bags = grad.reshape([tables, rows * plan.num_sparse, dim]);
    let entries = match plan.bags {
        None => bags,
        Some((segments, weights)) => {
            bags.select(1, ints(segments)) * float::<B, 1>(weights).unsqueeze::<2>().unsqueeze_dim(2)
        }
    };
    let zeros = Tensor::zeros([tables, num_touched, dim], &entries.device());
    primitive(zeros.select_assign(1, ints(plan.slots), entries, IndexingUpdateOp::Add))
}

/// See [`EsmmBackend::stacked_linear`](super::EsmmBackend::stacked_linear).
pub fn stacked_linear<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    let (input, weight) = (float::<B, 3>(input), float::<B, 3>(weight));
    let bias = float::<B, 2>(bias).unsqueeze_dim(1);
    let [towers, inputs, outputs] = weight.dims();
    if input.dims()[0] == towers {
        return primitive(input.matmul(weight) + bias);
    }
    // All towers read the same input: one product with their weights side by side.
    let rows = input.dims()[1];
    let side_by_side = weight.swap_dims(0, 1).reshape([inputs, towers * outputs]);
    let product = input.squeeze_dim::<2>(0).matmul(side_by_side);
    primitive(product.reshape([rows, towers, outputs]).swap_dims(0, 1) + bias)
}

/// See [`EsmmBackend::stacked_linear_backward`](super::EsmmBackend::stacked_linear_backward).
pub fn stacked_linear_backward<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let (input, weight, grad) = (float::<B, 3>(input), float::<B, 3>(weight), float::<B, 3>(grad));
    let bias_grad = primitive(grad.clone().sum_dim(1).squeeze_dim::<2>(1));
    let [towers, inputs, outputs] = weight.dims();
    if input.dims()[0] == towers {
        let input_grad = grad.clone().matmul(weight.transpose());
        return [
            primitive(input_grad),
            primitive(input.transpose().matmul(grad)),
            bias_grad,
        ];
    }
    let rows = input.dims()[1];
    let grad = grad.swap_dims(0, 1).reshape([rows, towers * outputs]);
    let side_by_side = weight.swap_dims(0, 1).reshape([inputs, towers * outputs]);
    let input_grad = grad.clone().matmul(side_by_side.transpose()).unsqueeze::<3>();
    let weight_grad = input.squeeze_dim::<2>(0).transpose().matmul(grad);
    let weight_grad = weight_grad.reshape([inputs, towers, outputs]).swap_dims(0, 1);
    [primitive(input_grad), primitive(weight_grad), bias_grad]
}

/// See [`EsmmBackend::tower_block`](super::EsmmBackend::tower_block).
pub fn tower_block<B: Backend>(input: BlockInput<B>, spec: BlockSpec) -> BlockOutput<B> {
    let hidden = float::<B, 3>(input.hidden);
    let (mean, variance) = match spec.batch_norm {
        true => statistics(hidden.clone()),
        false => (placeholder(&hidden), placeholder(&hidden)),
    };
    let (gamma, beta) = (float(input.gamma), float(input.beta));
    let (_, normalized) = normalize(hidden, &mean, &variance, gamma, beta, spec);
    let activated = activate(normalized, float(input.slope), spec.activation);
    let output = match spec.dropout {
        Some(dropout) => activated.clone() * dropout_factors(&activated, dropout),
        None => activated,
    };
    BlockOutput {
        output: primitive(output),
        mean: primitive(mean),
        variance: primitive(variance),
    }
}

/// See [`EsmmBackend::tower_block_backward`](super::EsmmBackend::tower_block_backward).
pub fn tower_block_backward<B: Backend>(
    input: BlockInput<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    grad: FloatTensor<B>,
    spec: BlockSpec,
) -> BlockGrads<B> {
    let hidden = float::<B, 3>(input.hidden);
    let (mean, variance) = (float::<B, 2>(mean), float::<B, 2>(variance));
    let (gamma, slope) = (float::<B, 2>(input.gamma), float::<B, 1>(input.slope));
    let (centred, normalized) = normalize(
        hidden.clone(),
        &mean,
        &variance,
        gamma.clone(),
        float(input.beta),
        spec,
    );
    let grad = float::<B, 3>(grad);
    let grad = match spec.dropout {
        Some(dropout) => grad.clone() * dropout_factors(&grad, dropout),
        None => grad,
    };
    let (grad, slope_grad) = activate_backward(normalized, slope, grad, spec.activation);
    if !spec.batch_norm {
        let zero = primitive(placeholder(&hidden));
        return BlockGrads {
            hidden: primitive(grad),
            gamma: zero.clone(),
            beta: zero,
            slope: slope_grad,
        };
    }
    // Divisions: `recip` of burn-ndarray 0.21 is an estimate of 12 to 14 bits where it uses SIMD.
    let std = (variance + spec.epsilon).sqrt().unsqueeze_dim::<3>(1);
    let standard = centred / std.clone();
    let beta_grad = grad.clone().sum_dim(1);
    let gamma_grad = (grad.clone() * standard.clone()).sum_dim(1);
    let rows = hidden.dims()[1] as f64;
    let centred_grad = grad - beta_grad.clone() / rows - standard * (gamma_grad.clone() / rows);
    let hidden_grad = centred_grad * (gamma.unsqueeze_dim::<3>(1) / std);
    BlockGrads {
        hidden: primitive(hidden_grad),
        gamma: primitive(gamma_grad.squeeze_dim::<2>(1)),
        beta: primitive(beta_grad.squeeze_dim::<2>(1)),
        slope: slope_grad,
    }
}

/// The activation function, `slope [K]` for PReLU.
///
/// # Shapes
/// `[K, B, H]` to the same.
pub fn activate<B: Backend>(x: Tensor<B, 3>, slope: Tensor<B, 1>, activation: Activation) -> Tensor<B, 3> {
    match activation {
        Activation::None => x,
        Activation::Relu => x.clamp_min(0.0),
        Activation::LeakyRelu { negative_slope } => {
            x.clone().clamp_min(0.0) + x.clamp_max(0.0) * negative_slope
        }
        Activation::Prelu => x.clone().clamp_min(0.0) + x.clamp_max(0.0) * per_tower(slope),
    }
}

fn activate_backward<B: Backend>(
    x: Tensor<B, 3>,
    slope: Tensor<B, 1>,
    grad: Tensor<B, 3>,
    activation: Activation,
) -> (Tensor<B, 3>, FloatTensor<B>) {
    let no_slope = primitive(placeholder(&x));
    let negative = x.clone().lower_equal_elem(0.0);
    match activation {
        Activation::None => (grad, no_slope),
        Activation::Relu => (grad.mask_fill(negative, 0.0), no_slope),
        Activation::LeakyRelu { negative_slope } => {
            let below = grad.clone() * negative_slope;
            (grad.mask_where(negative, below), no_slope)
        }
        Activation::Prelu => {
            let slope_grad = (grad.clone() * x.clamp_max(0.0))
                .sum_dim(2)
                .sum_dim(1)
                .reshape([-1]);
            let below = grad.clone() * per_tower(slope);
            (grad.mask_where(negative, below), primitive(slope_grad))
        }
    }
}

/// See [`EsmmBackend::funnel_loss`](super::EsmmBackend::funnel_loss).
pub fn funnel_loss<B: Backend>(logits: FloatTensor<B>, reached: FloatTensor<B>) -> FloatTensor<B> {
    let reached = float::<B, 2>(reached);
    let logs = crate::funnel::reach_logs(float::<B, 2>(logits));
    let missed = reached.clone().neg() + 1.0;
    let losses = (reached * logs.log_reach + missed * logs.log_not_reach)
        .neg()
        .mean_dim(0);
    primitive(losses.squeeze_dim::<1>(0))
}

/// See [`EsmmBackend::funnel_loss_backward`](super::EsmmBackend::funnel_loss_backward).
pub fn funnel_loss_backward<B: Backend>(
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

/// See [`EsmmBackend::update_rows`](super::EsmmBackend::update_rows).
pub fn update_rows<B: Backend>(
    state: RowState<B>,
    rows: IntTensor<B>,
    grads: FloatTensor<B>,
    update: RowUpdate,
) -> RowState<B> {
    let (table, rows) = (float::<B, 2>(state.table), ints::<B>(rows));
    let mut grads = float::<B, 2>(grads);
    if update.l2 != 0.0 {
        grads = grads + table.clone().select(0, rows.clone()) * update.l2;
    }
    let mut moments: Vec<Tensor<B, 2>> = state.moments.into_iter().map(float).collect();
    let step = match update.rule {
        RowRule::Sgd => grads * update.learning_rate,
        RowRule::RowWiseAdagrad { epsilon } => {
            let accumulated = add_rows(&mut moments[0], &rows, |_| {
                grads.clone().powi_scalar(2).mean_dim(1)
            });
            grads * update.learning_rate / (accumulated.sqrt() + epsilon)
        }
        RowRule::LazyAdam {
            beta_1,
            beta_2,
            epsilon,
            step,
        } => {
            let towards =
                |target: Tensor<B, 2>, beta: f64| move |old: Tensor<B, 2>| (target - old) * (1.0 - beta);
            let first = add_rows(&mut moments[0], &rows, towards(grads.clone(), beta_1));
            let second = add_rows(&mut moments[1], &rows, towards(grads.powi_scalar(2), beta_2));
            let steps = step as f64;
            let rate = update.learning_rate * (1.0 - beta_2.powf(steps)).sqrt() / (1.0 - beta_1.powf(steps));
            first * rate / (second.sqrt() + epsilon)
        }
    };
    let table = table.select_assign(0, rows, step.neg(), IndexingUpdateOp::Add);
    RowState {
        table: primitive(table),
        moments: moments.into_iter().map(primitive).collect(),
    }
}

/// Adds `change(old rows)` to the rows of `table` and gives the new rows.
fn add_rows<B: Backend>(
    table: &mut Tensor<B, 2>,
    rows: &Tensor<B, 1, Int>,
    change: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>,
) -> Tensor<B, 2> {
    let old = table.clone().select(0, rows.clone());
    let delta = change(old.clone());
    let empty = Tensor::zeros([1, 1], &table.device());
    let owned = std::mem::replace(table, empty);
    *table = owned.select_assign(0, rows.clone(), delta.clone(), IndexingUpdateOp::Add);
    old + delta
}

fn statistics<B: Backend>(hidden: Tensor<B, 3>) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let mean = hidden.clone().mean_dim(1);
    let variance = (hidden - mean.clone()).powi_scalar(2).mean_dim(1);
    (mean.squeeze_dim(1), variance.squeeze_dim(1))
}

/// `(x - mean, gamma * (x - mean) / sqrt(variance + epsilon) + beta)`, or x twice without batch norm.
fn normalize<B: Backend>(
    hidden: Tensor<B, 3>,
    mean: &Tensor<B, 2>,
    variance: &Tensor<B, 2>,
    gamma: Tensor<B, 2>,
    beta: Tensor<B, 2>,
    spec: BlockSpec,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    if !spec.batch_norm {
        return (hidden.clone(), hidden);
    }
    let centred = hidden - mean.clone().unsqueeze_dim(1);
    let scale = gamma / (variance.clone() + spec.epsilon).sqrt();
    (
        centred.clone(),
        centred * scale.unsqueeze_dim(1) + beta.unsqueeze_dim(1),
    )
}

fn dropout_factors<B: Backend>(like: &Tensor<B, 3>, dropout: Dropout) -> Tensor<B, 3> {
    let shape = like.dims();
    Tensor::from_data(
        TensorData::new(dropout.mask(shape.iter().product()), shape),
        &like.device(),
    )
}

fn per_tower<B: Backend>(slope: Tensor<B, 1>) -> Tensor<B, 3> {
    slope.reshape([-1, 1, 1])
}

/// Stands for a tensor that is not used.
fn placeholder<B: Backend>(like: &Tensor<B, 3>) -> Tensor<B, 2> {
    Tensor::zeros([1, 1], &like.device())
}

fn float<B: Backend, const D: usize>(tensor: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

fn ints<B: Backend>(tensor: IntTensor<B>) -> Tensor<B, 1, Int> {
    Tensor::from_primitive(tensor)
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}
