//! Mean and variance of columns, chunk by chunk and then joined (Chan, Golub and LeVeque, 1979).

use multiversion::multiversion;

/// Moments of the columns of a few rows.
#[derive(Debug, Clone)]
pub(super) struct ChunkMoments {
    rows: usize,
    mean: Vec<f32>,
    /// Sum of squared distances from the mean.
    squares: Vec<f32>,
}

impl ChunkMoments {
    /// Mean and biased variance of the rows of all chunks together, joined in order, in f64.
    pub(super) fn join(chunks: &[Self], mean: &mut [f32], variance: &mut [f32]) {
        for (column, (mean_out, variance_out)) in mean.iter_mut().zip(variance).enumerate() {
            let mut rows = 0.0;
            let mut mean = 0.0;
            let mut squares = 0.0;
            for chunk in chunks {
                let more = chunk.rows as f64;
                let distance = f64::from(chunk.mean[column]) - mean;
                let total = rows + more;
                mean += distance * more / total;
                squares += f64::from(chunk.squares[column]) + distance * distance * rows * more / total;
                rows = total;
            }
            *mean_out = mean as f32;
            *variance_out = (squares / rows) as f32;
        }
    }
}

/// Moments of `[rows, width]`, in two passes over values that lie in the cache.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
pub(super) fn of_columns(values: &[f32], width: usize) -> ChunkMoments {
    let rows = values.len() / width;
    let mut mean = vec![0.0; width];
    let mut squares = vec![0.0; width];
    for row in values.chunks_exact(width) {
        for (sum, value) in mean.iter_mut().zip(row) {
            *sum += value;
        }
    }
    for mean in &mut mean {
        *mean /= rows as f32;
    }
    for row in values.chunks_exact(width) {
        for ((sum, value), mean) in squares.iter_mut().zip(row).zip(&mean) {
            let distance = value - mean;
            *sum += distance * distance;
        }
    }
    ChunkMoments { rows, mean, squares }
}
