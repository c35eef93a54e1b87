//! Learning curves: losses of the training batches, and what the validations said.

use esmm_metrics::TaskMetrics;

use crate::chart::{Axis, Chart, Dot, Mark, series};
use crate::format::{grouped, metric, prediction_label, ratio, short, significant, task_label};
use crate::html::Html;
use crate::run::RunReport;
use esmm_run::history::{Evaluation, History, Step};

/// Points of a line.
const POINTS: usize = 150;

/// A number of a recorded step.
type OfStep = fn(&Step) -> Option<f64>;

/// Losses, validation metrics, learning rates and speed over the steps.
pub(crate) fn write(run: &RunReport, _: u8, html: &mut Html) {
    let Some(history) = &run.history else { return };
    if run.seeds() > 1 {
        html.note(&format!("These are the curves of the first of {} models.", run.seeds()));
    }
    html.within("div", &[("class", "charts")], |html| {
        for (stage, task) in reach_tasks(run).iter().enumerate() {
            loss_chart(run, history, stage, task).draw(html);
        }
        if !history.validations.is_empty() {
            validation_chart(run, history, "AUC", |task| task.auc).draw(html);
            calibration_chart(run, history).draw(html);
        }
        if !history.steps.is_empty() {
            rate_chart(history).draw(html);
            speed_chart(history).draw(html);
        }
    });
    let lines =
        "Losses of training batches are smoothed over their neighbours; behind them, faint, as they were. ";
    let validations = match history.validations.len() {
        0 => "There has been no validation yet.".to_owned(),
        count => format!("{count} validations; the thin upright line is where the best weights come from."),
    };
    let lines = if history.steps.is_empty() {
        "No step was recorded: the training had fewer than train.log_every. "
    } else {
        lines
    };
    html.note(&format!("{lines}{validations}"));
}

/// The tasks that have a loss: reaching each stage.
pub(crate) fn reach_tasks(run: &RunReport) -> Vec<String> {
    match run.stages().as_slice() {
        [_, _] => ["ctr", "ctcvr"].map(str::to_owned).to_vec(),
        stages => stages.to_vec(),
    }
}

/// A number of each recorded step, at most [`POINTS`] of them: means over the steps between two points.
pub(crate) fn recorded(steps: &[Step], value: impl Fn(&Step) -> Option<f64>) -> Vec<[f64; 2]> {
    let size = steps.len().div_ceil(POINTS).max(1);
    let mean = |steps: &[Step]| {
        let values: Vec<f64> = steps.iter().filter_map(&value).collect();
        let last = steps.last()?.step as f64;
        (!values.is_empty()).then(|| [last, values.iter().sum::<f64>() / values.len() as f64])
    };
    steps.chunks(size).filter_map(mean).collect()
}

/// The same, each point the mean of its neighbours up to a fifteenth of all to both sides (fewer at the ends, as many to
/// both sides).
pub(crate) fn smoothed(steps: &[Step], value: impl Fn(&Step) -> Option<f64>) -> Vec<[f64; 2]> {
    let points = recorded(steps, value);
    let reach = points.len() / 15;
    let around = |place: usize| {
        let reach = reach.min(place).min(points.len() - 1 - place);
        let near = &points[place - reach..=place + reach];
        [points[place][0], near.iter().map(|point| point[1]).sum::<f64>() / near.len() as f64]
    };
    (0..points.len()).map(around).collect()
}

fn loss_chart(run: &RunReport, history: &History, stage: usize, task: &str) -> Chart {
    let loss = |step: &Step| step.task_losses.get(stage).copied().flatten();
    let raw = recorded(&history.steps, loss);
    let train = smoothed(&history.steps, loss);
    let label = task_label(task);
    let valid = validations(history, task, |task| task.log_loss);
    let title = format!("{label} log loss of training batches");
    let mut marks = Vec::new();
    let mut legend = Vec::new();
    if !train.is_empty() {
        let unsmoothed = format!("{title}, not smoothed");
        marks.push(Mark::Line { class: "s0 faint", points: raw, title: unsmoothed });
        marks.push(Mark::Line { class: series(0), points: train.clone(), title });
        legend.push((series(0), "training batches".to_owned()));
    }
    if !valid.is_empty() {
        marks.extend(measured(series(1), &valid, &format!("{label} log loss of validation"), metric_text));
        legend.push((series(1), "validation".to_owned()));
    }
    let all = [train, valid].concat();
    let description =
        format!("{}; {} to {}", legend_text(&legend), first_and_last(&all).0, first_and_last(&all).1);
    with_best(
        Chart {
            caption: format!("Log loss of {label}"),
            description,
            x: step_axis(history),
            y: range(&all, "nats a row"),
            marks,
            legend,
        },
        run,
    )
}

