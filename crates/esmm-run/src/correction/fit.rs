//! Fitting a correction of all stages, and what it does to rows that it was not fitted on.

use super::measured::{ChangeSums, TaskChange};
use super::platt::{Platt, PlattFit, Row};
use super::{CorrectedRow, Correction};
use crate::error::RunError;
use crate::evaluation::HostScores;

/// Events of a stage, and rows without, below which nothing is fitted.
const FEWEST: usize = 10;

/// Rows with their labels, as a correction is fitted on them. Takes 4 bytes a stage and 6 bytes a row.
#[derive(Debug, Clone, Default)]
pub struct LabelledLogits {
    stages: usize,
    conditional: Vec<f32>,
    depth: Vec<u8>,
    weight: Vec<f32>,
    open: Vec<bool>,
}

impl LabelledLogits {
    /// No rows of a funnel of so many stages.
    pub fn new(stages: usize) -> Self {
        Self { stages, ..Self::default() }
    }

    /// Adds scored rows with what each weighs; `None`: once.
    pub fn push(&mut self, scores: &HostScores, weights: Option<&[f32]>) {
        let labels = &scores.labels;
        let rows = labels.depth.len();
        self.conditional.extend_from_slice(&scores.conditional);
        self.depth.extend_from_slice(&labels.depth);
        match weights {
            Some(weights) => self.weight.extend_from_slice(weights),
            None => self.weight.resize(self.weight.len() + rows, 1.0),
        }
        self.open.extend((0..rows).map(|row| labels.counts.is_open(row)));
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.depth.len()
    }

    /// Share of the impressions that reached the first stage, by weight; `None` where nothing weighs anything.
    pub fn click_rate(&self) -> Option<f64> {
        let weights = self.weight.iter().map(|weight| f64::from(*weight));
        let all: f64 = weights.clone().sum();
        let clicked: f64 =
            weights.zip(&self.depth).filter(|(_, depth)| **depth > 0).map(|(weight, _)| weight).sum();
        (all > 0.0).then(|| clicked / all)
    }

    fn logits(&self, row: usize) -> &[f32] {
        &self.conditional[row * self.stages..][..self.stages]
    }

    /// Rows that count for a stage.
    fn of_stage(&self, stage: usize) -> impl Iterator<Item = usize> + Clone {
        (0..self.rows()).filter(move |row| self.weight[*row] > 0.0 && (stage == 0 || !self.open[*row]))
    }

    /// Logit of reaching a stage, whether it was reached, and the weight, of the rows of one half or of all.
    fn rows_of(&self, stage: usize, half: Option<usize>) -> Vec<Row> {
        let own = self.of_stage(stage).filter(|row| half.is_none_or(|half| row % 2 == half));
        let mut logs = CorrectedRow::default();
        let row = |row: usize| {
            logs.of_model(self.logits(row));
            let logit = logs.log_reach[stage] - logs.log_not_reach[stage];
            (logit, usize::from(self.depth[row]) > stage, f64::from(self.weight[row]))
        };
        own.map(row).collect()
    }

    fn fit(&self, names: &[String], half: Option<usize>) -> Result<Vec<PlattFit>, RunError> {
        let of_stage = |stage: usize| {
            let rows = self.rows_of(stage, half);
            Platt::fit(rows.iter().copied()).map_err(|reason| {
                let of = if half.is_some() {
                    " of one half of the rows, which checks the other half,"
                } else {
                    ""
                };
                RunError::Scoring(format!("{}: the scores{of} {reason}", names[stage]))
            })
        };
        (0..self.stages).map(of_stage).collect()
    }

    /// Checks that there is something to fit on.
    fn check(&self, names: &[String]) -> Result<(), RunError> {
        for (stage, name) in names.iter().enumerate() {
            let reached = |row: &usize| usize::from(self.depth[*row]) > stage;
            let rows = self.of_stage(stage).count();
            let events = self.of_stage(stage).filter(reached).count();
            if events < FEWEST || rows - events < FEWEST {
                let open = if stage > 0 && self.open.contains(&true) {
                    ", those that are too young left out"
                } else {
                    ""
                };
                return Err(RunError::Scoring(format!(
                    "{events} of {rows} impressions reached {name}{open}: a calibration needs {FEWEST} that did and \
                     {FEWEST} that did not, and some hundreds to be of use"
                )));
            }
        }
        Ok(())
    }

