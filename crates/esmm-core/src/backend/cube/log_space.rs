//! Logarithms of probabilities on a device: the formulas are those of `funnel.rs` in the crate's root.

use burn_cubecl::cubecl::{self, prelude::*};

/// `log(1 + x)` for x in [-1/2, 1]. With s = x / (2 + x), within 1/3 of 0, it is `2 (s + s^3/3 + s^5/5 + ...)`; the eight
/// terms leave 1e-9 of it. WGSL has no such function, and CubeCL's `log(x + 1)` there loses the digits of small rates.
#[cube]
fn log1p(x: f32) -> f32 {
    let s = x / (2.0f32 + x);
    let z = s * s;
    let high = 1.0f32 / 9.0f32 + z * (1.0f32 / 11.0f32 + z * (1.0f32 / 13.0f32 + z / 15.0f32));
    let low = 1.0f32 / 3.0f32 + z * (1.0f32 / 5.0f32 + z * (1.0f32 / 7.0f32 + z * high));
    2.0f32 * s * (1.0f32 + z * low)
}

/// `(log s(x), log s(-x))` of the sigmoid s.
#[cube]
pub(super) fn log_sigmoids(x: f32) -> (f32, f32) {
    let tail = log1p((-x.abs()).exp());
    (min(x, 0.0f32) - tail, min(-x, 0.0f32) - tail)
}

/// `log(exp(x) + exp(y))`.
#[cube]
fn log_add_exp(x: f32, y: f32) -> f32 {
    max(x, y) + log1p((-(x - y).abs()).exp())
}

/// `log(1 - P)` from `log P` and the logarithm of the sum of all ways to miss.
#[cube]
pub(super) fn log_not_reach(log_reach: f32, log_missed: f32) -> f32 {
    let small = log1p(-(min(log_reach, -core::f32::consts::LN_2).exp()));
    select(log_reach < -core::f32::consts::LN_2, small, log_missed)
}

/// Logarithm of the sum of all ways to miss a stage: those to miss the one before, and failing from there on.
#[cube]
pub(super) fn missed_by(log_missed: f32, log_reach: f32, log_fail: f32, #[comptime] stage: usize) -> f32 {
    if comptime!(stage == 0) { log_fail } else { log_add_exp(log_missed, log_reach + log_fail) }
}
