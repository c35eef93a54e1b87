//! ROC, precision and recall, calibration by decile, histograms of the scores.

use esmm_metrics::{ReliabilityBin, TaskCurves};

use crate::chart::{Axis, Chart, Dot, Mark, series};
use crate::format::{grouped, measured_on, metric, percent, prediction_label, ratio, task_label};
use crate::html::Html;
use crate::run::RunReport;
use crate::table::Table;
use esmm_run::analysis::{NamedCurves, SplitAnalysis};

/// Calibration by decile, a chart a task, and the numbers.
pub(crate) fn write_calibration(run: &RunReport, _: u8, html: &mut Html) {
    let Some(split) = run.analysed() else { return };
    let (size, effective) = match has_weights(split) {
        false => ("size", ""),
        true => ("weight", ", by the effective number of rows (Kish)"),
    };
    html.paragraph(&format!(
        "The rows of the {} split in ten parts of equal {size} by their score. On the dotted line what was predicted is \
         what happened; upright lines are 95% intervals of the observed rate (Wilson{effective}). A ring marks a prediction \
         outside of its interval.",
        split.split
    ));
    charts(split, html, |task| calibration_chart(&[(series(0), "", task)], &task.task));
    html.within("details", &[], |html| {
        html.element("summary", &[], "The numbers");
        split.tasks.iter().for_each(|task| decile_table(task, html));
    });
}

/// The ROC and precision-recall curves.
pub(crate) fn write_ranking(run: &RunReport, _: u8, html: &mut Html) {
    let Some(split) = run.analysed() else { return };
    let measured = run.splits().into_iter().find(|measured| measured.name == split.split);
    let area = |task: &str| measured.as_ref().and_then(|split| split.metrics.task(task)?.auc);
    charts(split, html, |task| {
        let mut chart = roc_chart(&[(series(0), "", task)], &task.task)?;
        chart.caption.push_str(&format!(": AUC {}", metric(area(&task.task))));
        Ok(chart)
    });
    charts(split, html, |task| pr_chart(&[(series(0), "", task)], &task.task));
    html.note(&format!(
        "On the {} split. The dotted lines are a ranking by chance. Precision at low recall rests on few rows. Curves are \
         thinned to some hundred points; AUC and average precision are those of the whole curves.{}",
        split.split,
        if has_weights(split) { " All of them count what rows weigh." } else { "" },
    ));
}

/// The scores, rows with and without the event apart.
pub(crate) fn write_histograms(run: &RunReport, _: u8, html: &mut Html) {
    let Some(split) = run.analysed() else { return };
    charts(split, html, histogram_chart);
    html.note(&format!(
        "On the {} split. Each label's columns add up to 100%, so that rare events can be seen; bins are equally wide in \
         the logit. The further apart the two are, the better they are told apart.{}",
        split.split,
        if has_weights(split) { " These columns count rows, whatever the rows weigh." } else { "" },
    ));
}

/// Whether the rows have weights, their own or those of sampling.
pub(crate) fn has_weights(split: &SplitAnalysis) -> bool {
    split.tasks.iter().any(|task| task.curves.weight.is_some())
}

fn charts(split: &SplitAnalysis, html: &mut Html, chart: impl Fn(&NamedCurves) -> Result<Chart, String>) {
    html.within("div", &[("class", "charts")], |html| {
        for task in &split.tasks {
            match chart(task) {
                Ok(chart) => chart.draw(html),
                Err(reason) => html.note(&format!("{}: not drawn, {reason}.", task_label(&task.task))),
            }
        }
    });
}

/// A curve of a run: its class, the run's name (empty when there is one), the curves of the task.
pub(crate) type RunCurves<'a> = (&'static str, &'a str, &'a NamedCurves);

