//! The loss of the funnel and its gradient, a unit a row: the formulas are those of `funnel.rs` in the crate's root.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::chunks::{AT_ONCE, Chunks, UNITS};
use super::joined_sums::{Partial, join};
use super::log_space::{log_not_reach, log_sigmoids, missed_by};
use super::tensor::{Rows, address, array, empty_plain, grid, plain};

/// Rows whose losses one cube sums: it takes as long for them as the launch would that joins the sums of many cubes.
const ONE_CUBE: usize = 1024;

/// A matrix at its strides: logits come transposed from the towers.
struct Matrix {
    rows: usize,
    columns: usize,
    strides: [usize; 2],
}

impl Matrix {
    fn new<R: CubeRuntime>(tensor: &CubeTensor<R>) -> Self {
        let shape = tensor.meta.shape();
        let strides = tensor.meta.strides();
        Self { rows: shape[0], columns: shape[1], strides: [strides[0], strides[1]] }
    }
}

/// Mean cross-entropy of each stage, `[K]`.
pub(super) fn loss<R: CubeRuntime>(logits: CubeTensor<R>, reached: CubeTensor<R>) -> CubeTensor<R> {
    let at = Matrix::new(&logits);
    let reached_at = Matrix::new(&reached);
    let chunks = if at.rows <= ONE_CUBE { Chunks { rows: at.rows, count: 1 } } else { Chunks::new(at.rows) };
    let sums = empty_plain(&logits, [chunks.count * at.columns]);
    // SAFETY: logits and labels have one shape; units beyond the last row read nothing.
    unsafe {
        loss_kernel::launch_unchecked(
            &logits.client,
            CubeCount::Static(chunks.count as u32, 1, 1),
            CubeDim::new_1d(UNITS),
            address(&[&logits, &reached]),
            array(&logits),
            array(&reached),
            array(&sums),
            at.strides[0],
            at.strides[1],
            reached_at.strides[0],
            reached_at.strides[1],
            chunks.rows,
            (at.rows as f32).recip(),
            at.rows,
            at.columns,
        );
    }
    if chunks.count == 1 {
        return sums;
    }
    let [losses, _] = join(&Partial { sums, chunks }, [at.columns], false);
    losses
}

/// Gradient with respect to the logits, `[B, K]`; `grad [K]` is that of the losses.
pub(super) fn loss_backward<R: CubeRuntime>(
    logits: CubeTensor<R>,
    reached: CubeTensor<R>,
    grad: CubeTensor<R>,
) -> CubeTensor<R> {
    let at = Matrix::new(&logits);
    let reached_at = Matrix::new(&reached);
    let grad = plain(grad);
    let out = Rows::empty(&logits, [at.rows, at.columns]);
    let (cubes, dim) = grid(&logits.client, at.rows);
    // SAFETY: logits and labels have one shape; units beyond the last row do nothing.
    unsafe {
        loss_backward_kernel::launch_unchecked(
            &logits.client,
            cubes,
            dim,
            address(&[&logits, &reached, &out.tensor]),
            array(&logits),
            array(&reached),
            array(&grad),
            out.array(),
            at.strides[0],
            at.strides[1],
            reached_at.strides[0],
            reached_at.strides[1],
            out.stride,
            (at.rows as f32).recip(),
            at.rows,
            at.columns,
        );
    }
    out.tensor
}

/// `log P_k` and `log(1 - P_k)` of each stage, `[B, K]` each.
pub(super) fn logs<R: CubeRuntime>(logits: CubeTensor<R>) -> [CubeTensor<R>; 2] {
    let at = Matrix::new(&logits);
    let [reach, not_reach] = [(); 2].map(|()| Rows::empty(&logits, [at.rows, at.columns]));
    let (cubes, dim) = grid(&logits.client, at.rows);
    // SAFETY: units beyond the last row do nothing.
    unsafe {
        logs_kernel::launch_unchecked(
            &logits.client,
            cubes,
            dim,
            address(&[&logits, &reach.tensor]),
            array(&logits),
            reach.array(),
            not_reach.array(),
            at.strides[0],
            at.strides[1],
            reach.stride,
            at.rows,
            at.columns,
        );
    }
    [reach.tensor, not_reach.tensor]
}

