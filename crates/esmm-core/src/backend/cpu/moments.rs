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

/// Mean and biased variance of the rows of all chunks together, joined in order, in f64.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
pub(super) fn join(chunks: &[ChunkMoments], mean: &mut [f32], variance: &mut [f32]) {
    let mut rows = 0.0;
    let mut means = vec![0.0; mean.len()];
    let mut squares = vec![0.0; mean.len()];
    for chunk in chunks {
        let more = chunk.rows as f64;
        let total = rows + more;
        let columns = chunk.mean.iter().zip(&chunk.squares).zip(means.iter_mut().zip(&mut squares));
        for ((chunk_mean, chunk_squares), (mean, squares)) in columns {
            let distance = f64::from(*chunk_mean) - *mean;
            *mean += distance * more / total;
            *squares += f64::from(*chunk_squares) + distance * distance * rows * more / total;
        }
        rows = total;
    }
    for ((mean, variance), (sum, squares)) in mean.iter_mut().zip(variance).zip(means.iter().zip(&squares)) {
        *mean = *sum as f32;
        *variance = (squares / rows) as f32;
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