fn validation_chart(
    run: &RunReport,
    history: &History,
    name: &str,
    value: fn(&TaskMetrics) -> Option<f64>,
) -> Chart {
    let mut all = Vec::new();
    let mut marks = Vec::new();
    let mut legend = Vec::new();
    for (place, task) in task_names(history).iter().enumerate() {
        let points = validations(history, task, value);
        marks.extend(measured(series(place), &points, &format!("{} {name}", task_label(task)), metric_text));
        legend.push((series(place), task_label(task)));
        all.extend(points);
    }
    let description = format!("Between {} and {}", bounds(&all).0, bounds(&all).1);
    with_best(
        Chart {
            caption: format!("{name} on the valid split"),
            description,
            x: step_axis(history),
            y: range(&all, name),
            marks,
            legend,
        },
        run,
    )
}

fn calibration_chart(run: &RunReport, history: &History) -> Chart {
    let x = step_axis(history);
    let title = "calibrated: as many predicted as observed".to_owned();
    let mut all = vec![[x.low(), 1.0]];
    let mut marks = vec![Mark::Rule { from: [x.low(), 1.0], to: [x.high(), 1.0], title }];
    let mut legend = Vec::new();
    for (place, task) in task_names(history).iter().enumerate() {
        let points = validations(history, task, |task| task.calibration);
        let title = format!("{} over observed", prediction_label(task));
        marks.extend(measured(series(place), &points, &title, |value| ratio(Some(value))));
        legend.push((series(place), prediction_label(task)));
        all.extend(points);
    }
    let chart = Chart {
        caption: "Calibration on the valid split".to_owned(),
        description: "Predicted over observed events; 1 is right".to_owned(),
        x,
        y: range(&all, "predicted / observed"),
        marks,
        legend,
    };
    with_best(chart, run)
}

fn rate_chart(history: &History) -> Chart {
    let rates: [(&str, OfStep); 2] = [
        ("towers", |step| Some(step.tower_learning_rate)),
        ("tables", |step| Some(step.table_learning_rate)),
    ];
    lines("Learning rate", "learning rate", history, &rates, |value| significant(value, 3))
}

fn speed_chart(history: &History) -> Chart {
    let rates: [(&str, OfStep); 1] = [("rows a second", |step| Some(step.rows_per_second))];
    lines("Speed of the training", "rows a second", history, &rates, short)
}

/// Lines from 0 on.
fn lines(
    caption: &str,
    label: &str,
    history: &History,
    values: &[(&str, OfStep)],
    show: fn(f64) -> String,
) -> Chart {
    let curves: Vec<Vec<[f64; 2]>> =
        values.iter().map(|(_, value)| recorded(&history.steps, value)).collect();
    let highest = curves.iter().flatten().map(|point| point[1]).fold(0.0, f64::max);
    let marks = (0..).zip(values.iter().zip(&curves)).map(|(place, ((name, _), points))| Mark::Line {
        class: series(place),
        points: points.clone(),
        title: (*name).to_owned(),
    });
    let legend = (0..).zip(values).map(|(place, (name, _))| (series(place), (*name).to_owned()));
    Chart {
        caption: caption.to_owned(),
        description: format!("At most {}", show(highest)),
        x: step_axis(history),
        y: Axis::linear(label, 0.0, highest, show),
        marks: marks.collect(),
        legend: if values.len() > 1 { legend.collect() } else { Vec::new() },
    }
}

/// A metric of a task at each validation.
pub(crate) fn validations(
    history: &History,
    task: &str,
    value: impl Fn(&TaskMetrics) -> Option<f64>,
) -> Vec<[f64; 2]> {
    let point =
        |evaluation: &Evaluation| Some([evaluation.step as f64, value(evaluation.metrics.task(task)?)?]);
    history.validations.iter().filter_map(point).collect()
}

