//! One task of the funnel: which rows it is measured on, which of them are positive, and how well they are told apart.

use crate::auc::auc_of;
use crate::calibration::Calibration;
use crate::curves::{Link, Ranking};
use crate::goal::MetricError;
use crate::group_auc::{NO_GROUP, group_auc_of};
use crate::log_loss::{LogLoss, log_sigmoid};
use crate::report::{GroupMetrics, RESERVED, Reasons, TaskMetrics, defined};
use crate::rows::EvaluationRows;
use crate::undefined::Undefined;
use crate::weighted::{weighted_auc_of, weighted_group_auc_of};

/// One task: reaching `reach` stages, measured on the rows that reached `given`.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) given: u8,
    reach: u8,
    pub(crate) scores: Vec<f32>,
    log_loss: LogLoss,
    calibration: Calibration,
}

/// What is known of the rows of a split beside their scores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) depth: &'a [u8],
    /// Rows on which only the first stage is measured.
    pub(crate) open: Option<&'a [bool]>,
    pub(crate) groups: Option<&'a [u64]>,
    pub(crate) weights: Option<&'a [f32]>,
}

/// The tasks in report order, their names checked.
pub(crate) fn tasks(stages: &[String]) -> Result<Vec<Task>, MetricError> {
    let mut tasks: Vec<Task> = Vec::new();
    for (index, (stage, reach)) in stages.iter().zip(1_u8..).enumerate() {
        let [conditional, reaching] = match (stages.len(), index) {
            (2, 0) => ["", "ctr"].map(str::to_owned),
            (2, _) => ["cvr", "ctcvr"].map(str::to_owned),
            (_, 0) => [String::new(), stage.clone()],
            _ => [format!("{stage}|{}", stages[index - 1]), stage.clone()],
        };
        let given = reach - 1;
        let conditional = (given > 0).then_some((conditional, given));
        for (name, given) in conditional.into_iter().chain([(reaching, 0)]) {
            if RESERVED.contains(&name.as_str()) || tasks.iter().any(|task| task.name == name) {
                return Err(MetricError::StageName { stage: stage.clone(), key: name });
            }
            tasks.push(Task::new(name, given, reach));
        }
    }
    Ok(tasks)
}

impl Task {
    fn new(name: String, given: u8, reach: u8) -> Self {
        Self {
            name,
            given,
            reach,
            scores: Vec::new(),
            log_loss: LogLoss::default(),
            calibration: Calibration::default(),
        }
    }

    /// Adds the measured rows of a batch of a funnel of `stages` stages.
    pub(crate) fn push(&mut self, rows: &EvaluationRows<'_>, weights: Option<&[f32]>, stages: usize) {
        let column = usize::from(self.reach) - 1;
        if self.given == 0 {
            make_room(&mut self.scores, rows.depth.len());
        }
        for (row, depth) in rows.depth.iter().enumerate() {
            if !self.measures(*depth, rows.open.is_some_and(|open| open[row])) {
                continue;
            }
            let cell = row * stages + column;
            let logit = rows.conditional_logit[cell];
            let log_reach = rows.log_reach[cell];
            // The logit ranks as the log-probability does, and it keeps apart what rounding would tie.
            let score = if self.given + 1 == self.reach { logit } else { log_reach };
            let (log_p, log_not_p) = if self.given == 0 {
                (f64::from(log_reach), f64::from(rows.log_not_reach[cell]))
            } else {
                (log_sigmoid(f64::from(logit)), log_sigmoid(-f64::from(logit)))
            };
            let positive = *depth >= self.reach;
            self.scores.push(score);
            let weight = weights.map_or(1.0, |weights| f64::from(weights[row]));
            self.log_loss.push_weighted(log_p, log_not_p, positive, weight);
            self.calibration.push_weighted(log_p, positive, weight);
        }
    }

    /// Whether a row counts for this task.
    fn measures(&self, depth: u8, is_open: bool) -> bool {
        depth >= self.given && (self.reach == 1 || !is_open)
    }

    /// The places of the measured rows among all rows of the split.
    fn places<'a>(&'a self, split: &Measured<'a>) -> impl Iterator<Item = usize> + 'a {
        let Measured { depth, open, .. } = *split;
        let all = depth.iter().enumerate();
        let measured =
            all.filter(move |(row, depth)| self.measures(**depth, open.is_some_and(|open| open[*row])));
        measured.map(|(row, _)| row)
    }

