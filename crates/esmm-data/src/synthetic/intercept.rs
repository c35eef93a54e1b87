//! The two intercepts: found so that the mean rates hit their targets.

use super::config::SyntheticConfig;
use super::impression::{Effects, Impressions};
use super::population::Population;
use super::quadrature::HiddenVariable;
use super::random::Purpose;

/// Impressions in the sample that the rates are taken over. Its error is near 1% of a rate of 0.15.
const SAMPLE: usize = 16_384;
/// The intercepts lie in `-BOUND..BOUND`.
const BOUND: f64 = 60.0;
/// Halvings of that interval; what is left is below 1e-6.
const HALVINGS: usize = 28;

/// Constants of the click and the conversion logit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intercepts {
    pub(super) click: f64,
    pub(super) conversion: f64,
}

impl Intercepts {
    /// Finds them by bisection on a sample of their own random stream.
    pub(super) fn new(config: &SyntheticConfig, population: &Population, hidden: &HiddenVariable) -> Self {
        let mut impressions = Impressions::new(config, Purpose::Intercepts);
        let sample: Vec<Effects> =
            (0..SAMPLE).map(|_| impressions.draw(population).effects(population, config.affinity)).collect();
        let click = bisect(|click| rates(&sample, hidden, click, 0.0).0 < config.click_rate);
        let conversion = bisect(|conversion| {
            let (clicks, conversions) = rates(&sample, hidden, click, conversion);
            conversions < config.conversion_rate * clicks
        });
        Self { click, conversion }
    }
}

/// Mean true CTR and CTCVR of the sample with these intercepts.
fn rates(sample: &[Effects], hidden: &HiddenVariable, click: f64, conversion: f64) -> (f64, f64) {
    let truths =
        sample.iter().map(|effects| hidden.truth(click + effects.click, conversion + effects.conversion));
    let (ctr, ctcvr) = truths.fold((0.0, 0.0), |sum, truth| (sum.0 + truth.ctr, sum.1 + truth.ctcvr));
    (ctr / sample.len() as f64, ctcvr / sample.len() as f64)
}

/// The point where `too_low` turns from true to false.
fn bisect(too_low: impl Fn(f64) -> bool) -> f64 {
    let mut low = -BOUND;
    let mut high = BOUND;
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if too_low(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_hits_both_targets() {
        let config = SyntheticConfig {
            users: 50,
            items: 20,
            click_rate: 0.07,
            conversion_rate: 0.3,
            ..SyntheticConfig::default()
        };
        let population = Population::new(&config);
        let hidden = HiddenVariable::new(config.confounding);
        let found = Intercepts::new(&config, &population, &hidden);
        let mut impressions = Impressions::new(&config, Purpose::Intercepts);
        let sample: Vec<Effects> = (0..SAMPLE)
            .map(|_| impressions.draw(&population).effects(&population, config.affinity))
            .collect();
        let (clicks, conversions) = rates(&sample, &hidden, found.click, found.conversion);
        assert!((clicks - 0.07).abs() < 1e-6, "{clicks}");
        assert!((conversions / clicks - 0.3).abs() < 1e-6, "{}", conversions / clicks);
    }
}
