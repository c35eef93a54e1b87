//! What a tuning of a run file found: `tuning.json`.

mod edit;
mod setting;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::run_dir::{read_json, write_json};

pub use setting::{Numbers, Setting};

/// Version of the file's layout.
pub const FORMAT_VERSION: u32 = 1;

/// What a tuning found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TuningReport {
    /// Version of the file.
    pub format_version: u32,
    /// The run file that was tuned, as it was named.
    pub run_file: String,
    /// The metric that settings were chosen by.
    pub select: String,
    /// Windows that settings were chosen on.
    pub windows: u32,
    /// The column by whose times the windows follow each other; `None` of folds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The best setting.
    pub found: Setting,
    /// Every setting that was tried, the run file as it is first, in the order in which they were tried.
    pub tried: Vec<TriedSetting>,
    /// The run file as it is beside the best setting, on each window with new seeds; empty where nothing was better. The last
    /// one was not used for choosing.
    pub compared: Vec<WindowComparison>,
    /// Trainings, those of the comparison included.
    pub trainings: u64,
    /// Seconds that they took, all parts of the tuning together.
    pub seconds: f64,
    /// Whether time ran out before all settings were tried.
    pub out_of_time: bool,
}

/// A setting that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriedSetting {
    /// The setting.
    pub setting: Setting,
    /// The metric on each window, from the earliest; `None` where it was dropped before or could not be measured.
    pub values: Vec<Option<f64>>,
    /// Why it could not be trained, if it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The run file as it is beside the best setting, on one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowComparison {
    /// Which window, from 0; `None` for the last, the run file's own validation rows, on which nothing was chosen.
    pub window: Option<u32>,
    /// Rows that validate.
    pub rows: u64,
    /// Rows of them that reached the last stage.
    pub events: u64,
    /// Seeds with which both were trained.
    pub seeds: u64,
    /// The metric of the run file as it is: the mean over seeds.
    pub own: f64,
    /// Its 95% interval; `None` where rows tell none.
    pub own_interval: Option<[f64; 2]>,
    /// The metric of the best setting: the mean over seeds.
    pub found: f64,
    /// Its 95% interval.
    pub found_interval: Option<[f64; 2]>,
    /// By how much the best setting is better, above 0 where it is.
    pub gain: f64,
    /// The 95% interval of the gain on the same rows; `None` where neither rows nor seeds tell one.
    pub gain_interval: Option<[f64; 2]>,
}

/// What a tuning comes to, by the rows on which nothing was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No setting was better than the run file as it is on the windows.
    NothingBetter,
    /// The best setting is better by more than chance.
    Better,
    /// The rows cannot tell the best setting from the run file as it is.
    WithinChance,
    /// The best setting is worse by more than chance.
    Worse,
    /// How much of the difference is chance is not known.
    Untold,
}

impl TuningReport {
    /// The comparison on the rows on which nothing was chosen.
    pub fn last(&self) -> Option<&WindowComparison> {
        self.compared.iter().find(|compared| compared.window.is_none())
    }

    /// What the tuning comes to.
    pub fn outcome(&self) -> Outcome {
        let Some(last) = self.last() else { return Outcome::NothingBetter };
        match last.gain_interval {
            None => Outcome::Untold,
            Some([low, _]) if low > 0.0 => Outcome::Better,
            Some([_, high]) if high < 0.0 => Outcome::Worse,
            Some(_) => Outcome::WithinChance,
        }
    }

