//! Batches in, the metrics of the split out.

use crate::curves::{Ranking, TaskCurves};
use crate::entire_space::Truth;
use crate::goal::{MetricError, names};
use crate::report::SplitMetrics;
use crate::rows::EvaluationRows;
use crate::task::{Measured, Task, make_room, tasks};
use crate::undefined::Undefined;

/// Collects the rows of a split, batch by batch. The result does not depend on how the rows are cut into batches.
///
/// Keeps 1 byte a row and 4 for the score of each task that the row counts for, with up to an eighth more as room to grow,
/// and 4 more while [`metrics`](Self::metrics) sorts: of a funnel of two stages 14.2 bytes a row at most, 19 a clicked
/// one. Where they are asked for, 8 more for the group (and 16 while GAUC is sorted), 16 more for the truth; 4 more where rows
/// have weights, and 1 where the outcome of some is open.
///
/// # Examples
/// ```
/// use esmm_metrics::{EvaluationRows, Evaluator};
///
/// // Two impressions of a funnel of two stages: one was clicked, none converted.
/// let reach: [f32; 4] = [0.6, 0.3, 0.2, 0.1]; // P(click), P(click and conversion) of each
/// let mut evaluator = Evaluator::new(&["click".into(), "conversion".into()], false, false)?;
/// evaluator.push(EvaluationRows {
///     log_reach: &reach.map(f32::ln),
///     log_not_reach: &reach.map(|p| (-p).ln_1p()),
///     conditional_logit: &[0.4, 0.0, -1.4, 0.0],
///     depth: &[1, 0],
///     group: None,
///     truth: None,
///     open: None,
/// });
/// let metrics = evaluator.metrics();
/// assert_eq!(metrics.metric("ctr.auc")?, 1.0);
/// assert!(metrics.metric("ctcvr.auc").is_err()); // without a conversion it is undefined, not 0.5
/// # Ok::<(), esmm_metrics::MetricError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Evaluator {
    stages: Vec<String>,
    pub(crate) tasks: Vec<Task>,
    depth: Vec<u8>,
    groups: Option<Vec<u64>>,
    truth: Option<Truth>,
    weights: Option<Vec<f32>>,
    open: Option<Vec<bool>>,
}

impl Evaluator {
    /// An empty evaluator for the stages of a funnel, first to last. `with_group` asks for GAUC, `with_truth` for
    /// the entire-space metrics.
    ///
    /// # Errors
    /// Fewer than 2 or more than 255 stages, a stage whose name the report needs for something else, and a truth with
    /// more than two stages.
    pub fn new(stages: &[String], with_group: bool, with_truth: bool) -> Result<Self, MetricError> {
        let found = stages.len();
        if !(2..=255).contains(&found) {
            return Err(MetricError::Stages { found });
        }
        if with_truth && found != 2 {
            return Err(MetricError::Truth { found });
        }
        Ok(Self {
            stages: stages.to_vec(),
            tasks: tasks(stages)?,
            depth: Vec::new(),
            groups: with_group.then(Vec::new),
            truth: with_truth.then(Truth::default),
            weights: None,
            open: None,
        })
    }

    /// The same evaluator for rows that stand for several rows each, as the first rows with weights make it
    /// ([`push_weighted`](Self::push_weighted)): 4 bytes a row more, and 16 while a task is sorted. Metrics and curves count
    /// weights then, while `rows`, `clicks` and `conversions` still count rows. What compares with the truth of synthetic
    /// data is left out.
    #[must_use]
    pub fn weighted(self) -> Self {
        Self { weights: Some(Vec::new()), truth: None, ..self }
    }

    /// The names that [`SplitMetrics::metric`] will know.
    pub fn metric_names(&self) -> Vec<String> {
        let tasks = self.tasks.iter().map(|task| task.name.as_str());
        names(tasks, self.groups.is_some(), self.truth.is_some())
    }

    /// Whether some rows came with weights, or are to.
    pub fn is_weighted(&self) -> bool {
        self.weights.is_some()
    }

    /// What all rows weigh; their number where they have no weights.
    pub fn total_weight(&self) -> f64 {
        match &self.weights {
            None => self.depth.len() as f64,
            Some(weights) => weights.iter().map(|weight| f64::from(*weight)).sum(),
        }
    }

