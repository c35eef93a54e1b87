//! Scales and their ticks.

use super::super::format::{percent, short};

/// One axis: how values become positions, and which of them are written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(super) label: String,
    scale: Scale,
    low: f64,
    high: f64,
    pub(super) ticks: Vec<(f64, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    Log,
}

impl Axis {
    /// A linear axis that holds `low` and `high`, its ends on round numbers.
    pub(crate) fn linear(label: &str, low: f64, high: f64, show: impl Fn(f64) -> String) -> Self {
        let (low, high) = if high > low { (low, high) } else { widened(low) };
        let step = round_step((high - low) / 5.0);
        let first = (low / step + 1e-9).floor() as i64;
        let last = (high / step - 1e-9).ceil() as i64;
        let ticks: Vec<f64> = (first..=last).map(|place| place as f64 * step).collect();
        Self {
            label: label.to_owned(),
            scale: Scale::Linear,
            low: first as f64 * step,
            high: last as f64 * step,
            ticks: ticks.into_iter().map(|tick| (tick, show(tick))).collect(),
        }
    }

    /// A linear axis of a metric, its ticks with as many decimals as they need to differ.
    pub(crate) fn metric(label: &str, low: f64, high: f64) -> Self {
        let mut axis = Self::linear(label, low, high, |_| String::new());
        let step = (axis.high - axis.low) / (axis.ticks.len() - 1).max(1) as f64;
        let decimals = (-(step * 1.001).log10().floor()).clamp(0.0, 9.0) as usize;
        axis.ticks.iter_mut().for_each(|(tick, text)| *text = format!("{tick:.decimals$}"));
        axis
    }

    /// An axis of steps, from 0 to the last one.
    pub(crate) fn steps(last: u64) -> Self {
        let high = last.max(1) as f64;
        let ticks = linear_ticks(0.0, high).into_iter().map(|tick| (tick, short(tick)));
        Self { label: "step".to_owned(), scale: Scale::Linear, low: 0.0, high, ticks: ticks.collect() }
    }

    /// An axis of things by number: 1, 2, 3, ...
    pub(crate) fn numbers(label: &str, count: usize) -> Self {
        let ticks = (1..=count).map(|number| (number as f64, number.to_string()));
        let low = 0.5;
        let high = count as f64 + 0.5;
        Self { label: label.to_owned(), scale: Scale::Linear, low, high, ticks: ticks.collect() }
    }

    /// A linear axis from 0 to 1, in percent.
    pub(crate) fn share(label: &str) -> Self {
        Self::linear(label, 0.0, 1.0, percent)
    }

    /// A logarithmic axis of positive values.
    pub(crate) fn log(label: &str, low: f64, high: f64, show: impl Fn(f64) -> String) -> Self {
        let low = low.max(1e-12);
        let (low, high) = if high > low * 1.05 { (low, high) } else { (low / 1.5, low * 1.5) };
        let ticks = log_ticks(low, high);
        Self {
            label: label.to_owned(),
            scale: Scale::Log,
            low,
            high,
            ticks: ticks.into_iter().map(|tick| (tick, show(tick))).collect(),
        }
    }

    /// A linear axis of logits whose ticks are probabilities.
    pub(crate) fn logit(label: &str, low: f64, high: f64) -> Self {
        let tick = |probability: f64| ((probability / (1.0 - probability)).ln(), percent(probability));
        let inside = |ticks: &[f64]| -> Vec<(f64, String)> {
            let ticks = ticks.iter().map(|probability| tick(*probability));
            ticks.filter(|(logit, _)| (low..=high).contains(logit)).collect()
        };
        let coarse =
            inside(&[1e-12, 1e-9, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.999_99]);
        let fine =
            inside(&[1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.97, 0.99]);
        let finest =
            inside(&[1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4]);
        let ticks = [coarse, fine, finest].into_iter().max_by_key(|ticks| match ticks.len() {
            count @ 0..=6 => count,
            _ => 0,
        });
        Self { label: label.to_owned(), scale: Scale::Linear, low, high, ticks: ticks.unwrap_or_default() }
    }

    /// Where a value lies, from 0 to 1; values beyond the ends lie on them.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(1e-300) / self.low).ln() / (self.high / self.low).ln(),
        };
        if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) }
    }

    pub(crate) fn low(&self) -> f64 {
        self.low
    }

    pub(crate) fn high(&self) -> f64 {
        self.high
    }
}

/// A range around a single value.
fn widened(value: f64) -> (f64, f64) {
    let half = (value.abs() * 0.05).max(1e-6);
    (value - half, value + half)
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= least * 0.999)
        .unwrap_or(power)
}

/// Powers of ten, and numbers between them where there are few.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let digits: &[f64] = match decades {
        wide if wide > 3.0 => &[1.0],
        wide if wide > 1.2 => &[1.0, 3.0],
        wide if wide > 0.6 => &[1.0, 2.0, 5.0],
        _ => return linear_ticks(low, high),
    };
    let powers = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
    let ticks = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)));
    ticks.filter(|tick| (low * 0.999..=high * 1.001).contains(tick)).collect()
}

fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let step = round_step((high - low) / 5.0);
    let places = ((low / step).ceil() as i64)..=((high / step).floor() as i64);
    places.map(|place| place as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::Axis;

    fn ticks(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_the_ends_are_ticks() {
        let axis = Axis::metric("", 0.7013, 0.7522);
        assert_eq!(ticks(&axis), ["0.70", "0.72", "0.74", "0.76"]);
        assert_eq!(ticks(&Axis::metric("", 0.1, 1.6)), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
        assert_eq!(ticks(&Axis::steps(1173)), ["0", "500", "1000"]);
        assert_eq!(ticks(&Axis::share("")), ["0%", "20%", "40%", "60%", "80%", "100%"]);
        let flat = Axis::metric("", 0.5, 0.5);
        assert!(flat.place(0.5) > 0.2 && flat.place(0.5) < 0.8, "{flat:?}");
        assert!(Axis::metric("", 0.0, 0.0).place(0.0).is_finite());
    }

    #[test]
    fn log_axes_have_few_ticks_inside() {
        let show = |value: f64| format!("{value:.1e}");
        assert_eq!(ticks(&Axis::log("", 1e-5, 1.0, show)).len(), 6);
        assert_eq!(ticks(&Axis::log("", 0.02, 0.6, show)), ["3.0e-2", "1.0e-1", "3.0e-1"]);
        let narrow = Axis::log("", 0.1, 0.3, show);
        assert!((3..=6).contains(&narrow.ticks.len()), "{narrow:?}");
        assert!(narrow.ticks.iter().all(|(tick, _)| (0.1..=0.3).contains(tick)));
        assert_eq!((narrow.place(0.0), narrow.place(0.1), narrow.place(9.0)), (0.0, 0.0, 1.0));
    }

    #[test]
    fn logit_axes_show_probabilities() {
        let axis = Axis::logit("", -3.0, 2.0);
        assert!(axis.ticks.len() >= 3, "{axis:?}");
        let half = axis.ticks.iter().find(|(_, text)| text == "50%").unwrap();
        assert_eq!((half.0, axis.place(half.0)), (0.0, 0.6));
        assert!(Axis::logit("", -40.0, 0.0).ticks.len() >= 2);
    }
}
