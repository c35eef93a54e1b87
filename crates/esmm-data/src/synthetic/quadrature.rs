//! Expectations over the hidden variable: Gauss-Hermite quadrature.

/// Nodes of the rule. Largest error of a rate against a fine trapezoid: 1e-14 at g = 0.5, 4e-9 at 1.5, 3e-4 at 4.
const NODES: usize = 32;

/// The rates that an impression's labels are drawn from, the hidden variable integrated out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Truth {
    /// E_h[s(a + g h)].
    pub(super) ctr: f64,
    /// E_h[s(b + g h)], over the entire space.
    pub(super) cvr: f64,
    /// E_h[s(a + g h) s(b + g h)].
    pub(super) ctcvr: f64,
}

/// Integrates over h ~ N(0, 1) for one strength g.
#[derive(Debug, Clone)]
pub(super) struct HiddenVariable {
    /// (weight, exp(-g h)) of every node; one node when g = 0.
    nodes: Vec<(f64, f64)>,
}

impl HiddenVariable {
    /// The rule for strength `strength`.
    pub(super) fn new(strength: f64) -> Self {
        let nodes = match strength {
            0.0 => vec![(1.0, 1.0)],
            _ => {
                gauss_hermite(NODES).into_iter().map(|(h, weight)| (weight, (-strength * h).exp())).collect()
            }
        };
        Self { nodes }
    }

    /// The three rates of the logits `click` and `conversion`.
    pub(super) fn truth(&self, click: f64, conversion: f64) -> Truth {
        let click = (-click).exp();
        let conversion = (-conversion).exp();
        let mut truth = Truth { ctr: 0.0, cvr: 0.0, ctcvr: 0.0 };
        for &(weight, exp) in &self.nodes {
            let p_click = 1.0 / (1.0 + click * exp);
            let p_conversion = 1.0 / (1.0 + conversion * exp);
            truth.ctr += weight * p_click;
            truth.cvr += weight * p_conversion;
            truth.ctcvr += weight * p_click * p_conversion;
        }
        truth
    }
}

/// Nodes and weights with `sum(w f(x)) = E[f(X)]`, X ~ N(0, 1), for polynomials f up to degree `2 n - 1`
/// (Abramowitz and Stegun, 25.4.46, with the weight function of the normal).
///
/// The nodes are the roots of the n-th Hermite polynomial; those of neighbouring degrees interlace, which brackets
/// each of them.
fn gauss_hermite(n: usize) -> Vec<(f64, f64)> {
    let mut roots = Vec::new();
    for degree in 1..=n {
        // All roots lie inside +-2 sqrt(degree).
        let end = 2.0 * (degree as f64).sqrt();
        let lows = std::iter::once(-end).chain(roots.iter().copied());
        let highs = roots.iter().copied().chain(std::iter::once(end));
        roots = lows.zip(highs).map(|(low, high)| bisect(degree, low, high)).collect();
    }
    let weight = |x: f64| 1.0 / hermite(n, x).0;
    roots.into_iter().map(|x| (x, weight(x))).collect()
}

/// The root of the polynomial of this degree between `low` and `high`.
fn bisect(degree: usize, mut low: f64, mut high: f64) -> f64 {
    let sign = hermite(degree, low).1.signum();
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if hermite(degree, middle).1.signum() == sign {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// At `x`: the sum of squares of the orthonormal Hermite polynomials below `degree`, and the one of `degree`.
fn hermite(degree: usize, x: f64) -> (f64, f64) {
    let mut previous = 0.0;
    let mut current = 1.0;
    let mut squares = 0.0;
    for k in 0..degree {
        squares += current * current;
        let next = (x * current - (k as f64).sqrt() * previous) / ((k + 1) as f64).sqrt();
        (previous, current) = (current, next);
    }
    (squares, current)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// The trapezoid rule on [-12, 12], which converges faster than any power of the step for a function like this.
    fn trapezoid(f: impl Fn(f64) -> f64) -> f64 {
        let step: f64 = 1e-3;
        let density = |h: f64| (-0.5 * h * h).exp() / std::f64::consts::TAU.sqrt();
        (-12_000..=12_000).map(|i| f64::from(i) * step).map(|h| step * density(h) * f(h)).sum()
    }

    #[test]
    fn moments_of_the_normal_are_exact() {
        // E[X^2k] = 1 * 3 * 5 * ... * (2k - 1); odd moments are 0.
        let rule = gauss_hermite(NODES);
        let mut expected = 1.0;
        for k in 0..12 {
            let even: f64 = rule.iter().map(|(x, w)| w * x.powi(2 * k)).sum();
            let odd: f64 = rule.iter().map(|(x, w)| w * x.powi(2 * k + 1)).sum();
            assert!((even / expected - 1.0).abs() < 1e-11, "moment {}: {even}", 2 * k);
            assert!(odd.abs() < 1e-8 * expected, "moment {}: {odd}", 2 * k + 1);
            expected *= f64::from(2 * k + 1);
        }
    }

    #[test]
    fn three_nodes_are_the_textbook_ones() {
        // Roots of x^3 - 3x with weights 1/6, 2/3, 1/6.
        let expected = [(-3.0_f64.sqrt(), 1.0 / 6.0), (0.0, 2.0 / 3.0), (3.0_f64.sqrt(), 1.0 / 6.0)];
        for (found, expected) in gauss_hermite(3).iter().zip(expected) {
            assert!((found.0 - expected.0).abs() < 1e-14, "{found:?}");
            assert!((found.1 - expected.1).abs() < 1e-14, "{found:?}");
        }
    }

    #[test]
    fn rates_agree_with_a_fine_trapezoid() {
        for (strength, tolerance) in [(0.5, 1e-12), (1.5, 1e-8), (4.0, 1e-3)] {
            for (a, b) in [(-2.0, -2.0), (-5.0, 1.0), (0.5, -8.0)] {
                let truth = HiddenVariable::new(strength).truth(a, b);
                let click = |h: f64| sigmoid(a + strength * h);
                let conversion = |h: f64| sigmoid(b + strength * h);
                let expected =
                    [trapezoid(click), trapezoid(conversion), trapezoid(|h| click(h) * conversion(h))];
                for (found, expected) in [truth.ctr, truth.cvr, truth.ctcvr].iter().zip(expected) {
                    let error = (found - expected).abs();
                    assert!(error < tolerance, "g {strength}: {found} {expected}, error {error:e}");
                }
            }
        }
    }

    #[test]
    fn without_confounding_the_product_is_exact() {
        let truth = HiddenVariable::new(0.0).truth(-1.3, 0.4);
        assert_eq!(truth.ctr, sigmoid(-1.3));
        assert_eq!(truth.cvr, sigmoid(0.4));
        assert_eq!(truth.ctcvr, truth.ctr * truth.cvr);
    }

    #[test]
    fn extreme_logits_stay_finite() {
        let truth = HiddenVariable::new(4.0).truth(-900.0, 900.0);
        assert_eq!((truth.ctr, truth.ctcvr), (0.0, 0.0));
        assert!((truth.cvr - 1.0).abs() < 1e-12);
    }
}