/// pCTR, pCVR and pCTCVR, `[B]` each.
pub(super) fn probs<R: CubeRuntime>(logits: CubeTensor<R>) -> [CubeTensor<R>; 3] {
    let at = Matrix::new(&logits);
    let probs = [(); 3].map(|()| empty_plain(&logits, [at.rows]));
    let (cubes, dim) = grid(&logits.client, at.rows);
    // SAFETY: units beyond the last row do nothing.
    unsafe {
        probs_kernel::launch_unchecked(
            &logits.client,
            cubes,
            dim,
            address(&[&logits]),
            array(&logits),
            array(&probs[0]),
            array(&probs[1]),
            array(&probs[2]),
            at.strides[0],
            at.strides[1],
            at.rows,
        );
    }
    probs
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn logs_kernel(
    logits: &Array<f32>,
    reach: &mut Array<f32>,
    not_reach: &mut Array<f32>,
    logits_row: usize,
    logits_column: usize,
    out_row: usize,
    rows: usize,
    #[comptime] stages: usize,
) {
    if ABSOLUTE_POS >= rows {
        terminate!();
    }
    let row = ABSOLUTE_POS;
    let mut log_reach = 0.0f32;
    let mut log_missed = 0.0f32;
    #[unroll]
    for stage in 0..stages {
        let (log_pass, log_fail) = log_sigmoids(logits[row * logits_row + stage * logits_column]);
        log_missed = missed_by(log_missed, log_reach, log_fail, stage);
        log_reach += log_pass;
        reach[row * out_row + stage] = log_reach;
        not_reach[row * out_row + stage] = log_not_reach(log_reach, log_missed);
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn probs_kernel(
    logits: &Array<f32>,
    ctr: &mut Array<f32>,
    cvr: &mut Array<f32>,
    ctcvr: &mut Array<f32>,
    logits_row: usize,
    logits_column: usize,
    rows: usize,
) {
    if ABSOLUTE_POS >= rows {
        terminate!();
    }
    let row = ABSOLUTE_POS;
    let (click, _) = log_sigmoids(logits[row * logits_row]);
    let (conversion, _) = log_sigmoids(logits[row * logits_row + logits_column]);
    ctr[row] = click.exp();
    cvr[row] = conversion.exp();
    ctcvr[row] = (click + conversion).exp();
}

/// Losses of the rows of a chunk, divided by the number of rows.
#[cube(launch_unchecked, address_type = "dynamic")]
fn loss_kernel(
    logits: &Array<f32>,
    reached: &Array<f32>,
    partial: &mut Array<f32>,
    logits_row: usize,
    logits_column: usize,
    reached_row: usize,
    reached_column: usize,
    chunk_rows: usize,
    share: f32,
    rows: usize,
    #[comptime] stages: usize,
) {
    let units = comptime!(UNITS as usize);
    let mut shared = SharedMemory::<f32>::new(units);
    let mut sums = Array::<f32>::new(stages);
    #[unroll]
    for stage in 0..stages {
        sums[stage] = 0.0f32;
    }
    let unit = UNIT_POS as usize;
    let chunk = CUBE_POS_X as usize;
    let start = chunk * chunk_rows;
    let end = min(start + chunk_rows, rows);
    let at = LossAt { logits_row, logits_column, reached_row, reached_column, share };
    let step = comptime!(AT_ONCE * UNITS as usize);
    let whole = start + (end - start) / step * step;
    for row in range_stepped(start + unit, whole, step) {
        add_losses(&mut sums, logits, reached, &at, row, AT_ONCE, stages);
    }
    for row in range_stepped(whole + unit, end, units) {
        add_losses(&mut sums, logits, reached, &at, row, 1usize, stages);
    }
    #[unroll]
    for stage in 0..stages {
        sync_cube();
        shared[unit] = sums[stage];
        sync_cube();
        #[unroll]
        for halving in 0..8u32 {
            let half = comptime!((UNITS >> (halving + 1)) as usize);
            if unit < half {
                let other = shared[unit + half];
                shared[unit] += other;
            }
            sync_cube();
        }
        if unit == 0 {
            partial[chunk * stages + stage] = shared[0];
        }
    }
}

/// Where the rows of a batch lie, and the share of one in a mean.
#[derive(CubeType, Clone, Copy)]
struct LossAt {
    logits_row: usize,
    logits_column: usize,
    reached_row: usize,
    reached_column: usize,
    share: f32,
}

/// Adds the losses of `count` rows of a unit from `first` on: all are read, then computed, so that it waits for memory once.
#[cube]
fn add_losses(
    sums: &mut Array<f32>,
    logits: &Array<f32>,
    reached: &Array<f32>,
    at: &LossAt,
    first: usize,
    #[comptime] count: usize,
    #[comptime] stages: usize,
) {
    let mut values = Array::<f32>::new(comptime!(count * stages));
    let mut hits = Array::<f32>::new(comptime!(count * stages));
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * UNITS as usize);
        #[unroll]
        for stage in 0..stages {
            let cell = comptime!(index * stages + stage);
            values[cell] = logits[row * at.logits_row + stage * at.logits_column];
            hits[cell] = reached[row * at.reached_row + stage * at.reached_column];
        }
    }
    #[unroll]
    for index in 0..count {
        let mut log_reach = 0.0f32;
        let mut log_missed = 0.0f32;
        #[unroll]
        for stage in 0..stages {
            let cell = comptime!(index * stages + stage);
            let (log_pass, log_fail) = log_sigmoids(values[cell]);
            log_missed = missed_by(log_missed, log_reach, log_fail, stage);
            log_reach += log_pass;
            let hit = hits[cell];
            let loss = hit * log_reach + (1.0f32 - hit) * log_not_reach(log_reach, log_missed);
            sums[stage] -= loss * at.share;
        }
    }
}

/// The derivative of task k with respect to logit j <= k is `s(-l_j)` times -1 where the stage was reached and times
/// `P_k / (1 - P_k)` where not, the product joined in log space.
#[cube(launch_unchecked, address_type = "dynamic")]
fn loss_backward_kernel(
    logits: &Array<f32>,
    reached: &Array<f32>,
    grads: &Array<f32>,
    out: &mut Array<f32>,
    logits_row: usize,
    logits_column: usize,
    reached_row: usize,
    reached_column: usize,
    out_row: usize,
    share: f32,
    rows: usize,
    #[comptime] stages: usize,
) {
    if ABSOLUTE_POS >= rows {
        terminate!();
    }
    let row = ABSOLUTE_POS;
    let mut log_fails = Array::<f32>::new(stages);
    let mut sums = Array::<f32>::new(stages);
    let mut log_reach = 0.0f32;
    let mut log_missed = 0.0f32;
    #[unroll]
    for stage in 0..stages {
        let (log_pass, log_fail) = log_sigmoids(logits[row * logits_row + stage * logits_column]);
        log_missed = missed_by(log_missed, log_reach, log_fail, stage);
        log_reach += log_pass;
        log_fails[stage] = log_fail;
        sums[stage] = 0.0f32;
        let hit = reached[row * reached_row + stage * reached_column];
        let log_odds = log_reach - log_not_reach(log_reach, log_missed);
        let grad = grads[stage] * share;
        for earlier in 0..stage + 1 {
            let missed = (log_odds + log_fails[earlier]).exp() * (1.0f32 - hit);
            // Where the stage was reached the odds may leave the range of f32.
            let missed = select(hit == 1.0f32, 0.0f32, missed);
            sums[earlier] += (missed - log_fails[earlier].exp() * hit) * grad;
        }
    }
    #[unroll]
    for stage in 0..stages {
        out[row * out_row + stage] = sums[stage];
    }
}
