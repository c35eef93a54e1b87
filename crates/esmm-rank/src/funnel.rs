//! From logits to probabilities: the one place where the models of an ensemble become one funnel.

/// How the logits of all towers become the probabilities of one candidate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Funnel {
    /// Stages, K.
    pub(crate) stages: usize,
    /// Models whose probabilities are averaged.
    pub(crate) members: usize,
}

impl Funnel {
    /// Towers of all models.
    pub(crate) fn towers(&self) -> usize {
        self.stages * self.members
    }

    /// Appends `p(stage | stage before)` and `p(stage)` of some candidates. Of each, `logits` has those of the first model, then
    /// those of the next.
    ///
    /// Of several models `p(stage)` is the mean; `p(stage | stage before)` follows from it, and is not the mean of theirs.
    #[inline(always)]
    pub(crate) fn append(&self, logits: &[f32], conditional: &mut Vec<f32>, reach: &mut Vec<f32>) {
        if self.members == 1 {
            let start = conditional.len();
            conditional.extend(logits.iter().map(|logit| sigmoid(*logit)));
            for given in conditional[start..].chunks_exact(self.stages) {
                let mut product = 1.0;
                for given in given {
                    product *= given;
                    reach.push(product);
                }
            }
            return;
        }
        for logits in logits.chunks_exact(self.towers()) {
            self.append_mean(logits, conditional, reach);
        }
    }

    /// Of one candidate, the mean of several models.
    fn append_mean(&self, logits: &[f32], conditional: &mut Vec<f32>, reach: &mut Vec<f32>) {
        let mut before = 1.0;
        for stage in 0..self.stages {
            let models = logits.chunks_exact(self.stages);
            let of_model =
                |logits: &[f32]| -> f64 { logits[..=stage].iter().map(|logit| wide(*logit)).product() };
            let mean = models.clone().map(of_model).sum::<f64>() / self.members as f64;
            let given = if before == 0.0 {
                // Below the range of f64: no ratio is left of it.
                models.map(|logits| wide(logits[stage])).sum::<f64>() / self.members as f64
            } else {
                mean / before
            };
            // A mean of products can be above the mean before it in its last bit. `min` would take NaN for 1.
            conditional.push(if given > 1.0 { 1.0 } else { given as f32 });
            reach.push(mean as f32);
            before = mean;
        }
    }
}

/// Without overflow, and with all digits at both ends. Without branches and calls, so that it runs on whole registers.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let tail = exp_of_negative(-x.abs());
    (if x < 0.0 { tail } else { 1.0 }) / (1.0 + tail)
}

/// `exp(x)` of an x that is not above zero, within two units of the last digit; 0 below -87, where floats lose digits. NaN
/// stays NaN.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    /// Added to a float below 2^22, it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    /// ln 2 in two parts: whole multiples of the first have no rounding.
    const LN_2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = x - whole * LN_2[0] - whole * LN_2[1];
    // The Taylor series, for |rest| <= ln(2) / 2.
    let mut sum = 1.0 / 5040.0;
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * rest + factor;
    }
    // Two to the power of the whole number: it becomes the exponent, 127 standing for 0.
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { sum * power }
}

fn wide(x: f32) -> f64 {
    let x = f64::from(x);
    let tail = (-x.abs()).exp();
    (if x < 0.0 { tail } else { 1.0 }) / (1.0 + tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn funnel(members: usize, logits: &[f32]) -> [Vec<f32>; 2] {
        let (mut conditional, mut reach) = (Vec::new(), Vec::new());
        Funnel { stages: logits.len() / members, members }.append(logits, &mut conditional, &mut reach);
        [conditional, reach]
    }

    #[test]
    fn one_model_is_a_product_of_sigmoids() {
        let [conditional, reach] = funnel(1, &[0.0, 3.0_f32.ln()]);
        assert_eq!((conditional[0], reach[0]), (0.5, 0.5));
        assert!((conditional[1] - 0.75).abs() < 1e-7 && (reach[1] - 0.375).abs() < 1e-7);
    }

    /// 1/2 * 3/4 and 1/4 * 1/2: means 3/8 and 1/4, and 2/3 of one given the other.
    #[test]
    fn several_models_average_what_is_reached() {
        let ln3 = 3.0_f32.ln();
        let [conditional, reach] = funnel(2, &[0.0, ln3, -ln3, 0.0]);
        let near = |found: f32, expected: f32| assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        near(reach[0], 0.375);
        near(reach[1], 0.25);
        near(conditional[0], 0.375);
        near(conditional[1], 2.0 / 3.0);
    }

    #[test]
    fn sigmoids_have_all_their_digits() {
        for step in -2000..2000 {
            let x = step as f32 * 0.05;
            let expected = wide(x);
            let error = (f64::from(sigmoid(x)) - expected).abs();
            assert!(error <= 4e-7 * expected || expected < 2e-38, "{x}: {} not {expected}", sigmoid(x));
        }
        assert_eq!([f32::NEG_INFINITY, f32::INFINITY, 0.0].map(sigmoid), [0.0, 1.0, 0.5]);
        assert!(sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn the_edges_of_floats_are_no_nan() {
        for logits in [[-500.0; 4], [500.0; 4], [-500.0, 500.0, 500.0, -500.0], [f32::NEG_INFINITY; 4]] {
            for value in funnel(2, &logits).concat() {
                assert!((0.0..=1.0).contains(&value), "{logits:?}: {value}");
            }
        }
        assert!(funnel(2, &[f32::NAN, 0.0, 0.0, 0.0]).concat().iter().all(|value| value.is_nan()));
    }
}