    /// What the tuning comes to, in a sentence or two.
    pub fn verdict(&self) -> String {
        let select = &self.select;
        let own = &self.run_file;
        let found = &self.found;
        let numbers = self.last().map_or_else(String::new, |last| {
            let gain = format!("{:+.4}", last.gain);
            last.gain_interval
                .map_or_else(|| gain.clone(), |[low, high]| format!("{gain} (95%: {low:+.4} to {high:+.4})"))
        });
        match self.outcome() {
            Outcome::NothingBetter => {
                let tried = self.tried.len().saturating_sub(1);
                let windows = match self.out_of_time {
                    false => "the windows of its training rows",
                    true => "those windows of its training rows that the time allowed",
                };
                format!("None of {tried} settings was better than the run file as it is on {windows}.")
            }
            Outcome::Better => format!(
                "Better by more than chance: on the last window, on which nothing was chosen, {select} gains {numbers} with \
                 {found}."
            ),
            Outcome::WithinChance => format!(
                "Within chance: on the last window, on which nothing was chosen, {select} changes by {numbers} with {found}. As \
                 far as these rows can tell {own} is as good."
            ),
            Outcome::Worse => format!(
                "Worse: on the last window, on which nothing was chosen, {select} changes by {numbers} with {found}; what \
                 helped on the other windows does not last. Keep {own}."
            ),
            Outcome::Untold => format!(
                "On the last window, on which nothing was chosen, {select} changes by {numbers} with {found}; how much of that \
                 is chance cannot be told. Until it can, {own} is as good."
            ),
        }
    }

    /// The command to go on with: it trains the run file that was found where that is better, and otherwise the one that was
    /// tuned.
    pub fn next(&self, found: &str) -> String {
        let own = &self.run_file;
        match self.outcome() {
            Outcome::Better => format!("esmm train {found}"),
            Outcome::NothingBetter => format!("esmm train {own}"),
            Outcome::WithinChance | Outcome::Worse | Outcome::Untold => {
                format!("esmm train {own}     (not {found}: it is not known to be better)")
            }
        }
    }

    /// Writes `tuning.json`.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn write(&self, path: &Path) -> Result<(), RunError> {
        write_json(path, self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        read_json(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(gain: f64, gain_interval: Option<[f64; 2]>) -> TuningReport {
        let last = WindowComparison {
            window: None,
            rows: 1000,
            events: 80,
            seeds: 3,
            own: 0.7,
            own_interval: None,
            found: 0.7 + gain,
            found_interval: None,
            gain,
            gain_interval,
        };
        TuningReport {
            format_version: FORMAT_VERSION,
            run_file: "run.toml".to_owned(),
            select: "ctcvr.auc".to_owned(),
            windows: 3,
            time: None,
            found: Setting { epochs: Some(2), ..Setting::default() },
            tried: Vec::new(),
            compared: vec![WindowComparison { window: Some(0), ..last.clone() }, last],
            trainings: 12,
            seconds: 1.0,
            out_of_time: false,
        }
    }

    #[test]
    fn the_verdict_is_that_of_the_rows_on_which_nothing_was_chosen() {
        let better = report(0.01, Some([0.002, 0.018])).verdict();
        assert!(better.starts_with("Better by more than chance") && better.contains("+0.0100"), "{better}");
        let chance = report(0.01, Some([-0.001, 0.021])).verdict();
        assert!(chance.starts_with("Within chance"), "{chance}");
        assert!(chance.ends_with("As far as these rows can tell run.toml is as good."), "{chance}");
        let worse = report(-0.01, Some([-0.02, -0.001])).verdict();
        assert!(worse.starts_with("Worse") && worse.ends_with("Keep run.toml."), "{worse}");
        assert!(report(0.01, None).verdict().contains("cannot be told"));
        let nothing = TuningReport { compared: Vec::new(), ..report(0.0, None) };
        assert!(nothing.verdict().starts_with("None of 0 settings was better"));
        let over = TuningReport { out_of_time: true, ..nothing };
        assert!(over.verdict().ends_with("on those windows of its training rows that the time allowed."));
    }

    /// Whoever follows the advice trains the file that the sentence before speaks for.
    #[test]
    fn the_advice_follows_the_verdict() {
        let none = TuningReport { compared: Vec::new(), ..report(0.0, None) };
        for (report, next) in [
            (report(0.01, Some([0.002, 0.018])), "out/found.toml"),
            (report(0.01, Some([-0.001, 0.021])), "run.toml"),
            (report(0.0, Some([0.0, 0.0])), "run.toml"),
            (report(-0.01, Some([-0.02, -0.001])), "run.toml"),
            (report(0.01, None), "run.toml"),
            (none, "run.toml"),
        ] {
            let advice = report.next("out/found.toml");
            let named = advice.strip_prefix("esmm train ").unwrap().split_whitespace().next();
            assert_eq!(named, Some(next), "{:?}", report.outcome());
        }
    }
}