    /// What happens to each task where each half of the rows is corrected as the other half says.
    fn changes(&self, names: &[String], halves: &[Correction; 2]) -> Vec<TaskChange> {
        let tasks = tasks(names);
        let mut sums = vec![ChangeSums::default(); tasks.len()];
        let (mut before, mut after) = (CorrectedRow::default(), CorrectedRow::default());
        for row in 0..self.rows() {
            if self.weight[row] <= 0.0 {
                continue;
            }
            before.of_model(self.logits(row));
            halves[1 - row % 2].apply(self.logits(row), &mut after);
            let depth = usize::from(self.depth[row]);
            for (task, sums) in tasks.iter().zip(&mut sums) {
                if (task.stage > 0 && self.open[row]) || (task.conditional && depth < task.stage) {
                    continue;
                }
                let [before, after] = [&before, &after].map(|row| task.logs(row));
                sums.add(before, after, depth > task.stage, f64::from(self.weight[row]));
            }
        }
        tasks.iter().zip(&sums).map(|(task, sums)| sums.finish(&task.name)).collect()
    }
}

/// Fits a correction of all stages on labelled rows, and measures what it does: each half of the rows (every second one) is
/// corrected by what the other half says. `names` are those of the stages.
///
/// # Errors
/// Fewer than 10 rows that reached a stage, or that did not; scores that say nothing about a stage.
pub fn fit(rows: &LabelledLogits, names: &[String]) -> Result<(Vec<PlattFit>, Vec<TaskChange>), RunError> {
    rows.check(names)?;
    let correction = |half: usize| -> Result<Correction, RunError> {
        let fits = rows.fit(names, Some(half))?;
        Ok(Correction { stages: fits.into_iter().map(|fit| fit.platt).collect() })
    };
    let halves = [correction(0)?, correction(1)?];
    Ok((rows.fit(names, None)?, rows.changes(names, &halves)))
}

struct Task {
    name: String,
    stage: usize,
    conditional: bool,
}

/// The tasks in the order and under the names of `metrics.json`.
fn tasks(stages: &[String]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (stage, name) in stages.iter().enumerate() {
        let [conditional, reach] = match (stages.len(), stage) {
            (2, 0) => ["", "ctr"].map(str::to_owned),
            (2, _) => ["cvr", "ctcvr"].map(str::to_owned),
            (_, 0) => [String::new(), name.clone()],
            _ => [format!("{name}|{}", stages[stage - 1]), name.clone()],
        };
        if stage > 0 {
            tasks.push(Task { name: conditional, stage, conditional: true });
        }
        tasks.push(Task { name: reach, stage, conditional: false });
    }
    tasks
}