    /// Whether each of the measured rows is positive.
    pub(crate) fn labels<'a>(&'a self, split: &Measured<'a>) -> impl Iterator<Item = bool> + 'a {
        let depth = split.depth;
        self.places(split).map(move |row| depth[row] >= self.reach)
    }

    /// The weight of each of the measured rows.
    fn weights<'a>(&'a self, split: &Measured<'a>, weights: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
        self.places(split).map(move |row| f64::from(weights[row]))
    }

    /// The metrics of everything pushed; `split` has all of its rows.
    pub(crate) fn metrics(&self, split: &Measured<'_>) -> TaskMetrics {
        let mut undefined = Reasons::new();
        let mut note = |name: &str, value: Result<f64, Undefined>| {
            let renamed = value.map_err(|reason| reason.with_row(|row| self.row_of_split(split, row)));
            defined(&mut undefined, name, renamed)
        };
        let scored = self.scores.iter().copied().zip(self.labels(split));
        let auc = match split.weights {
            None => auc_of(self.scores.len(), scored),
            Some(weights) => {
                let rows = scored.zip(self.weights(split, weights));
                weighted_auc_of(rows.map(|((score, positive), weight)| (score, positive, weight)))
            }
        };
        let interval = auc.and_then(|auc| auc.ci95());
        let grouped = split.groups.map(|groups| self.grouped(split, groups));
        let metrics = TaskMetrics {
            auc: note("auc", auc.map(|auc| auc.value)),
            auc_ci95: note("auc_ci95", interval.map(|ci| ci.0))
                .and(interval.ok())
                .map(|(low, high)| [low, high]),
            log_loss: note("log_loss", self.log_loss.value()),
            normalized_entropy: note("normalized_entropy", self.log_loss.normalized_entropy()),
            calibration: note("calibration", self.calibration.value()),
            gauc: grouped.map(|(metrics, value)| GroupMetrics { value: note("gauc", value), ..metrics }),
            undefined: Reasons::new(),
        };
        TaskMetrics { undefined, ..metrics }
    }

    /// What the scores are.
    pub(crate) fn link(&self) -> Link {
        if self.given + 1 == self.reach { Link::Logit } else { Link::Log }
    }

    /// The measured rows by score; `split` has all of its rows.
    ///
    /// # Errors
    /// A score that is NaN, with its row of the split.
    pub(crate) fn ranking(&self, split: &Measured<'_>) -> Result<Ranking, Undefined> {
        let rows = self.scores.iter().copied().zip(self.labels(split));
        let ranking = match split.weights {
            None => Ranking::of(self.scores.len(), rows, self.link()),
            Some(weights) => {
                let rows = rows.zip(self.places(split));
                let rows = rows.map(|((score, positive), place)| (score, positive, weights[place]));
                Ranking::of_weighted(rows, self.link())
            }
        };
        ranking.map_err(|reason| reason.with_row(|row| self.row_of_split(split, row)))
    }

    /// The groups' counts, and GAUC.
    fn grouped(&self, split: &Measured<'_>, groups: &[u64]) -> (GroupMetrics, Result<f64, Undefined>) {
        let rows_without_group = self.places(split).filter(|row| groups[*row] == NO_GROUP).count() as u64;
        let rows = self.places(split).zip(&self.scores);
        let rows = rows.map(|(row, score)| (groups[row], *score, split.depth[row] >= self.reach));
        let found = match split.weights {
            None => group_auc_of(rows),
            Some(weights) => {
                let rows = rows.zip(self.weights(split, weights));
                weighted_group_auc_of(
                    rows.map(|((group, score, positive), weight)| (group, score, positive, weight)),
                )
            }
        };
        let (groups_used, groups_skipped) = match found {
            Ok(found) => (found.groups_used, found.groups_skipped),
            Err(Undefined::NoGroups { groups }) => (0, groups),
            Err(_) => (0, 0),
        };
        let counts = GroupMetrics { value: None, groups_used, groups_skipped, rows_without_group };
        (counts, found.map(|found| found.value))
    }

    /// The row of the split which is the `row`-th measured one.
    fn row_of_split(&self, split: &Measured<'_>, row: u64) -> u64 {
        self.places(split).nth(row as usize).map_or(row, |place| place as u64)
    }
}

/// Makes room for more values, an eighth ahead: doubling would leave up to half of the memory unused.
pub(crate) fn make_room<T>(values: &mut Vec<T>, more: usize) {
    if values.capacity() - values.len() < more {
        values.reserve_exact(more + values.len() / 8);
    }
}
