//! A dense feature with bins in the first layer: of its position alone, without a column for each bin.
//!
//! With k full bins and the share s of the next, `x W` is `(W_0 + .. + W_(k-1)) + s W_k`: a row of a table of sums and a
//! scaled row of the weights, two additions whatever the number of bins.

use pulp::Simd;

use crate::kernel::{Matrix, add_with_scaled};

/// Bins that pay: two additions cost about as much as six columns of a matmul.
const FEWEST: usize = 8;

/// The weights of the bins of a feature.
#[derive(Debug)]
pub(crate) struct Stairs {
    /// For each bin the sum of the weights of those below, then its own, `[2 * bins, outputs]`.
    rows: Matrix,
}

/// Whether a feature of so many bins is better added than multiplied.
pub(crate) fn pays(bins: usize) -> bool {
    bins >= FEWEST
}

impl Stairs {
    /// Of the weights of all bins, `[bins, outputs]`.
    pub(crate) fn new(weights: &Matrix) -> Self {
        let mut rows = Matrix::zeros(2 * weights.inputs, weights.stride);
        let mut below = vec![0.0_f64; weights.stride];
        for bin in 0..weights.inputs {
            rows.row_mut(2 * bin).iter_mut().zip(&below).for_each(|(out, sum)| *out = *sum as f32);
            rows.row_mut(2 * bin + 1).copy_from_slice(weights.row(bin));
            below.iter_mut().zip(weights.row(bin)).for_each(|(sum, weight)| *sum += f64::from(*weight));
        }
        Self { rows }
    }

    /// Additions of a row, padding included.
    pub(crate) fn work(&self) -> u64 {
        2 * self.rows.stride as u64
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.rows.bytes()
    }

    /// Adds what a position brings to a row of sums.
    #[inline(always)]
    pub(crate) fn add<S: Simd>(&self, simd: S, position: f32, out: &mut [f32]) {
        let last = self.rows.inputs / 2 - 1;
        let bin = (position as usize).min(last);
        let share = (position - bin as f32).clamp(0.0, 1.0);
        add_with_scaled(simd, self.rows.row(2 * bin), self.rows.row(2 * bin + 1), share, out);
    }
}

#[cfg(test)]
mod tests {
    use esmm_core::{DenseFeature, Side};
    use pulp::Scalar;

    use super::*;

    #[test]
    fn a_position_adds_the_matmul_of_its_bins() {
        let bins = 10;
        let mut weights = Matrix::zeros(bins, 5);
        for bin in 0..bins {
            for output in 0..5 {
                weights.row_mut(bin)[output] = (bin * 7 + output * 3) as f32 % 11.0 - 5.0;
            }
        }
        let stairs = Stairs::new(&weights);
        let feature = DenseFeature { name: "x".to_owned(), side: Side::Item, bins: Some(bins) };
        for position in [0.0, 0.25, 1.0, 4.5, 9.0, 9.75, 10.0] {
            let mut out = vec![1.0; weights.stride];
            stairs.add(Scalar::new(), position, &mut out);
            for (output, found) in out.iter().enumerate() {
                let values = feature.values(position).enumerate();
                let expected: f32 = values.map(|(bin, value)| value * weights.row(bin)[output]).sum();
                assert!((found - 1.0 - expected).abs() < 1e-5, "{position}: {found}, {expected}");
            }
        }
    }
}
