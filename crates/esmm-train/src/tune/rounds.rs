//! The rounds of a tuning: which settings are tried, and which of them go on to the next window.

use std::time::Instant;

use esmm_metrics::SplitMetrics;
use esmm_run::RunError;
use esmm_run::tuning::{Setting, TriedSetting};
use esmm_run::wording::{duration, grouped};

use super::log::Trial;
use super::trial::trained;
use super::{Stop, Tuning};
use crate::error::TrainError;
use crate::experiment::Experiment;
use crate::side_by_side::side_by_side;

/// Rows of the last stage that a window must validate on at least: the AUC of fewer tells nothing.
const FEWEST_EVENTS: u64 = 10;
/// Changes that are tried together at most.
const MOST_TOGETHER: usize = 4;
/// Of the single changes so many are tried together.
const BEST_CHANGES: usize = 5;

/// A setting and a window that it is to be trained on.
struct Job {
    setting: Setting,
    window: u32,
}

impl Tuning<'_> {
    /// Trains the run file as it is on all windows. That all of them can be measured is checked here.
    pub(super) fn measure_own(&mut self, own: &Setting) -> Result<(), Stop> {
        let start = Instant::now();
        let values = self.values(own, true)?;
        for (window, value) in (0..).zip(&values) {
            if let Err(reason) = value {
                let name = self.window_name(Some(window));
                return Err(Stop::Failed(TrainError::Training(format!("{name}: {reason}"))));
            }
        }
        let values: Vec<Option<f64>> = values.into_iter().map(Result::ok).collect();
        let select = &self.base.train.select;
        let shown: Vec<String> = values.iter().flatten().map(|value| format!("{value:.4}")).collect();
        (self.say)(&format!(
            "the run file as it is: {select} {} on the {} windows, {}",
            shown.join(", "),
            values.len(),
            duration(start.elapsed().as_secs_f64())
        ));
        self.tried.push(TriedSetting { setting: own.clone(), values, reason: None });
        Ok(())
    }

    /// How long a training should be.
    pub(super) fn epochs(&mut self, best: Setting) -> Result<Setting, Stop> {
        let candidates = self.new_settings(Setting::epochs().into_iter().map(|change| best.and(&change)));
        let best = self.round("epochs", best, candidates)?.0;
        Ok(best)
    }

    /// One change at a time. Returns the best setting, and the changes that helped, the best first.
    pub(super) fn single_changes(&mut self, best: Setting) -> Result<(Setting, Vec<Setting>), Stop> {
        let all = Setting::single();
        let mut candidates = self.new_settings(all.iter().map(|change| best.and(change)));
        // Of what is left of the budget a third goes to changes together.
        candidates.truncate((self.trials_left() * 2).div_ceil(3) as usize);
        let before = best.clone();
        let (best, helped) = self.round("one change", best, candidates)?;
        let change = |helped: &Setting| all.iter().find(|change| before.and(change) == *helped).cloned();
        let mut changes: Vec<Setting> = Vec::new();
        for change in helped.iter().filter_map(change) {
            if !changes.iter().any(|kept| kept.meets(&change)) {
                changes.push(change);
            }
        }
        changes.truncate(BEST_CHANGES);
        Ok((best, changes))
    }

    /// The changes that helped, two and more of them at a time.
    pub(super) fn together(&mut self, best: Setting, changes: &[Setting]) -> Result<Setting, Stop> {
        let mut sets: Vec<Vec<usize>> = (1_u32..1 << changes.len())
            .map(|set| (0..changes.len()).filter(|place| set >> place & 1 == 1).collect())
            .filter(|set: &Vec<usize>| (2..=MOST_TOGETHER).contains(&set.len()))
            .collect();
        // Those of the best changes first.
        sets.sort_by_key(|set| (set.iter().sum::<usize>(), set.len()));
        let base = match best.epochs {
            Some(epochs) => Setting { epochs: Some(epochs), ..Setting::default() },
            None => Setting::default(),
        };
        let put_together = |set: Vec<usize>| {
            set.into_iter().fold(base.clone(), |setting, place| setting.and(&changes[place]))
        };
        let candidates = self.new_settings(sets.into_iter().map(put_together));
        Ok(self.round("changes together", best, candidates)?.0)
    }

    /// Settings that change something and were not tried yet, as many as the budget allows.
    fn new_settings(&self, settings: impl Iterator<Item = Setting>) -> Vec<Setting> {
        let text = |setting: &Setting| setting.write_into(&self.config.text, &self.config.name).ok();
        let file = |text: String| esmm_run::config::RunFile::parse(&text, &self.config.name, &[]).ok();
        let resolved = |setting: &Setting| text(setting).and_then(file);
        let mut known: Vec<_> = self.tried.iter().map(|tried| resolved(&tried.setting)).collect();
        let mut found = Vec::new();
        for setting in settings {
            let file = resolved(&setting);
            if file.is_some() && !known.contains(&file) {
                known.push(file);
                found.push(setting);
            }
        }
        found.truncate(self.trials_left() as usize);
        found
    }

    fn trials_left(&self) -> u64 {
        (self.config.trials + 1).saturating_sub(self.tried.len() as u64)
    }

    /// Successive halving: all candidates train on the latest window, the better half goes on to the one before it, and so on.
    /// Returns the best of those that came through and of `best`, and the candidates that were better on their
    /// windows than `best`, the best first.
    fn round(
        &mut self,
        name: &str,
        best: Setting,
        candidates: Vec<Setting>,
    ) -> Result<(Setting, Vec<Setting>), Stop> {
        if candidates.is_empty() {
            return Ok((best, Vec::new()));
        }
        let windows = self.config.windows;
        let first = self.tried.len();
        let nothing = vec![None; windows as usize];
        self.tried.extend(candidates.into_iter().map(|setting| TriedSetting {
            setting,
            values: nothing.clone(),
            reason: None,
        }));
        let mut alive: Vec<usize> = (first..self.tried.len()).collect();
        for (rung, window) in (0..windows).rev().enumerate() {
            let jobs: Vec<Job> = alive
                .iter()
                .map(|place| Job { setting: self.tried[*place].setting.clone(), window })
                .collect();
            (self.say)(&format!(
                "{name}: {} settings on {}",
                grouped(jobs.len() as u64),
                self.window_name(Some(window))
            ));
            let trials = self.train_all(jobs, false)?;
            let is_over = trials.iter().any(Option::is_none);
            for (place, trial) in alive.iter().zip(trials) {
                if let Some(trial) = trial {
                    self.tried[*place].values[window as usize] = trial.value;
                    self.tried[*place].reason = trial.reason;
                }
            }
            // What cannot be trained is out. What time does not allow stays: it has what it reached on the windows before.
            alive.retain(|place| self.tried[*place].reason.is_none());
            self.sort_by_gain(&mut alive, &best);
            if is_over {
                self.out_of_time = true;
                self.sort_by_windows(&mut alive);
                break;
            }
            if rung + 1 < windows as usize {
                alive.truncate(alive.len().div_ceil(2));
            }
        }
        // Settings that time did not allow to be tried at all are none that were tried.
        let is_tried =
            |tried: &TriedSetting| tried.reason.is_some() || tried.values.iter().any(Option::is_some);
        let winner = alive.iter().find(|place| self.gain(**place, &best).is_some_and(|gain| gain > 0.0));
        let kept = winner.map_or_else(|| best.clone(), |place| self.tried[*place].setting.clone());
        let mut ranked: Vec<usize> = (first..self.tried.len()).collect();
        ranked.retain(|place| self.gain(*place, &best).is_some_and(|gain| gain > 0.0));
        self.sort_by_gain(&mut ranked, &best);
        self.sort_by_windows(&mut ranked);
        let helped = ranked.iter().map(|place| self.tried[*place].setting.clone()).collect();
        (self.say)(&format!("{name}: the best is {kept}"));
        self.tried.retain(is_tried);
        Ok((kept, helped))
    }

    /// The mean gain of a setting over another one, on the windows that both were measured on.
    fn gain(&self, place: usize, over: &Setting) -> Option<f64> {
        let other = self.tried.iter().find(|tried| tried.setting == *over)?;
        let pairs = self.tried[place].values.iter().zip(&other.values);
        let gains: Vec<f64> =
            pairs.filter_map(|(own, other)| Some(self.score((*own)?) - self.score((*other)?))).collect();
        (!gains.is_empty()).then(|| gains.iter().sum::<f64>() / gains.len() as f64)
    }

    fn sort_by_gain(&self, places: &mut [usize], over: &Setting) {
        let gain = |place: &usize| self.gain(*place, over).unwrap_or(f64::NEG_INFINITY);
        places.sort_by(|left, right| gain(right).total_cmp(&gain(left)).then(left.cmp(right)));
    }

    /// Those that were measured on more windows first: a gain on more windows is worth more than a larger one on fewer.
    fn sort_by_windows(&self, places: &mut [usize]) {
        places.sort_by_key(|place| std::cmp::Reverse(self.tried[*place].values.iter().flatten().count()));
    }

    /// The values of a setting on all windows, or why there is none.
    fn values(&self, setting: &Setting, always: bool) -> Result<Vec<Result<f64, String>>, Stop> {
        let jobs = (0..self.config.windows).map(|window| Job { setting: setting.clone(), window }).collect();
        let trials = self.train_all(jobs, always)?;
        let value = |trial: Option<Trial>| {
            let trial = trial.ok_or_else(|| "the time was over".to_owned())?;
            let none = trial.reason.unwrap_or_default();
            trial.value.ok_or(none)
        };
        Ok(trials.into_iter().map(value).collect())
    }

    /// Trains all of these, several at the same time; `None` for those that were not begun because the time was over.
    fn train_all(&self, jobs: Vec<Job>, always: bool) -> Result<Vec<Option<Trial>>, Stop> {
        let trials = side_by_side(jobs, self.at_once, |job| self.train(&job, always));
        trials.into_iter().collect()
    }

    fn train(&self, job: &Job, always: bool) -> Result<Option<Trial>, Stop> {
        let Job { setting, window } = job;
        if let Some(known) = self.log().trial(setting, *window) {
            return Ok(Some(known));
        }
        if self.interrupter.should_stop() {
            return Err(Stop::Interrupted);
        }
        if !always && self.seconds_left().is_some_and(|left| left <= 0.0) {
            return Ok(None);
        }
        let start = Instant::now();
        let value = match self.measured(setting, *window) {
            Err(Stop::Interrupted) => return Err(Stop::Interrupted),
            // Data and disk are the same for all settings; what a setting does to a training is its own.
            Err(Stop::Failed(
                error @ (TrainError::Run(RunError::File { .. })
                | TrainError::Device(_)
                | TrainError::DeviceOutOfMemory(_)),
            )) => {
                return Err(Stop::Failed(error));
            }
            Err(Stop::Failed(error)) => Err(error.to_string()),
            Ok(value) => value,
        };
        let trial = Trial::new(setting, *window, value, start.elapsed().as_secs_f64());
        self.log().add_trial(trial.clone())?;
        Ok(Some(trial))
    }

    /// Trains a setting on a window; the metric, or why it cannot be measured.
    fn measured(&self, setting: &Setting, window: u32) -> Result<Result<f64, String>, Stop> {
        let mut experiment = Experiment::load(self.on_window(setting, Some(window))?)?;
        if let Some(reason) = self.too_few(&experiment) {
            return Ok(Err(reason));
        }
        let seed = self.base.train.seed.wrapping_add(u64::from(window));
        let found = trained(&mut experiment, seed, self.device, self.work.path(), self.interrupter)?;
        let Some(evaluation) = found else { return Err(Stop::Interrupted) };
        Ok(self.value(&evaluation.metrics))
    }

    /// The metric, or why there is none.
    pub(super) fn value(&self, metrics: &SplitMetrics) -> Result<f64, String> {
        metrics.metric(&self.base.train.select).map_err(|error| error.to_string())
    }

    /// Says so where a window has too few rows of the last stage.
    pub(super) fn too_few(&self, experiment: &Experiment) -> Option<String> {
        let valid = experiment.report.valid.as_ref()?;
        let stages = &experiment.config.labels.columns;
        // Of the AUC of the first stage that stage's rows count.
        let is_first = self.base.train.select.starts_with("ctr.");
        let place = if is_first { 0 } else { stages.len() - 1 };
        let events = valid.reached.get(place).copied().unwrap_or(0);
        (events < FEWEST_EVENTS).then(|| {
            format!(
                "its {} validation rows have {} {}, and at least {FEWEST_EVENTS} are needed to measure {}: ask for fewer \
                 --windows, or tune on more rows",
                grouped(valid.rows),
                grouped(events),
                stages[place],
                self.base.train.select
            )
        })
    }
}
