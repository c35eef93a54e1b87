//! Random numbers that follow from a seed and from what they are for.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// SplitMix64 (Steele, Lea and Flood 2014): different numbers stay different.
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// One of many independent streams.
#[derive(Debug)]
pub(super) struct Stream(ChaCha8Rng);

impl Stream {
    pub(super) fn new(seed: u64, purpose: u64, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(mix(seed) ^ purpose);
        rng.set_stream(number);
        Self(rng)
    }

    /// In `[0, 1)`.
    pub(super) fn uniform(&mut self) -> f64 {
        self.0.random()
    }

    pub(super) fn happens(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Below `count`, 0 the most often: a third root of it falls evenly.
    pub(super) fn popular(&mut self, count: u32) -> u32 {
        (self.uniform().powi(3) * f64::from(count)) as u32
    }

    /// A count from 1 to 200, at least n with probability n^-1.5.
    pub(super) fn count(&mut self) -> usize {
        ((1.0 - self.uniform()).powf(-1.0 / 1.5) as usize).min(200)
    }

    /// Exponential with mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    /// Standard normal, by the Box-Muller transform.
    pub(super) fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// A hidden value of a thing: mean 0, variance 1, nearly normal (the sum of four uniforms).
pub(super) fn latent(seed: u64, purpose: u64, number: u64) -> f64 {
    let bits = mix(mix(seed ^ purpose.wrapping_mul(0xA24B_AED4_963E_E407)) ^ number);
    let sum: f64 = (0..4).map(|lane| (bits >> (16 * lane) & 0xFFFF) as f64 / 65_536.0).sum();
    (sum - 2.0) * 3.0_f64.sqrt()
}

/// In `[0, 1)`, a fixed property of a thing.
pub(super) fn share(seed: u64, purpose: u64, number: u64) -> f64 {
    let bits = mix(mix(seed ^ purpose.wrapping_mul(0x9FB2_1C65_1E98_DF25)) ^ number);
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
