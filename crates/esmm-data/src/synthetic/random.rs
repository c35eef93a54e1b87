//! Seeded streams and the two distributions of the funnel: normal and capped Zipf.

use std::f64::consts::TAU;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for. Streams of one seed are independent, so that more users do not change
/// the items and more rows do not change the earlier ones.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Categories = 1,
    Items = 2,
    Users = 3,
    Intercepts = 4,
    Impressions = 5,
}

/// The stream of `seed` for one purpose.
pub(super) fn stream(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose as u64);
    rng
}

/// Uniform in [0, 1).
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    rng.random()
}

/// Standard normal, by the Box-Muller transform (two uniforms, one normal).
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
    radius * (TAU * uniform(rng)).cos()
}

/// Ranks 0, 1, ... with probability proportional to `(rank + 1)^-exponent`, the head cut to a largest share.
#[derive(Debug, Clone)]
pub(super) struct CappedZipf {
    /// Running sum of the shares; the last is 1 up to rounding.
    cumulative: Vec<f64>,
}

impl CappedZipf {
    /// `len` ranks (at least 1), none above `max(head_share, 2 / len)`: what the head loses, the tail gets.
    pub(super) fn new(len: usize, exponent: f64, head_share: f64) -> Self {
        let cap = head_share.max(2.0 / len as f64).min(1.0);
        let weights: Vec<f64> = (1..=len).map(|rank| (rank as f64).powf(-exponent)).collect();
        let mut tail: f64 = weights.iter().sum();
        let mut capped = 0;
        while weights[capped] * (1.0 - capped as f64 * cap) > cap * tail {
            tail -= weights[capped];
            capped += 1;
        }
        let scale = (1.0 - capped as f64 * cap) / tail;
        let mut total = 0.0;
        let cumulative = weights.iter().enumerate().map(|(rank, weight)| {
            total += if rank < capped { cap } else { weight * scale };
            total
        });
        Self { cumulative: cumulative.collect() }
    }

    /// Draws a rank.
    pub(super) fn sample(&self, rng: &mut ChaCha8Rng) -> usize {
        let at = uniform(rng);
        let rank = self.cumulative.partition_point(|&sum| sum <= at);
        rank.min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(zipf: &CappedZipf) -> Vec<f64> {
        let before = std::iter::once(&0.0).chain(&zipf.cumulative);
        before.zip(&zipf.cumulative).map(|(low, high)| high - low).collect()
    }

    #[test]
    fn zipf_head_is_bounded_and_the_tail_keeps_its_shape() {
        for (len, exponent, head, cap) in [(1000, 1.2, 0.02, 0.02), (20, 3.0, 0.01, 0.1), (1, 1.0, 0.5, 1.0)]
        {
            let shares = shares(&CappedZipf::new(len, exponent, head));
            let sum: f64 = shares.iter().sum();
            assert!((sum - 1.0).abs() < 1e-9, "{len} ranks sum to {sum}");
            assert!((shares[0] - cap).abs() < 1e-9, "{len} ranks: the first has {}", shares[0]);
            assert!(shares.windows(2).all(|pair| pair[1] <= pair[0] + 1e-12));
        }
        let tail = shares(&CappedZipf::new(1000, 1.2, 0.02));
        let ratio = tail[999] / tail[499];
        assert!((ratio - 0.5_f64.powf(1.2)).abs() < 1e-6, "{ratio}");
    }

    #[test]
    fn an_uncapped_zipf_is_drawn_in_its_proportions() {
        // Exponent 1 over 3 ranks: 6/11, 3/11, 2/11. The cap is max(0.9, 2/3).
        let zipf = CappedZipf::new(3, 1.0, 0.9);
        let mut rng = stream(7, Purpose::Users);
        let mut counts = [0.0; 3];
        let draws = 40_000;
        (0..draws).for_each(|_| counts[zipf.sample(&mut rng)] += 1.0);
        for (count, share) in counts.iter().zip([6.0 / 11.0, 3.0 / 11.0, 2.0 / 11.0]) {
            let (n, p): (f64, f64) = (f64::from(draws), share);
            assert!((count - n * p).abs() < 4.0 * (n * p * (1.0 - p)).sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let mut rng = stream(3, Purpose::Items);
        let n = 40_000;
        let draws: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
        // Variances of x, x^2 and x^4 under N(0, 1): 1, 2 and 96.
        for (power, mean, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (4, 3.0, 96.0_f64)] {
            let found = draws.iter().map(|x| x.powi(power)).sum::<f64>() / f64::from(n);
            let error = 4.0 * (variance / f64::from(n)).sqrt();
            assert!((found - mean).abs() < error, "moment {power}: {found}");
        }
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let first = |purpose| uniform(&mut stream(1, purpose));
        assert!(first(Purpose::Users) != first(Purpose::Items));
        assert!(first(Purpose::Users) == first(Purpose::Users));
    }
}