impl Task {
    /// `ln p` and `ln(1 - p)` of the task.
    fn logs(&self, row: &CorrectedRow) -> (f64, f64) {
        match self.conditional {
            false => (row.log_reach[self.stage], row.log_not_reach[self.stage]),
            true => {
                let logit = row.conditional_logit(self.stage);
                (super::log_sigmoid(logit), super::log_sigmoid(-logit))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(stages: usize) -> Vec<String> {
        (1..=stages).map(|stage| format!("stage{stage}")).collect()
    }

    /// A number in `[0, 1)` that looks random.
    fn noise(row: usize, stage: usize) -> f64 {
        // SplitMix64: G. Steele, D. Lea, C. Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
        let mut mixed = ((row * 64 + stage) as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as f64 / 2.0_f64.powi(64)
    }

    /// Rows whose true logits are `shift` above those of the model.
    fn rows(stages: usize, count: usize, shift: f32) -> LabelledLogits {
        let mut found = LabelledLogits::new(stages);
        for row in 0..count {
            let mut depth = 0;
            for stage in 0..stages {
                let logit = (3.0 * noise(row, 7 * stage + 3) - 2.0) as f32;
                let p = 1.0 / (1.0 + (-f64::from(logit + shift)).exp());
                found.conditional.push(logit);
                if usize::from(depth) == stage && noise(row, 13 * stage + 1) < p {
                    depth += 1;
                }
            }
            found.depth.push(depth);
            found.weight.push(1.0);
            found.open.push(false);
        }
        found
    }

    #[test]
    fn probabilities_that_are_off_are_put_right() {
        for stages in [2, 3, 4] {
            let rows = rows(stages, 20_000, -0.7);
            let (fits, changes) = fit(&rows, &names(stages)).unwrap();
            assert_eq!((fits.len(), changes.len()), (stages, 2 * stages - 1));
            assert!((fits[0].platt.slope - 1.0).abs() < 4.0 * fits[0].slope_error, "{fits:?}");
            assert!((fits[0].platt.intercept + 0.7).abs() < 4.0 * fits[0].intercept_error, "{fits:?}");
            for change in &changes {
                assert!(change.before.low > 1.1, "{change:?}");
                assert!((0.85..1.15).contains(&change.after.value), "{change:?}");
                // A hundred events are too few to tell.
                let expected = if change.events > 500 { "better" } else { change.verdict() };
                assert_eq!(change.verdict(), expected, "{change:?}");
                assert_ne!(change.verdict(), "worse", "{change:?}");
            }
        }
    }

    /// A model that is right stays as it is, within what chance allows.
    #[test]
    fn what_is_right_stays() {
        let (fits, changes) = fit(&rows(2, 20_000, 0.0), &names(2)).unwrap();
        for fit in &fits {
            assert!((fit.platt.slope - 1.0).abs() < 4.0 * fit.slope_error, "{fits:?}");
        }
        assert!(changes.iter().all(|change| change.gain.value.abs() < 1e-3), "{changes:?}");
    }

    #[test]
    fn weights_and_open_rows_count() {
        let mut weighted = rows(2, 4000, -0.5);
        let mut doubled = weighted.clone();
        weighted.weight.fill(2.0);
        for row in 0..4000 {
            doubled.conditional.extend_from_slice(&weighted.conditional[2 * row..2 * row + 2]);
        }
        doubled.depth.extend_from_slice(&weighted.depth);
        doubled.weight = vec![1.0; 8000];
        doubled.open = vec![false; 8000];
        let platts = |rows: &LabelledLogits| -> Vec<Platt> {
            fit(rows, &names(2)).unwrap().0.into_iter().map(|fit| fit.platt).collect()
        };
        for (one, other) in platts(&weighted).iter().zip(platts(&doubled)) {
            assert!((one.slope - other.slope).abs() < 1e-8 && (one.intercept - other.intercept).abs() < 1e-8);
        }
        // Rows whose outcome is open count for clicks, and for nothing after.
        let mut open = weighted.clone();
        for row in (0..4000).filter(|row| row % 4 < 2) {
            open.open[row] = true;
            open.depth[row] = open.depth[row].min(1);
        }
        let (all, some) = (platts(&weighted), platts(&open));
        assert_eq!(all[0], some[0]);
        let closed: Vec<usize> = (0..4000).filter(|row| row % 4 >= 2).collect();
        let mut rest = LabelledLogits::new(2);
        for row in closed {
            rest.conditional.extend_from_slice(weighted.logits(row));
            rest.depth.push(weighted.depth[row]);
            rest.weight.push(2.0);
            rest.open.push(false);
        }
        assert_eq!(platts(&rest)[1], some[1]);
    }

    #[test]
    fn too_little_is_an_error() {
        let message = |rows: &LabelledLogits| fit(rows, &names(2)).unwrap_err().to_string();
        let mut none = rows(2, 500, 0.0);
        none.depth.iter_mut().for_each(|depth| *depth = (*depth).min(1));
        assert!(
            message(&none).starts_with("0 of 500 impressions reached stage2: a calibration needs 10"),
            "{}",
            message(&none)
        );
        assert!(message(&LabelledLogits::new(2)).contains("0 of 0 impressions reached stage1"));
        let mut young = rows(2, 500, 0.0);
        young.open.fill(true);
        assert!(message(&young).contains("those that are too young left out"));
        let mut wrong = rows(2, 500, 0.0);
        wrong.conditional.iter_mut().for_each(|logit| *logit = -*logit);
        let expected = "stage1: the scores of one half of the rows, which checks the other half, are lower in rows that reached";
        assert!(message(&wrong).starts_with(expected), "{}", message(&wrong));
    }
}
