//! The comparison at the end: the best setting beside the run file as it is, with new seeds.

use std::time::Instant;

use esmm_metrics::Placements;
use esmm_run::evaluation::Evaluation;
use esmm_run::tuning::{Setting, WindowComparison};

use super::trial::trained;
use super::{Stop, Tuning};
use crate::error::TrainError;
use crate::experiment::Experiment;
use crate::side_by_side::side_by_side;

/// 97.5% quantile of the standard normal distribution.
const Z_975: f64 = 1.959_963_984_540_054;
/// The same of Student's distribution with 2 degrees of freedom, those of three seeds; of more it would be smaller.
const T_975_OF_2: f64 = 4.302_652_729_911_275;
/// Seeds of the comparison begin so far after that of the run file: no setting was chosen with them.
const NEW_SEEDS: u64 = 1000;

/// What the trainings of a setting with several seeds came to.
struct Several {
    values: Vec<f64>,
    /// The mean of the placements; `None` where the metric is no AUC, or rows have weights.
    placements: Option<Placements>,
    rows: u64,
    events: u64,
}

impl Tuning<'_> {
    /// Compares on all windows, the last one first, as it takes longest.
    pub(super) fn compare(&self, found: &Setting) -> Result<Vec<WindowComparison>, Stop> {
        (self.say)(&format!("comparing the run file as it is with {found}, with new seeds"));
        let windows: Vec<Option<u32>> =
            std::iter::once(None).chain((0..self.config.windows).map(Some)).collect();
        let compared = side_by_side(windows, self.at_once, |window| self.compare_on(found, window));
        let mut compared: Vec<WindowComparison> = compared.into_iter().collect::<Result<_, _>>()?;
        compared.rotate_left(1);
        Ok(compared)
    }

    fn compare_on(&self, found: &Setting, window: Option<u32>) -> Result<WindowComparison, Stop> {
        if let Some(known) = self.log().comparison(found, window) {
            return Ok(known);
        }
        let start = Instant::now();
        let seeds = if window.is_none() { self.config.seeds } else { 1 };
        let own = self.several(&Setting::default(), window, seeds)?;
        let best = self.several(found, window, seeds)?;
        let compared = self.compared(window, &own, &best);
        self.log().add_comparison(found, &compared, start.elapsed().as_secs_f64())?;
        Ok(compared)
    }

    fn several(&self, setting: &Setting, window: Option<u32>, seeds: u64) -> Result<Several, Stop> {
        let mut experiment = Experiment::load(self.on_window(setting, window)?)?;
        let failed = |reason: String| {
            let name = self.window_name(window);
            Stop::Failed(TrainError::Training(format!("{name} with {setting}: {reason}")))
        };
        if let Some(reason) = self.too_few(&experiment) {
            return Err(failed(reason));
        }
        let mut values = Vec::new();
        let mut placements = Vec::new();
        let mut counts = (0, 0);
        for seed in 0..seeds {
            if self.interrupter.should_stop() {
                return Err(Stop::Interrupted);
            }
            let seed = self.base.train.seed.wrapping_add(NEW_SEEDS + seed);
            let found = trained(&mut experiment, seed, self.device, self.work.path(), self.interrupter)?;
            let Some(evaluation) = found else { return Err(Stop::Interrupted) };
            values.push(self.value(&evaluation.metrics).map_err(failed)?);
            placements.extend(self.placements(&evaluation));
            let events = evaluation.metrics.reached.last().map_or(0, |(_, events)| *events);
            counts = (evaluation.metrics.rows, events);
        }
        let (rows, events) = counts;
        Ok(Several { placements: Placements::mean(&placements), values, rows, events })
    }

    fn placements(&self, evaluation: &Evaluation) -> Option<Placements> {
        let task = self.base.train.select.strip_suffix(".auc")?;
        evaluation.scores.placements(task)?.ok()
    }

    fn compared(&self, window: Option<u32>, own: &Several, best: &Several) -> WindowComparison {
        let gains: Vec<f64> = own
            .values
            .iter()
            .zip(&best.values)
            .map(|(own, best)| self.score(*best) - self.score(*own))
            .collect();
        let gain = mean(&gains);
        let rows = own.placements.as_ref().zip(best.placements.as_ref());
        let rows = rows.and_then(|(own, best)| best.less(own).variance);
        WindowComparison {
            window,
            rows: own.rows,
            events: own.events,
            seeds: own.values.len() as u64,
            own: mean(&own.values),
            own_interval: own.interval(),
            found: mean(&best.values),
            found_interval: best.interval(),
            gain,
            gain_interval: interval(gain, rows, of_seeds(&gains)),
        }
    }
}

impl Several {
    fn interval(&self) -> Option<[f64; 2]> {
        let rows = self.placements.as_ref().and_then(Placements::variance);
        interval(mean(&self.values), rows, of_seeds(&self.values))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Variance of the mean over seeds; `None` of less than three.
fn of_seeds(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 2).then(|| squares / (count - 1.0) / count)
}

/// The 95% interval of a value by what the rows and what the seeds leave to chance. Of a metric that is no AUC only the seeds
/// tell, by Student's distribution of so few; `None` where nothing does.
fn interval(value: f64, rows: Option<f64>, seeds: Option<f64>) -> Option<[f64; 2]> {
    let half = match (rows, seeds) {
        (Some(rows), seeds) => Z_975 * (rows + seeds.unwrap_or(0.0)).sqrt(),
        (None, Some(seeds)) => T_975_OF_2 * seeds.sqrt(),
        (None, None) => return None,
    };
    Some([value - half, value + half])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_add_what_rows_and_seeds_leave_to_chance() {
        let seeds = of_seeds(&[0.1, 0.2, 0.3]).unwrap();
        assert!((seeds - 0.01 / 3.0).abs() < 1e-12);
        assert_eq!(of_seeds(&[0.1, 0.2]), None);
        let [low, high] = interval(0.5, Some(0.0004), None).unwrap();
        assert!((high - 0.5 - Z_975 * 0.02).abs() < 1e-12 && (low + high - 1.0).abs() < 1e-12);
        let wider = interval(0.5, Some(0.0004), Some(0.0001)).unwrap();
        assert!(wider[1] > high);
        assert_eq!(interval(0.5, None, None), None);
        assert!(interval(0.5, None, Some(0.0001)).unwrap()[1] > 0.54);
    }
}
