//! The metrics with their intervals: what a reader asks first.

use esmm_metrics::{SplitMetrics, TaskMetrics, wilson};

use crate::format::{
    NONE, grouped, interval, measured_on, metric, percent, prediction_label, ratio, task_label,
};
use crate::html::Html;
use crate::run::{MeasuredSplit, RunReport};
use crate::table::{Cell, Table};

/// A task of a split with its rows and events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountedTask<'a> {
    pub(crate) name: &'a str,
    pub(crate) metrics: &'a TaskMetrics,
    pub(crate) rows: u64,
    pub(crate) events: u64,
    /// Whether its rows and events are those that the metrics count: not where rows have weights or are left out.
    pub(crate) counted: bool,
}

/// The tasks of a split. Their order is that of the metrics: the first stage, then for each stage the conditional task
/// and the one over all rows.
pub(crate) fn tasks(split: &SplitMetrics) -> Vec<CountedTask<'_>> {
    let count = |stage: usize| match stage {
        0 => split.rows,
        stage => split.reached.get(stage - 1).map_or(0, |(_, rows)| *rows),
    };
    let tasks = split.tasks.iter().enumerate();
    tasks
        .map(|(place, (name, metrics))| {
            let stage = place.div_ceil(2);
            let conditional = place % 2 == 1;
            let rows = if conditional { count(stage) } else { split.rows };
            let counted = split.weight.is_none() && (stage == 0 || split.open.is_none());
            CountedTask { name, metrics, rows, events: count(stage + 1), counted }
        })
        .collect()
}

impl CountedTask<'_> {
    /// 95% interval of the calibration: the predictions over Wilson's interval of the rate that they should have.
    pub(crate) fn calibration_interval(&self) -> Option<[f64; 2]> {
        if !self.counted {
            return None;
        }
        ratio_interval(self.metrics.calibration? * self.events as f64, self.events, self.rows)
    }

    /// The calibration in words, and their class.
    fn verdict(&self) -> (&'static str, &'static str) {
        match self.calibration_interval() {
            None if !self.counted => ("quiet", "rows count in ways of their own"),
            None => ("quiet", "undefined"),
            Some([low, _]) if low > 1.0 => ("high", "▲ predicts too many"),
            Some([_, high]) if high < 1.0 => ("low", "▼ predicts too few"),
            Some(_) => ("good", "within chance"),
        }
    }
}

/// The interval of `predicted / observed` when `events` of `rows` happened. Without an event it has no upper end.
pub(crate) fn ratio_interval(predicted: f64, events: u64, rows: u64) -> Option<[f64; 2]> {
    if rows == 0 {
        return None;
    }
    let [low, high] = wilson(events, rows).map(|rate| rate * rows as f64);
    Some([predicted / high, if low > 0.0 { predicted / low } else { f64::INFINITY }])
}

/// Cards with what counts most, then a table of all splits.
pub(crate) fn write(run: &RunReport, _: u8, html: &mut Html) {
    let Some(headline) = run.headline() else { return };
    if run.metrics.is_none() {
        html.note("The training has not ended: these are the metrics of its best validation so far.");
    }
    cards(&headline, html);
    let splits = if run.metrics.is_some() { run.splits() } else { vec![headline] };
    for split in &splits {
        split_table(split, html);
        undefined(split, html);
    }
    html.note(
        "AUC: the chance that an event is scored above a row without one, with DeLong's 95% interval. Normalized entropy: \
         log loss over that of always predicting the base rate, below 1 is better. Calibration: predicted events over \
         observed ones, 1 is right; its interval is that of the observed rate (Wilson).",
    );
    if splits.iter().any(|split| split.metrics.weight.is_some()) {
        html.note(
            "Rows have weights, or impressions without a click were sampled: metrics and the intervals of AUC count weights, \
             numbers of impressions count rows. Base rates and the intervals of calibrations would count rows and are left out.",
        );
    }
    if let Some(open) = splits.iter().find_map(|split| split.metrics.open) {
        html.note(&format!(
            "Some rows are too young to have converted ({} of the {} split): they count for the first stage only.",
            grouped(open),
            splits.iter().find(|split| split.metrics.open.is_some()).map_or("", |split| split.name)
        ));
    }
    if splits.iter().any(|split| split.metrics.entire_space.is_some()) {
        html.note(
            "Best possible: what the true probabilities of the synthetic data score on the same rows. No model can be \
             expected to do better.",
        );
    }
}

fn cards(split: &MeasuredSplit<'_>, html: &mut Html) {
    html.within("ul", &[("class", "cards")], |html| {
        for task in tasks(split.metrics) {
            html.within("li", &[], |html| {
                let label = format!("{} AUC, {} split", task_label(task.name), split.name);
                html.element("p", &[("class", "kind")], &label);
                html.element("p", &[("class", "big")], &metric(task.metrics.auc));
                html.element("p", &[], &format!("95%: {}", interval(task.metrics.auc_ci95)));
                let label = prediction_label(task.name);
                html.open("p", &[]);
                html.text(&format!("{label} over observed: {} ", ratio(task.metrics.calibration)));
                let (class, verdict) = task.verdict();
                html.element("span", &[("class", class)], &format!("({verdict})"));
                html.close("p");
            });
        }
    });
}