    /// Adds the rows of a batch; where other rows have weights, each counts once.
    ///
    /// # Panics
    /// When lengths disagree, a depth is above K, or group or truth are given where they were not announced (or the
    /// other way round).
    pub fn push(&mut self, rows: EvaluationRows<'_>) {
        if self.weights.is_some() {
            let once = vec![1.0; rows.depth.len()];
            return self.push_weighted(rows, &once);
        }
        self.add(rows, None);
    }

    /// Adds the rows of a batch with their weights, each finite and not negative. Rows from before count once.
    ///
    /// # Panics
    /// As [`push`](Self::push), and when there are not as many weights as rows.
    pub fn push_weighted(&mut self, rows: EvaluationRows<'_>, weights: &[f32]) {
        assert_eq!(weights.len(), rows.depth.len(), "one weight for each row");
        let before = self.depth.len();
        let own = self.weights.get_or_insert_with(|| vec![1.0; before]);
        make_room(own, weights.len());
        own.extend_from_slice(weights);
        // What is known of the truth counts rows.
        self.truth = None;
        self.add(rows, Some(weights));
    }

    fn add(&mut self, rows: EvaluationRows<'_>, weights: Option<&[f32]>) {
        let rows = if self.weights.is_some() || self.open.is_some() || rows.open.is_some() {
            self.truth = None;
            EvaluationRows { truth: None, ..rows }
        } else {
            rows
        };
        self.check(&rows);
        let before = self.depth.len();
        if rows.open.is_some() || self.open.is_some() {
            let own = self.open.get_or_insert_with(|| vec![false; before]);
            make_room(own, rows.depth.len());
            match rows.open {
                Some(open) => own.extend_from_slice(open),
                None => own.resize(before + rows.depth.len(), false),
            }
        }
        let stages = self.stages.len();
        for task in &mut self.tasks {
            task.push(&rows, weights, stages);
        }
        make_room(&mut self.depth, rows.depth.len());
        self.depth.extend_from_slice(rows.depth);
        if let (Some(groups), Some(group)) = (&mut self.groups, rows.group) {
            make_room(groups, group.len());
            groups.extend_from_slice(group);
        }
        if let (Some(truth), Some(batch)) = (&mut self.truth, rows.truth) {
            truth.push(rows.conditional_logit, batch);
        }
    }

    /// The metrics of everything pushed so far.
    #[must_use]
    pub fn metrics(&self) -> SplitMetrics {
        let reached = (1..).zip(&self.stages).map(|(stage, name)| {
            let rows = self.depth.iter().filter(|depth| **depth >= stage).count();
            (name.clone(), rows as u64)
        });
        let mut reached: Vec<_> = reached.collect();
        if let [(clicks, _), (conversions, _)] = reached.as_mut_slice() {
            "clicks".clone_into(clicks);
            "conversions".clone_into(conversions);
        }
        let entire_space = self.truth.as_ref().map(|truth| truth.metrics(&self.depth));
        let measured = self.measured();
        let metrics = |task: &Task| task.metrics(&measured);
        SplitMetrics {
            rows: self.depth.len() as u64,
            weight: self.weights.as_ref().map(|_| self.total_weight()),
            open: self.open.as_ref().map(|open| open.iter().filter(|open| **open).count() as u64),
            reached,
            tasks: self.tasks.iter().map(|task| (task.name.clone(), metrics(task))).collect(),
            entire_space,
        }
    }

    /// The measured rows of each task by score, with the task's name, in report order: what any curve is read off.
    /// Sorts 4 bytes a row when the iterator comes to the task, 8 where rows have weights.
    pub fn rankings(&self) -> impl Iterator<Item = (&str, Result<Ranking, Undefined>)> {
        self.tasks.iter().map(|task| (task.name.as_str(), task.ranking(&self.measured())))
    }

    /// The curves of each task, with its name, in report order.
    pub fn curves(&self) -> Vec<(String, TaskCurves)> {
        self.rankings().map(|(name, ranking)| (name.to_owned(), TaskCurves::of(ranking))).collect()
    }

    /// The scores of a task's measured rows with their labels; `None` for a task that there is not, and where rows have
    /// weights.
    pub(crate) fn scores_and_labels(&self, task: &str) -> Option<(&[f32], Vec<bool>)> {
        if self.weights.is_some() {
            return None;
        }
        let task = self.tasks.iter().find(|other| other.name == task)?;
        Some((&task.scores, task.labels(&self.measured()).collect()))
    }

