//! Several runs side by side.

use crate::chart::{Axis, Chart, Dot, Mark, series};
use crate::configuration::differences;
use crate::curves::{RunCurves, calibration_chart, roc_chart};
use crate::format::{NONE, duration, grouped, interval, metric, ratio, task_label};
use crate::headline::{self, CountedTask, ratio_range};
use crate::html::Html;
use crate::learning::{measured, range, reach_tasks, smoothed, validations};
use crate::run::{MeasuredSplit, RunReport};
use crate::table::{Cell, Table};
use esmm_run::analysis::NamedCurves;

/// Anchors and headings of the comparison.
pub(crate) const CONTENTS: [(&str, &str); 4] = [
    ("compare-metrics", "Metrics side by side"),
    ("compare-learning", "Learning curves"),
    ("compare-curves", "Calibration and ranking"),
    ("compare-settings", "Settings that differ"),
];

/// Metrics, learning curves, curves and settings of all runs.
pub(crate) fn write(runs: &[RunReport], html: &mut Html) {
    let parts: [fn(&[RunReport], &mut Html); 4] = [metrics, learning, curves, settings];
    for ((id, title), part) in CONTENTS.into_iter().zip(parts) {
        html.within("section", &[], |html| {
            html.heading(2, id, title);
            part(runs, html);
        });
    }
}