/// Observed over predicted rates on logarithmic axes.
pub(crate) fn calibration_chart(runs: &[RunCurves<'_>], task: &str) -> Result<Chart, String> {
    let bins = || runs.iter().flat_map(|(_, _, task)| &task.curves.deciles);
    let rates = || bins().flat_map(|bin| [bin.predicted, bin.observed]).filter(|rate| *rate > 0.0);
    let low = rates().fold(f64::INFINITY, f64::min);
    let high = rates().fold(0.0, f64::max);
    if low > high {
        return Err(reason(runs, "scores", "there are no rows"));
    }
    let low = low / 1.4;
    let high = (high * 1.4).min(1.0);
    let title = "calibrated: as many predicted as observed".to_owned();
    let mut marks = vec![Mark::Rule { from: [low, low], to: [high, high], title }];
    for (class, name, task) in runs {
        let dots = task.curves.deciles.iter().map(|bin| decile_dot(bin, name));
        marks.push(Mark::Dots { class, dots: dots.collect() });
    }
    Ok(Chart {
        caption: format!("{}: predicted and observed, {}", prediction_label(task), measured_on(task)),
        description: runs.iter().map(|(_, name, task)| deciles_in_words(name, &task.curves)).collect(),
        x: Axis::log("predicted", low, high, percent),
        y: Axis::log("observed", low, high, percent),
        marks,
        legend: legend(runs),
    })
}

fn decile_dot(bin: &ReliabilityBin, name: &str) -> Dot {
    let title = format!(
        "{}predicted {}, observed {} ({} of {}{}, 95%: {} to {})",
        prefix(name),
        percent(bin.predicted),
        percent(bin.observed),
        grouped(bin.positives),
        grouped(bin.rows),
        if bin.weight.is_some() { " rows, which count by their weights" } else { "" },
        percent(bin.observed_ci95[0]),
        percent(bin.observed_ci95[1]),
    );
    let x = bin.predicted;
    let y = bin.observed;
    let interval = Some(bin.observed_ci95);
    Dot { x, y, interval, ringed: !inside(bin), title }
}

fn deciles_in_words(name: &str, curves: &TaskCurves) -> String {
    let off = curves.deciles.iter().filter(|bin| !inside(bin)).count();
    format!("{}{off} of {} deciles are off by more than chance. ", prefix(name), curves.deciles.len())
}

/// Whether the prediction lies in the interval of what was observed.
fn inside(bin: &ReliabilityBin) -> bool {
    (bin.observed_ci95[0]..=bin.observed_ci95[1]).contains(&bin.predicted)
}

/// True positive over false positive rate.
pub(crate) fn roc_chart(runs: &[RunCurves<'_>], task: &str) -> Result<Chart, String> {
    let title = "a ranking by chance".to_owned();
    let mut marks = vec![Mark::Rule { from: [0.0; 2], to: [1.0; 2], title }];
    for (class, name, task) in runs {
        let Some(points) = &task.curves.roc else { continue };
        let title = format!("{}ROC of {}", prefix(name), task_label(&task.task));
        marks.push(Mark::Line { class, points: points.clone(), title });
    }
    if marks.len() == 1 {
        return Err(reason(runs, "roc", "there is no curve"));
    }
    Ok(Chart {
        caption: format!("ROC of {}, {}", task_label(task), measured_on(task)),
        description: "True positive rate over false positive rate".to_owned(),
        x: Axis::share("false positive rate"),
        y: Axis::share("true positive rate"),
        marks,
        legend: legend(runs),
    })
}

fn pr_chart(runs: &[RunCurves<'_>], task: &str) -> Result<Chart, String> {
    let mut marks = Vec::new();
    let mut highest = 0.0_f64;
    let mut areas = Vec::new();
    for (class, name, task) in runs {
        let Some(points) = &task.curves.pr else { continue };
        let area = metric(task.curves.average_precision);
        areas.push(format!("average precision {area}"));
        // The first few rows alone would stretch the axis.
        let steady = points.iter().filter(|point| point[0] >= 0.02).map(|point| point[1]);
        highest = steady.fold(highest, f64::max);
        let title = format!("{}{}, average precision {area}", prefix(name), task_label(&task.task));
        marks.push(Mark::Steps { class, points: points.clone(), title });
    }
    let Some((_, _, first)) = runs.first().filter(|_| !marks.is_empty()) else {
        return Err(reason(runs, "pr", "there is no curve"));
    };
    let base = first.curves.base_rate();
    let title = format!("base rate {}: a ranking by chance", percent(base));
    marks.insert(0, Mark::Rule { from: [0.0, base], to: [1.0, base], title });
    Ok(Chart {
        caption: format!("Precision and recall of {}", task_label(task)),
        description: format!("{}, base rate {}", areas.join(", "), percent(base)),
        x: Axis::share("recall"),
        y: Axis::linear("precision", 0.0, highest.max(base), percent),
        marks,
        legend: legend(runs),
    })
}

fn histogram_chart(task: &NamedCurves) -> Result<Chart, String> {
    let histogram = &task.curves.histogram;
    let (Some(low), Some(high)) = (histogram.edges.first(), histogram.edges.last()) else {
        return Err(reason(&[(series(0), "", task)], "scores", "there are no rows"));
    };
    let probability = |logit: f64| 1.0 / (1.0 + (-logit).exp());
    let mut highest = 0.0_f64;
    let mut columns = |counts: &[u64], what: &str| -> Vec<(f64, String)> {
        let all = counts.iter().sum::<u64>().max(1) as f64;
        let bins = histogram.edges.windows(2).zip(counts).map(|(edges, rows)| {
            let share = *rows as f64 / all;
            highest = highest.max(share);
            let from = percent(probability(edges[0]));
            let to = percent(probability(edges[1]));
            (share, format!("{from} to {to}: {} rows {what} ({})", grouped(*rows), percent(share)))
        });
        bins.collect()
    };
    let without = columns(&histogram.negatives, "without the event");
    let with = columns(&histogram.positives, "with it");
    let edges = &histogram.edges;
    let column = |class, columns| Mark::Columns { class, edges: edges.clone(), columns };
    let negatives = task.curves.rows - task.curves.positives;
    Ok(Chart {
        caption: format!("{}, {}", prediction_label(&task.task), measured_on(&task.task)),
        description: "Share of the rows of each label by predicted probability".to_owned(),
        x: Axis::logit("predicted probability", *low, *high),
        y: Axis::linear("share of the label's rows", 0.0, highest, percent),
        marks: vec![column(series(2), without), column(series(1), with)],
        legend: vec![
            ("s2 fill", format!("without the event ({})", grouped(negatives))),
            ("s1 fill", format!("with the event ({})", grouped(task.curves.positives))),
        ],
    })
}

fn decile_table(task: &NamedCurves, html: &mut Html) {
    let caption = format!("{} by decile, {}", prediction_label(&task.task), measured_on(&task.task));
    let mut table = Table::new(&caption).texts(&["part"]).numbers(&[
        "scores",
        "rows",
        "events",
        "predicted",
        "observed",
        "95% interval",
        "predicted / observed",
    ]);
    for (place, bin) in (1..).zip(&task.curves.deciles) {
        let off = (bin.observed > 0.0).then(|| bin.predicted / bin.observed);
        let class = match bin.observed_ci95 {
            [_, high] if bin.predicted > high => "high",
            [low, _] if bin.predicted < low => "low",
            _ => "",
        };
        table.row(vec![
            format!("{place}").into(),
            format!("{} – {}", percent(bin.range[0]), percent(bin.range[1])).into(),
            grouped(bin.rows).into(),
            grouped(bin.positives).into(),
            percent(bin.predicted).into(),
            percent(bin.observed).into(),
            format!("{} – {}", percent(bin.observed_ci95[0]), percent(bin.observed_ci95[1])).into(),
            crate::table::Cell::new(ratio(off)).class(class),
        ]);
    }
    table.write(html);
}

fn legend(runs: &[RunCurves<'_>]) -> Vec<(&'static str, String)> {
    let named = runs.iter().filter(|(_, name, _)| !name.is_empty());
    named.map(|(class, name, _)| (*class, (*name).to_owned())).collect()
}

fn prefix(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("{name}: ") }
}

/// Why there is nothing to draw.
fn reason(runs: &[RunCurves<'_>], key: &str, otherwise: &str) -> String {
    let known = runs.iter().find_map(|(_, _, task)| {
        let reasons = &task.curves.undefined;
        reasons.get(key).or_else(|| reasons.get("scores"))
    });
    known.cloned().unwrap_or_else(|| otherwise.to_owned())
}