fn split_table(split: &MeasuredSplit<'_>, html: &mut Html) {
    let counts: Vec<String> =
        split.metrics.reached.iter().map(|(stage, rows)| format!("{} {stage}", grouped(*rows))).collect();
    let rows = grouped(split.metrics.rows);
    let caption = format!("{} split: {rows} impressions, {}", capital(split.name), counts.join(", "));
    let best = best_possible(split.metrics);
    let gauc = split.metrics.tasks.iter().any(|(_, task)| task.gauc.is_some());
    let mut table =
        Table::new(&caption).texts(&["task", "measured on"]).numbers(&["base rate", "AUC", "95% interval"]);
    if !best.is_empty() {
        table = table.numbers(&["best possible"]);
    }
    table = table.numbers(&["log loss", "norm. entropy", "calibration", "95% interval"]);
    if gauc {
        table = table.numbers(&["GAUC"]);
    }
    for task in tasks(split.metrics) {
        let base = match task.counted && task.rows > 0 {
            true => percent(task.events as f64 / task.rows as f64),
            false => NONE.to_owned(),
        };
        let measured = task.metrics;
        let mut cells: Vec<Cell> = vec![
            task_label(task.name).into(),
            measured_on(task.name).into(),
            base.into(),
            metric(measured.auc).into(),
            interval(measured.auc_ci95).into(),
        ];
        if !best.is_empty() {
            let value = best.iter().find(|(name, _)| *name == task.name).and_then(|(_, value)| *value);
            cells.push(metric(value).into());
        }
        let calibration = task.calibration_interval();
        cells.extend([
            metric(measured.log_loss).into(),
            metric(measured.normalized_entropy).into(),
            ratio(measured.calibration).into(),
            ratio_range(calibration).into(),
        ]);
        if gauc {
            cells.push(metric(measured.gauc.as_ref().and_then(|gauc| gauc.value)).into());
        }
        table.row(cells);
    }
    table.write(html);
    entire_space(split.metrics, html);
}

/// `0.998 – 1.021`
pub(crate) fn ratio_range(interval: Option<[f64; 2]>) -> String {
    interval.map_or_else(
        || NONE.to_owned(),
        |[low, high]| {
            let high = if high.is_finite() { ratio(Some(high)) } else { "∞".to_owned() };
            format!("{} – {high}", ratio(Some(low)))
        },
    )
}

fn entire_space(split: &SplitMetrics, html: &mut Html) {
    let Some(space) = &split.entire_space else { return };
    let best = space.best.as_ref().and_then(|best| best.entire_space_cvr_auc);
    html.paragraph(&format!(
        "CVR over all impressions, clicked or not, against the true CVR: AUC {} (best possible {}), calibration {}.",
        metric(space.cvr_auc),
        metric(best),
        ratio(space.cvr_calibration)
    ));
}

fn best_possible(split: &SplitMetrics) -> Vec<(&'static str, Option<f64>)> {
    let best = split.entire_space.as_ref().and_then(|space| space.best.as_ref());
    best.map_or_else(Vec::new, |best| {
        vec![("ctr", best.ctr_auc), ("cvr", best.cvr_auc), ("ctcvr", best.ctcvr_auc)]
    })
}

fn undefined(split: &MeasuredSplit<'_>, html: &mut Html) {
    for (task, metrics) in &split.metrics.tasks {
        for (metric, reason) in &metrics.undefined {
            html.note(&format!(
                "{} {metric} is undefined on the {} split: {reason}.",
                task_label(task),
                split.name
            ));
        }
    }
}

/// `test` as `Test`.
pub(crate) fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::{ratio_interval, tasks};
    use esmm_metrics::{SplitMetrics, TaskMetrics};

    #[test]
    fn tasks_have_their_rows_and_events() {
        let names = ["click", "cart|click", "cart", "buy|cart", "buy"];
        let split = SplitMetrics {
            rows: 1000,
            reached: [("click", 100), ("cart", 40), ("buy", 8)]
                .map(|(name, rows)| (name.to_owned(), rows))
                .to_vec(),
            tasks: names.map(|name| (name.to_owned(), TaskMetrics::default())).to_vec(),
            ..SplitMetrics::default()
        };
        let counts: Vec<(u64, u64)> = tasks(&split).iter().map(|task| (task.rows, task.events)).collect();
        assert_eq!(counts, [(1000, 100), (100, 40), (1000, 40), (40, 8), (1000, 8)]);
    }

    #[test]
    fn the_interval_holds_the_ratio() {
        let [low, high] = ratio_interval(110.0, 100, 1000).unwrap();
        assert!(low < 1.1 && 1.1 < high && low > 0.9 && high < 1.35, "{low} {high}");
        assert_eq!(ratio_interval(3.0, 0, 50).unwrap()[1], f64::INFINITY);
        assert_eq!(ratio_interval(3.0, 0, 0), None);
    }
}