fn metrics(runs: &[RunReport], html: &mut Html) {
    overview(runs, html);
    let measured: Vec<(&RunReport, MeasuredSplit<'_>)> =
        runs.iter().filter_map(|run| Some((run, run.headline()?))).collect();
    let Some((first, reference)) = measured.first() else {
        html.paragraph("No run has metrics yet.");
        return;
    };
    same_rows(&measured, html);
    html.within("div", &[("class", "charts")], |html| {
        for task in headline::tasks(reference.metrics) {
            interval_chart(runs, &task).draw(html);
        }
    });
    for task in headline::tasks(reference.metrics) {
        task_table(&measured, first, &task, html);
    }
    html.note(
        "Intervals that are apart: the difference is more than the chance of which rows were drawn can explain. Intervals \
         that overlap do not say that the models are equally good: on the same rows the chance is mostly shared, so that \
         a paired test can tell apart models whose intervals overlap. Neither says anything about another seed, another \
         day or other users; train each with several seeds to see how much a seed changes.",
    );
}

fn overview(runs: &[RunReport], html: &mut Html) {
    let mut table = Table::new("The runs").texts(&["run", "measured on"]).numbers(&[
        "impressions",
        "best step",
        "parameters",
        "time",
    ]);
    for run in runs {
        let headline = run.headline();
        let number = |value: Option<u64>| value.map_or_else(|| NONE.to_owned(), grouped);
        let parameters = run.model.as_ref().map(|model| esmm_core::ModelSummary::new(model).parameters());
        let time = run.history.as_ref().map_or_else(|| NONE.to_owned(), |history| duration(history.seconds));
        let split = match (&headline, run.metrics.is_some()) {
            (Some(split), true) => format!("{} split", split.name),
            (Some(split), false) => format!("{} split, not ended", split.name),
            (None, _) => "not measured yet".to_owned(),
        };
        table.row(vec![
            run.name.as_str().into(),
            split.into(),
            number(headline.as_ref().map(|split| split.metrics.rows)).into(),
            number(run.best_step()).into(),
            number(parameters).into(),
            time.into(),
        ]);
    }
    table.write(html);
}

/// Says so when the runs were not measured on the same rows, as far as counts can tell.
fn same_rows(measured: &[(&RunReport, MeasuredSplit<'_>)], html: &mut Html) {
    let key = |(_, split): &(&RunReport, MeasuredSplit<'_>)| {
        let counts: Vec<u64> = split.metrics.reached.iter().map(|(_, rows)| *rows).collect();
        (split.name, split.metrics.rows, counts)
    };
    let same = measured.windows(2).all(|pair| key(&pair[0]) == key(&pair[1]));
    match same {
        true => html.note("All runs were measured on as many impressions and events: presumably the same rows."),
        false => html.element(
            "p",
            &[("class", "box warn")],
            "These runs were measured on different rows: differences between their metrics say little about the models.",
        ),
    }
}

fn task_table(
    measured: &[(&RunReport, MeasuredSplit<'_>)],
    first: &RunReport,
    task: &CountedTask<'_>,
    html: &mut Html,
) {
    let mut table = Table::new(&format!("{}: against {}", task_label(task.name), first.name))
        .texts(&["run"])
        .numbers(&["AUC", "95% interval", "difference"])
        .texts(&["intervals"])
        .numbers(&["log loss", "norm. entropy", "calibration", "95% interval"]);
    for (place, (run, split)) in measured.iter().enumerate() {
        let Some(own) = headline::tasks(split.metrics).into_iter().find(|own| own.name == task.name) else {
            continue;
        };
        let difference = own.metrics.auc.zip(task.metrics.auc).map(|(own, other)| own - other);
        let difference =
            difference.filter(|_| place > 0).map_or_else(|| NONE.to_owned(), |by| format!("{by:+.4}"));
        let verdict =
            if place > 0 { overlap(own.metrics.auc_ci95, task.metrics.auc_ci95) } else { Cell::new(NONE) };
        table.row(vec![
            run.name.as_str().into(),
            metric(own.metrics.auc).into(),
            interval(own.metrics.auc_ci95).into(),
            difference.into(),
            verdict,
            metric(own.metrics.log_loss).into(),
            metric(own.metrics.normalized_entropy).into(),
            ratio(own.metrics.calibration).into(),
            ratio_range(own.calibration_interval()).into(),
        ]);
    }
    table.write(html);
}

/// AUC of a task with its intervals, run by run.
fn interval_chart(runs: &[RunReport], task: &CountedTask<'_>) -> Chart {
    let mut marks = Vec::new();
    let mut legend = Vec::new();
    let mut ends = Vec::new();
    for (place, run) in runs.iter().enumerate() {
        legend.push((series(place), format!("{} {}", place + 1, run.name)));
        let Some(split) = run.headline() else { continue };
        let Some(own) = split.metrics.task(task.name) else { continue };
        let Some(area) = own.auc else { continue };
        ends.extend(own.auc_ci95.unwrap_or([area; 2]).map(|end| [0.0, end]));
        let title = format!("{}: AUC {}, 95%: {}", run.name, metric(own.auc), interval(own.auc_ci95));
        let x = (place + 1) as f64;
        let interval = own.auc_ci95;
        let dots = vec![Dot { x, y: area, interval, ringed: false, title }];
        marks.push(Mark::Dots { class: series(place), dots });
    }
    Chart {
        caption: format!("AUC of {} with 95% intervals", task_label(task.name)),
        description: format!("{} runs; the numbers are in the table below", runs.len()),
        x: Axis::numbers("run", runs.len()),
        y: range(&ends, "AUC"),
        marks,
        legend,
    }
}

fn overlap(own: Option<[f64; 2]>, other: Option<[f64; 2]>) -> Cell {
    match own.zip(other) {
        None => Cell::new(NONE),
        Some((own, other)) if own[0] <= other[1] && other[0] <= own[1] => Cell::new("overlap"),
        Some((own, other)) if own[0] > other[1] => Cell::new("apart: higher").class("good"),
        Some(_) => Cell::new("apart: lower").class("low"),
    }
}

fn learning(runs: &[RunReport], html: &mut Html) {
    let tasks: Vec<String> = runs.first().map(reach_tasks).unwrap_or_default();
    let names: Vec<String> = runs.iter().find_map(task_names).unwrap_or_default();
    html.within("div", &[("class", "charts")], |html| {
        for (stage, task) in tasks.iter().enumerate() {
            let curve = |run: &RunReport| {
                let steps = run.history.as_ref().map(|history| history.steps.as_slice()).unwrap_or_default();
                smoothed(steps, |step| step.task_losses.get(stage).copied().flatten())
            };
            let caption = format!("{} log loss of training batches", task_label(task));
            overlaid(runs, &caption, "nats a row", false, curve).draw(html);
        }
        for task in &names {
            let curve = |run: &RunReport| {
                run.history
                    .as_ref()
                    .map(|history| validations(history, task, |task| task.auc))
                    .unwrap_or_default()
            };
            overlaid(runs, &format!("{} AUC on the valid split", task_label(task)), "AUC", true, curve)
                .draw(html);
        }
    });
}

fn task_names(run: &RunReport) -> Option<Vec<String>> {
    let first = run.history.as_ref()?.validations.first()?;
    Some(first.metrics.tasks.iter().map(|(name, _)| name.clone()).collect())
}

fn overlaid(
    runs: &[RunReport],
    caption: &str,
    label: &str,
    dots: bool,
    curve: impl Fn(&RunReport) -> Vec<[f64; 2]>,
) -> Chart {
    let curves: Vec<Vec<[f64; 2]>> = runs.iter().map(curve).collect();
    let mut marks = Vec::new();
    for (place, (run, points)) in runs.iter().zip(&curves).enumerate() {
        match dots {
            true => marks.extend(measured(series(place), points, &run.name, |value| metric(Some(value)))),
            false => marks.push(Mark::Line {
                class: series(place),
                points: points.clone(),
                title: run.name.clone(),
            }),
        }
    }
    let all = curves.concat();
    let last = all.iter().map(|point| point[0]).fold(1.0, f64::max) as u64;
    Chart {
        caption: caption.to_owned(),
        description: format!("{} runs over their steps", runs.len()),
        x: Axis::steps(last),
        y: range(&all, label),
        marks,
        legend: runs.iter().enumerate().map(|(place, run)| (series(place), run.name.clone())).collect(),
    }
}

fn curves(runs: &[RunReport], html: &mut Html) {
    let analysed = || runs.iter().enumerate().filter_map(|(place, run)| Some((place, run, run.analysed()?)));
    let Some((_, _, first)) = analysed().next() else {
        html.paragraph("No run has an analysis yet.");
        return;
    };
    let of_task = |name: &str| -> Vec<RunCurves<'_>> {
        let find = |tasks: &'_ [NamedCurves]| tasks.iter().position(|task| task.task == name);
        analysed()
            .filter_map(|(place, run, split)| {
                Some((series(place), run.name.as_str(), &split.tasks[find(&split.tasks)?]))
            })
            .collect()
    };
    for chart in [calibration_chart, roc_chart] {
        html.within("div", &[("class", "charts")], |html| {
            for task in &first.tasks {
                match chart(&of_task(&task.task), &task.task) {
                    Ok(chart) => chart.draw(html),
                    Err(reason) => html.note(&format!("{}: not drawn, {reason}.", task_label(&task.task))),
                }
            }
        });
    }
}

fn settings(runs: &[RunReport], html: &mut Html) {
    match differences(runs) {
        Some(table) => table.write(html),
        None => html.paragraph("The configurations are the same."),
    }
}