    fn measured(&self) -> Measured<'_> {
        Measured {
            depth: &self.depth,
            open: self.open.as_deref(),
            groups: self.groups.as_deref(),
            weights: self.weights.as_deref(),
        }
    }

    fn check(&self, rows: &EvaluationRows<'_>) {
        let batch = rows.depth.len();
        let stages = self.stages.len();
        let expected = [batch * stages; 3];
        let found = [rows.log_reach.len(), rows.log_not_reach.len(), rows.conditional_logit.len()];
        assert_eq!(
            found, expected,
            "log reach, log not reach and logits of {batch} rows and {stages} stages"
        );
        let deepest = rows.depth.iter().copied().max().unwrap_or(0);
        assert!(usize::from(deepest) <= stages, "depth {deepest} in a funnel of {stages} stages");
        let group = rows.group.map(<[u64]>::len);
        assert_eq!(group, self.groups.as_ref().map(|_| batch), "groups of {batch} rows");
        let open = rows.open.map_or(batch, <[bool]>::len);
        assert_eq!(open, batch, "open outcomes of {batch} rows");
        let truth = rows.truth.map(|_| ());
        assert_eq!(truth, self.truth.as_ref().map(|_| ()), "truth given against truth announced");
    }
}

#[cfg(test)]
mod tests {
    use super::{EvaluationRows, Evaluator, MetricError};
    use crate::entire_space::TruthRows;
    use crate::log_loss::log_sigmoid;
    use crate::{SplitMetrics, TaskMetrics, auc, calibration, log_loss};

    const LOGITS: [f32; 18] =
        [1.0, 0.5, -1.0, -2.0, 0.25, 3.0, 2.0, 1.5, 0.0, 0.5, -3.0, 1.0, -1.0, 2.0, -0.5, 0.75, -0.5, 4.0];
    const DEPTH: [u8; 6] = [3, 0, 2, 1, 2, 3];

    fn names(stages: &[&str]) -> Vec<String> {
        stages.iter().map(|stage| (*stage).to_owned()).collect()
    }

    /// `log P_k` and `log(1 - P_k)` of rows of `stages` logits.
    fn reach(logits: &[f32], stages: usize) -> (Vec<f32>, Vec<f32>) {
        let rows = logits.chunks(stages).map(|row| {
            row.iter().scan(0.0, |log_p, logit| {
                *log_p += log_sigmoid(f64::from(*logit));
                Some((*log_p as f32, (-log_p.exp()).ln_1p() as f32))
            })
        });
        rows.flatten().unzip()
    }

