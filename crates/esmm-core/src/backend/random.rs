//! Random bits by counter: the same on every backend, at any number of threads, and resumable at any step.
//!
//! The generator is Threefry-2x32 with 13 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11):
//! 32-bit additions, rotations and xors only, so a shader can run it too.

/// Dropout of one layer at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Share of elements that become 0, in `[0, 1)`.
    pub probability: f64,
    /// Seed, step and layer, mixed.
    pub key: [u32; 2],
}

/// What dropout depends on besides the layer: the seed of the training and the number of its step.
///
/// # Examples
/// ```
/// use esmm_core::DropoutKey;
///
/// let mask = |step| DropoutKey { seed: 7, step }.layer(0, 0.5).map(|dropout| dropout.mask(64));
/// assert_eq!(mask(3), mask(3));
/// assert_ne!(mask(3), mask(4));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropoutKey {
    /// Seed of the training.
    pub seed: u64,
    /// Number of the step.
    pub step: u64,
}

impl DropoutKey {
    /// The dropout of hidden layer `layer`, or `None` if it drops nothing.
    pub fn layer(self, layer: usize, probability: f64) -> Option<Dropout> {
        let seed = [self.seed as u32, (self.seed >> 32) as u32];
        let key =
            threefry(seed, [self.step as u32, (self.step >> 32) as u32 ^ (layer as u32).rotate_left(20)]);
        (probability > 0.0).then_some(Dropout { probability, key })
    }
}

impl Dropout {
    /// An element is dropped when its 16 bits are below this; the share is exact to 1/65536.
    pub fn threshold(&self) -> u32 {
        (self.probability * 65536.0).round() as u32
    }

    /// Kept elements are multiplied by this.
    pub fn scale(&self) -> f32 {
        (65536.0 / (65536.0 - f64::from(self.threshold().min(65535)))) as f32
    }

    /// The factors of elements `4 * group .. 4 * group + 4`: 0 or [`scale`](Self::scale).
    #[inline]
    pub fn factors(&self, group: u32) -> [f32; 4] {
        let [low, high] = threefry(self.key, [group, 0]);
        let threshold = self.threshold();
        let scale = self.scale();
        [low & 0xffff, low >> 16, high & 0xffff, high >> 16]
            .map(|bits| if bits < threshold { 0.0 } else { scale })
    }

    /// The factors of elements `0..len` in row-major order.
    pub fn mask(&self, len: usize) -> Vec<f32> {
        let groups = (0..len.div_ceil(4)).flat_map(|group| self.factors(group as u32));
        groups.take(len).collect()
    }
}

pub(crate) const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
pub(crate) const PARITY: u32 = 0x1bd1_1bda;
pub(crate) const ROUNDS: usize = 13;

/// 64 random bits of a key and a counter.
#[inline]
pub fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    threefry_lanes(key, counter.map(|word| [word])).map(|[word]| word)
}

/// [`threefry`] of several counters at once, round by round, so that a compiler can use a vector for the lanes.
#[inline(always)]
pub(crate) fn threefry_lanes<const LANES: usize>(
    key: [u32; 2],
    counters: [[u32; LANES]; 2],
) -> [[u32; LANES]; 2] {
    let keys = [key[0], key[1], PARITY ^ key[0] ^ key[1]];
    let [mut x, mut y] = counters;
    for lane in 0..LANES {
        x[lane] = x[lane].wrapping_add(keys[0]);
        y[lane] = y[lane].wrapping_add(keys[1]);
    }
    for round in 0..ROUNDS {
        for lane in 0..LANES {
            x[lane] = x[lane].wrapping_add(y[lane]);
            y[lane] = y[lane].rotate_left(ROTATIONS[round % 8]) ^ x[lane];
        }
        if round % 4 == 3 {
            let injection = round / 4 + 1;
            for lane in 0..LANES {
                x[lane] = x[lane].wrapping_add(keys[injection % 3]);
                y[lane] = y[lane].wrapping_add(keys[(injection + 1) % 3]).wrapping_add(injection as u32);
            }
        }
    }
    [x, y]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `threefry2x32_13` of the Random123 known-answer tests.
    #[test]
    fn known_answers() {
        assert_eq!(threefry([0, 0], [0, 0]), [0x9d1c_5ec6, 0x8bd5_0731]);
        assert_eq!(threefry([!0, !0], [!0, !0]), [0xfd36_d048, 0x2d17_272c]);
        assert_eq!(threefry([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3]), [0xba3e_4725, 0xf27d_669e]);
    }

    #[test]
    fn shares_and_scales_agree() {
        for probability in [0.1, 0.5, 0.9] {
            let dropout = DropoutKey { seed: 7, step: 3 }.layer(1, probability).unwrap();
            let mask = dropout.mask(100_001);
            let mean = mask.iter().map(|&factor| f64::from(factor)).sum::<f64>() / mask.len() as f64;
            let error = (probability / (1.0 - probability) / mask.len() as f64).sqrt();
            assert!((mean - 1.0).abs() < 5.0 * error, "{probability}: mean factor {mean}");
        }
    }

    #[test]
    fn steps_and_layers_differ() {
        let mask = |step, layer| DropoutKey { seed: 7, step }.layer(layer, 0.5).unwrap().mask(64);
        assert_eq!(mask(3, 1), mask(3, 1));
        assert_ne!(mask(3, 1), mask(4, 1));
        assert_ne!(mask(3, 1), mask(3, 0));
        assert!(DropoutKey { seed: 7, step: 0 }.layer(0, 0.0).is_none());
    }
}
