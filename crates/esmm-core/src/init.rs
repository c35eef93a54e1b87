//! Initial values, drawn on the host from a portable generator: the same on every backend and machine.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// `len` normal values around 0 (Box-Muller, two at a time).
pub(crate) fn normal(rng: &mut ChaCha8Rng, len: usize, std: f64) -> Vec<f32> {
    let mut values = Vec::with_capacity(len + 1);
    while values.len() < len {
        let radius = std * (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(len);
    values
}

/// `len` values uniform in `[-bound, bound)`.
pub(crate) fn uniform(rng: &mut ChaCha8Rng, len: usize, bound: f64) -> Vec<f32> {
    (0..len).map(|_| (rng.random::<f64>().mul_add(2.0, -1.0) * bound) as f32).collect()
}