    fn rows<'a>(logs: &'a (Vec<f32>, Vec<f32>), logits: &'a [f32], depth: &'a [u8]) -> EvaluationRows<'a> {
        let log_reach = &logs.0;
        let log_not_reach = &logs.1;
        EvaluationRows {
            log_reach,
            log_not_reach,
            conditional_logit: logits,
            depth,
            group: None,
            truth: None,
            open: None,
        }
    }

    fn evaluate(stages: &[&str], logits: &[f32], depth: &[u8]) -> SplitMetrics {
        let mut evaluator = Evaluator::new(&names(stages), false, false).unwrap();
        evaluator.push(rows(&reach(logits, stages.len()), logits, depth));
        evaluator.metrics()
    }

    #[test]
    fn each_task_has_its_rows() {
        let found = evaluate(&["click", "cart", "buy"], &LOGITS, &DEPTH);
        assert_eq!(found.reached.iter().map(|(_, rows)| *rows).collect::<Vec<_>>(), [5, 4, 2]);
        let order: Vec<_> = found.tasks.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(order, ["click", "cart|click", "cart", "buy|cart", "buy"]);
        let (log_reach, log_not_reach) = reach(&LOGITS, 3);
        for (name, given, stage) in
            [("click", 0, 1), ("cart|click", 1, 2), ("cart", 0, 2), ("buy|cart", 2, 3), ("buy", 0, 3)]
        {
            let measured: Vec<usize> = (0..6).filter(|row| DEPTH[*row] >= given).collect();
            let pick = |matrix: &[f32]| -> Vec<f32> {
                measured.iter().map(|row| matrix[row * 3 + usize::from(stage) - 1]).collect()
            };
            let labels: Vec<bool> = measured.iter().map(|row| DEPTH[*row] >= stage).collect();
            let logs = |sign: f64| -> Vec<f32> {
                pick(&LOGITS).iter().map(|logit| log_sigmoid(sign * f64::from(*logit)) as f32).collect()
            };
            let (scores, log_p, log_not_p) = match given {
                0 => (pick(&log_reach), pick(&log_reach), pick(&log_not_reach)),
                _ => (pick(&LOGITS), logs(1.0), logs(-1.0)),
            };
            let task = found.task(name).unwrap();
            assert_eq!(task.auc, Some(auc(&scores, &labels).unwrap().value), "{name}");
            let loss = log_loss(&log_p, &log_not_p, &labels).unwrap();
            assert!((task.log_loss.unwrap() - loss).abs() < 1e-7, "{name}: {task:?}, {loss}");
            let ratio = calibration(&log_p, &labels).unwrap();
            assert!((task.calibration.unwrap() - ratio).abs() < 1e-7, "{name}: {task:?}, {ratio}");
        }
    }

    /// The curves' totals are the metrics, for each of the five tasks.
    #[test]
    fn curves_agree_with_the_metrics() {
        let mut evaluator = Evaluator::new(&names(&["click", "cart", "buy"]), false, false).unwrap();
        evaluator.push(rows(&reach(&LOGITS, 3), &LOGITS, &DEPTH));
        let curves = evaluator.curves();
        let metrics = evaluator.metrics();
        assert_eq!(curves.len(), 5);
        for ((name, curves), (task, metrics)) in curves.iter().zip(&metrics.tasks) {
            assert_eq!(name, task);
            let roc = curves.roc.as_ref().unwrap();
            let trapezoid = |pair: &[[f64; 2]]| (pair[1][0] - pair[0][0]) * (pair[1][1] + pair[0][1]) / 2.0;
            let area: f64 = roc.windows(2).map(trapezoid).sum();
            assert!((area - metrics.auc.unwrap()).abs() < 1e-12, "{name}: {area}, {metrics:?}");
            let predicted: f64 = curves.deciles.iter().map(|bin| bin.predicted * bin.rows as f64).sum();
            let ratio = predicted / curves.positives as f64;
            assert!((ratio - metrics.calibration.unwrap()).abs() < 1e-6, "{name}: {ratio}, {metrics:?}");
        }
    }

    /// Rows with a weight are as many copies of them, in every metric of every task; weights of 1 change no bit.
    #[test]
    fn weights_are_copies() {
        let copies = [2.0_f32, 3.0, 1.0, 2.0, 4.0, 1.0];
        let repeat = |values: &[f32]| -> Vec<f32> {
            let rows = values.chunks(3).zip(copies);
            rows.flat_map(|(row, copies)| row.repeat(copies as usize)).collect()
        };
        let depth: Vec<u8> =
            DEPTH.iter().zip(copies).flat_map(|(depth, copies)| vec![*depth; copies as usize]).collect();
        let expected = evaluate(&["click", "cart", "buy"], &repeat(&LOGITS), &depth);
        let weighted = |weights: &[f32]| {
            let stages = names(&["click", "cart", "buy"]);
            let mut evaluator = Evaluator::new(&stages, false, false).unwrap().weighted();
            evaluator.push_weighted(rows(&reach(&LOGITS, 3), &LOGITS, &DEPTH), weights);
            (evaluator.metrics(), evaluator.curves())
        };
        let (found, curves) = weighted(&copies);
        // The curves' totals are the metrics.
        for ((name, curves), (_, metrics)) in curves.iter().zip(&found.tasks) {
            let roc = curves.roc.as_ref().unwrap();
            let trapezoid = |pair: &[[f64; 2]]| (pair[1][0] - pair[0][0]) * (pair[1][1] + pair[0][1]) / 2.0;
            let area: f64 = roc.windows(2).map(trapezoid).sum();
            assert!((area - metrics.auc.unwrap()).abs() < 1e-12, "{name}: {area}, {metrics:?}");
            let bins = curves.deciles.iter();
            let predicted: f64 = bins.map(|bin| bin.predicted * bin.weight.unwrap()).sum();
            let ratio = predicted / curves.positive_weight.unwrap();
            assert!((ratio - metrics.calibration.unwrap()).abs() < 1e-6, "{name}: {ratio}, {metrics:?}");
        }
        assert_eq!((found.rows, found.tasks.len()), (6, expected.tasks.len()));
        for ((name, found), (_, expected)) in found.tasks.iter().zip(&expected.tasks) {
            let values = |task: &TaskMetrics| {
                [task.auc, task.log_loss, task.normalized_entropy, task.calibration].map(Option::unwrap)
            };
            for (found, expected) in values(found).into_iter().zip(values(expected)) {
                assert!((found - expected).abs() < 1e-12, "{name}: {found}, {expected}");
            }
        }
        let plain = evaluate(&["click", "cart", "buy"], &LOGITS, &DEPTH);
        for ((_, one), (_, plain)) in weighted(&[1.0; 6]).0.tasks.iter().zip(&plain.tasks) {
            assert_eq!((one.log_loss, one.calibration), (plain.log_loss, plain.calibration));
            assert_eq!((one.auc, one.normalized_entropy), (plain.auc, plain.normalized_entropy));
        }
    }

    /// Rows with an open outcome are measured as clicks only: later tasks are those of the other rows.
    #[test]
    fn open_outcomes_count_for_the_first_stage_only() {
        let stages = names(&["click", "cart", "buy"]);
        let open = [true, false, false, true, false, false];
        let logs = reach(&LOGITS, 3);
        let mut evaluator = Evaluator::new(&stages, false, false).unwrap();
        evaluator.push(EvaluationRows { open: Some(&open), ..rows(&logs, &LOGITS, &DEPTH) });
        let found = evaluator.metrics();
        let all = evaluate(&["click", "cart", "buy"], &LOGITS, &DEPTH);
        let closed: Vec<usize> = (0..6).filter(|row| !open[*row]).collect();
        let logits: Vec<f32> = closed.iter().flat_map(|row| LOGITS[row * 3..][..3].to_vec()).collect();
        let depth: Vec<u8> = closed.iter().map(|row| DEPTH[*row]).collect();
        let without = evaluate(&["click", "cart", "buy"], &logits, &depth);
        assert_eq!(found.tasks[0], all.tasks[0]);
        assert_eq!(found.tasks[1..], without.tasks[1..]);
        assert_ne!(found.tasks[1..], all.tasks[1..]);
        // In batches, the first of which has none.
        let mut batches = Evaluator::new(&stages, false, false).unwrap();
        for (start, end) in [(1, 3), (3, 6), (0, 1)] {
            let cells = start * 3..end * 3;
            let logs = (logs.0[cells.clone()].to_vec(), logs.1[cells.clone()].to_vec());
            let some = open[start..end].contains(&true).then_some(&open[start..end]);
            batches.push(EvaluationRows { open: some, ..rows(&logs, &LOGITS[cells], &DEPTH[start..end]) });
        }
        for ((name, one), (_, other)) in batches.metrics().tasks.iter().zip(&found.tasks) {
            assert_eq!(one.auc, other.auc, "{name}");
            assert!((one.log_loss.unwrap() - other.log_loss.unwrap()).abs() < 1e-12, "{name}");
        }
        assert_eq!(batches.curves()[2].1.positives, 3, "of four carts one is open");
    }

    /// The first weights may come late, and rows without any count once.
    #[test]
    fn rows_before_the_first_weights_count_once() {
        let stages = names(&["click", "cart", "buy"]);
        let halves = |first: Option<&[f32]>, second: Option<&[f32]>| {
            let mut evaluator = Evaluator::new(&stages, false, false).unwrap();
            let logs = reach(&LOGITS, 3);
            for (weights, range) in [(first, 0..3), (second, 3..6)] {
                let cells = range.start * 3..range.end * 3;
                let logs = (logs.0[cells.clone()].to_vec(), logs.1[cells.clone()].to_vec());
                let rows = rows(&logs, &LOGITS[cells], &DEPTH[range]);
                match weights {
                    Some(weights) => evaluator.push_weighted(rows, weights),
                    None => evaluator.push(rows),
                }
            }
            (evaluator.total_weight(), evaluator.metrics())
        };
        let (ones, weights) = ([1.0_f32; 3], [2.0_f32, 0.0, 3.0]);
        assert_eq!(halves(None, Some(&weights)), halves(Some(&ones), Some(&weights)));
        assert_eq!(halves(Some(&weights), None), halves(Some(&weights), Some(&ones)));
        assert_eq!(halves(None, Some(&weights)).0, 8.0);
    }

    #[test]
    fn a_nan_is_a_reason_that_names_the_row_of_the_split() {
        let mut logits = [0.5_f32; 12];
        logits[9] = f32::NAN; // pCVR of row 4, the third clicked one
        let found = evaluate(&["a", "b"], &logits, &[1, 0, 2, 0, 1, 2]);
        let cvr = found.task("cvr").unwrap();
        assert_eq!((cvr.auc, cvr.log_loss, cvr.calibration), (None, None, None));
        for name in ["auc", "auc_ci95", "log_loss", "normalized_entropy", "calibration"] {
            assert_eq!(cvr.undefined[name], "row 4: the score is not a number", "{name}");
        }
        assert_eq!(found.metric("ctr.auc"), Ok(0.5));
        assert!(!serde_json::to_string(&found).unwrap().contains("NaN"));
    }

    #[test]
    fn logits_of_90_are_neither_ties_nor_infinite() {
        // As probabilities in f32 all are 1: the ranking and the loss would be lost.
        let found = evaluate(&["a", "b"], &[91.0, 92.0, 90.0, 91.0, 92.0, 93.0], &[0, 1, 2]);
        assert_eq!(found.metric("ctr.auc"), Ok(0.5));
        assert_eq!(found.metric("cvr.auc"), Ok(1.0));
        assert_eq!(found.metric("cvr.log_loss"), Ok(45.5));
        // This helper's log(1 - P) is -inf, which row 0 was not allowed to be.
        let sure = found.task("ctr").unwrap();
        assert!(sure.log_loss.is_none() && sure.undefined["log_loss"].contains("row 0: "), "{sure:?}");
    }

    #[test]
    fn clicks_are_ranked_by_logit() {
        // In f32 both log-probabilities are -ln 2.
        let found = evaluate(&["a", "b"], &[2e-9, 0.0, 1e-9, 0.0], &[1, 0]);
        assert_eq!(found.metric("ctr.auc"), Ok(1.0));
    }

    #[test]
    fn no_rows() {
        let evaluator = Evaluator::new(&names(&["click", "conversion"]), true, true).unwrap();
        let found = evaluator.metrics();
        assert_eq!((found.rows, found.reached[0].1), (0, 0));
        for name in found.metric_names() {
            let error = found.metric(&name).unwrap_err().to_string();
            assert_eq!(error, format!("metric `{name}` is undefined: there are no rows"));
        }
        serde_json::to_string(&found).unwrap();
    }

    #[test]
    fn without_a_true_ctcvr_the_product_stands_in() {
        let logits = &LOGITS[..8];
        let logs = reach(logits, 2);
        let evaluate = |ctr, ctcvr| {
            let mut evaluator = Evaluator::new(&names(&["a", "b"]), false, true).unwrap();
            let truth = Some(TruthRows { cvr: &[0.5, 0.25, 0.75, 0.5], ctr, ctcvr });
            evaluator.push(EvaluationRows { truth, ..rows(&logs, logits, &[2, 1, 2, 0]) });
            evaluator.metrics().entire_space.unwrap()
        };
        let ctr: &[f32] = &[0.5, 1.0, 0.5, 0.25];
        let found = evaluate(Some(ctr), None);
        assert_eq!(found, evaluate(Some(ctr), Some(&[0.25, 0.25, 0.375, 0.125])));
        // CTR ranks clicks 3 of 3; on clicked rows 0.5 and 0.75 beat 0.25; of the products one pair is a tie.
        let best = found.best.unwrap();
        assert_eq!((best.ctr_auc, best.cvr_auc, best.ctcvr_auc), (Some(1.0), Some(1.0), Some(0.875)));
        assert_eq!(evaluate(None, None).best, None);
    }

    #[test]
    fn stages_that_cannot_be_reported() {
        let error = |stages: &[&str], truth| Evaluator::new(&names(stages), false, truth).unwrap_err();
        assert_eq!(error(&["click"], false), MetricError::Stages { found: 1 });
        assert_eq!(error(&["a", "b", "c"], true), MetricError::Truth { found: 3 });
        let reserved = error(&["click", "rows", "buy"], false).to_string();
        assert_eq!(reserved, "stage `rows`: the report needs `rows` for something else, rename the stage");
        assert!(error(&["a", "b", "b|a"], false).to_string().starts_with("stage `b|a`"));
        assert!(Evaluator::new(&names(&["rows", "rows"]), false, false).is_ok());
    }

    #[test]
    #[should_panic(expected = "left: [4, 3, 4]")]
    fn shapes_must_agree() {
        let logs = (vec![-0.5; 4], vec![-0.5; 3]);
        let mut evaluator = Evaluator::new(&names(&["a", "b"]), false, false).unwrap();
        evaluator.push(rows(&logs, &[0.0; 4], &[0, 1]));
    }

    #[test]
    #[should_panic(expected = "depth 3 in a funnel of 2 stages")]
    fn depth_must_fit() {
        evaluate(&["a", "b"], &[0.0; 2], &[3]);
    }
}