/// A line with dots that say their values.
pub(crate) fn measured(
    class: &'static str,
    points: &[[f64; 2]],
    title: &str,
    show: impl Fn(f64) -> String,
) -> [Mark; 2] {
    let dot = |[step, value]: &[f64; 2]| Dot {
        x: *step,
        y: *value,
        interval: None,
        ringed: false,
        title: format!("{title} at step {}: {}", grouped(*step as u64), show(*value)),
    };
    let line = Mark::Line { class, points: points.to_vec(), title: title.to_owned() };
    // Many dots would hide the line.
    let shown = if points.len() <= 40 { points.iter().map(dot).collect() } else { Vec::new() };
    [line, Mark::Dots { class, dots: shown }]
}

/// An axis of steps from 0 to the last one.
pub(crate) fn step_axis(history: &History) -> Axis {
    let steps = history.steps.last().map_or(0, |step| step.step);
    let validated = history.validations.last().map_or(0, |evaluation| evaluation.step);
    Axis::steps(steps.max(validated))
}

/// An axis that holds all points.
pub(crate) fn range(points: &[[f64; 2]], label: &str) -> Axis {
    let values = || points.iter().map(|point| point[1]).filter(|value| value.is_finite());
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    if low > high { Axis::metric(label, 0.0, 1.0) } else { Axis::metric(label, low, high) }
}

fn with_best(mut chart: Chart, run: &RunReport) -> Chart {
    if let Some(step) = run.best_step() {
        let from = [step as f64, chart.y.low()];
        let to = [step as f64, chart.y.high()];
        let title = format!("best weights: step {}", grouped(step));
        chart.description.push_str(&format!("; {title}"));
        chart.marks.insert(0, Mark::Rule { from, to, title });
    }
    chart
}

fn task_names(history: &History) -> Vec<String> {
    let tasks = history.validations.first().map(|evaluation| &evaluation.metrics.tasks);
    tasks.into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn metric_text(value: f64) -> String {
    metric(Some(value))
}

fn legend_text(legend: &[(&'static str, String)]) -> String {
    let names: Vec<&str> = legend.iter().map(|(_, name)| name.as_str()).collect();
    names.join(" and ")
}

fn first_and_last(points: &[[f64; 2]]) -> (String, String) {
    let value = |point: Option<&[f64; 2]>| metric(point.map(|point| point[1]));
    (format!("from {}", value(points.first())), value(points.last()))
}

fn bounds(points: &[[f64; 2]]) -> (String, String) {
    let values = || points.iter().map(|point| point[1]);
    let found = |value: f64| metric(value.is_finite().then_some(value));
    (found(values().fold(f64::INFINITY, f64::min)), found(values().fold(f64::NEG_INFINITY, f64::max)))
}

#[cfg(test)]
mod tests {
    use super::{POINTS, recorded, smoothed};
    use esmm_run::history::Step;

    #[test]
    fn smoothing_keeps_the_mean_and_few_points() {
        let step = |number: u64| Step {
            step: number,
            epoch: 1,
            rows: 1,
            loss: (number != 7).then_some(number as f64),
            task_losses: vec![],
            tower_learning_rate: 0.0,
            table_learning_rate: 0.0,
            rows_per_second: 0.0,
            waiting: 0.0,
            seconds: 0.0,
        };
        let steps: Vec<Step> = (1..=1000).map(step).collect();
        let points = recorded(&steps, |step| step.loss);
        assert!(points.len() <= POINTS && points.len() > POINTS / 2, "{}", points.len());
        assert_eq!(points[0], [7.0, 3.5], "the mean of 1 to 6: the seventh is no number");
        assert_eq!(points.last().map(|point| point[0]), Some(1000.0));
        // A straight line stays one, to its very ends.
        let line: Vec<Step> = (1..=90).filter(|number| *number != 7).map(step).collect();
        let smooth = smoothed(&line[6..], |step| step.loss);
        assert_eq!((smooth[0], smooth[40], smooth[82]), ([8.0, 8.0], [48.0, 48.0], [90.0, 90.0]));
    }
}
