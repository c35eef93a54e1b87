//! What an evaluation says about the scores: histograms of logits and probabilities, and precision-recall curves.

use esmm_metrics::{Evaluator, Link, TaskScores};

use crate::entry::Entry;
use crate::histogram::Histogram;
use crate::pr_curve::PrCurve;

/// The largest log-probability that a logit is computed from: those above differ by rounding alone.
const LOG_P_MAX: f64 = -1e-7;

/// Histograms and curves of all tasks of a split.
pub(crate) fn entries(scores: &Evaluator) -> Vec<Entry> {
    let mut entries = histograms(scores);
    for (name, ranking) in scores.rankings() {
        let curve = ranking.ok().as_ref().and_then(PrCurve::of);
        entries.extend(curve.map(|curve| Entry::pr_curve(format!("pr/{name}"), &curve)));
    }
    entries
}

/// Logits of each tower and probabilities of each task, over all rows.
///
/// The evaluator keeps the scores of a conditional task for the rows that reached the stage before; over all rows
/// they follow from the probabilities of reaching both stages.
fn histograms(scores: &Evaluator) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut before: Option<TaskScores<'_>> = None;
    let mut conditional: Option<&str> = None;
    for task in scores.task_scores() {
        if task.is_conditional {
            conditional = Some(task.name);
            continue;
        }
        let log_p = (0..task.values.len()).map(|row| {
            let log_before = before.map_or(0.0, |before| log_reach(before, row));
            (log_reach(task, row) - log_before).min(0.0)
        });
        let logits = match task.link {
            Link::Logit => Histogram::of(task.values.iter().map(|&logit| f64::from(logit))),
            Link::Log => Histogram::of(log_p.clone().map(logit)),
        };
        let tower = conditional.unwrap_or(task.name);
        found.push((format!("logits/{tower}"), logits));
        found.push((format!("probabilities/{tower}"), Histogram::of(log_p.map(f64::exp))));
        if conditional.take().is_some() {
            let reached = (0..task.values.len()).map(|row| log_reach(task, row).exp());
            found.push((format!("probabilities/{}", task.name), Histogram::of(reached)));
        }
        before = Some(task);
    }
    let entry = |(tag, histogram): (String, Option<Histogram>)| {
        Some(Entry::histogram(tag, &histogram?).described("Over all impressions, clicked or not."))
    };
    found.into_iter().filter_map(entry).collect()
}

/// `log P` of reaching the task's stage.
fn log_reach(task: TaskScores<'_>, row: usize) -> f64 {
    let score = f64::from(task.values[row]);
    match task.link {
        Link::Logit => score.min(0.0) - (-score.abs()).exp().ln_1p(),
        Link::Log => score,
    }
}

/// The logit of a log-probability.
fn logit(log_p: f64) -> f64 {
    let log_p = log_p.min(LOG_P_MAX);
    log_p - (-log_p.exp_m1()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{HistogramProto, Value};
    use esmm_metrics::EvaluationRows;

    /// Conditional logits of two rows and three stages.
    const LOGITS: [f32; 6] = [1.0, -2.0, 0.5, -3.0, 4.0, -1.0];

    fn log_sigmoid(x: f64) -> f64 {
        -(-x).exp().ln_1p()
    }

    fn histogram(entries: &[Entry], tag: &str) -> HistogramProto {
        let values = entries.iter().map(|entry| entry.clone().into_value());
        let value = values.filter(|value| value.tag == tag).find_map(|value| value.value);
        let Some(Value::Histogram(histogram)) = value else { panic!("{tag}: {value:?}") };
        histogram
    }

    #[test]
    fn towers_and_tasks_over_all_rows() {
        let logs = |sign: f64| -> Vec<f32> {
            let rows = LOGITS.chunks(3).map(|row| {
                row.iter().scan(0.0, |sum, logit| {
                    *sum += log_sigmoid(f64::from(*logit));
                    Some(*sum)
                })
            });
            rows.flatten()
                .map(|log_p| if sign > 0.0 { log_p } else { (-log_p.exp()).ln_1p() } as f32)
                .collect()
        };
        let stages = ["click", "cart", "buy"].map(str::to_owned);
        let mut scores = Evaluator::new(&stages, false, false).unwrap();
        let log_reach = &logs(1.0);
        let log_not_reach = &logs(-1.0);
        // The second row reached nothing: its conditional logits are nowhere among the measured ones.
        let depth = &[3, 0];
        let rows = EvaluationRows {
            log_reach,
            log_not_reach,
            conditional_logit: &LOGITS,
            depth,
            group: None,
            truth: None,
            open: None,
        };
        scores.push(rows);
        let entries = entries(&scores);
        for (column, tower) in ["click", "cart|click", "buy|cart"].into_iter().enumerate() {
            let pair = [LOGITS[column], LOGITS[column + 3]].map(f64::from);
            let found = histogram(&entries, &format!("logits/{tower}"));
            assert!((found.max - pair[0].max(pair[1])).abs() < 1e-5, "{tower}: {found:?}");
            assert!((found.min - pair[0].min(pair[1])).abs() < 1e-5, "{tower}: {found:?}");
            let p: f64 = pair.map(|logit| log_sigmoid(logit).exp()).iter().sum();
            let found = histogram(&entries, &format!("probabilities/{tower}"));
            assert!((found.sum - p).abs() < 1e-6 && found.num == 2.0, "{tower}: {found:?}");
        }
        for (column, task) in [(1, "cart"), (2, "buy")] {
            let p = [log_reach[column], log_reach[column + 3]].map(|log_p| f64::from(log_p).exp());
            let found = histogram(&entries, &format!("probabilities/{task}"));
            assert!((found.sum - p[0] - p[1]).abs() < 1e-9, "{task}: {found:?}");
        }
        let curves = entries.iter().filter(|entry| (*entry).clone().into_value().tag.starts_with("pr/"));
        assert_eq!(curves.count(), 5);
    }

    #[test]
    fn a_certain_stage_has_a_finite_logit() {
        assert!(logit(0.0).is_finite() && logit(0.0) > 16.0);
        assert!((logit(log_sigmoid(-3.0)) + 3.0).abs() < 1e-12);
    }
}
