//! Rates by feature value: on which rows predictions and events disagree.

use crate::chart::ratio_strip;
use crate::curves::has_weights;
use crate::format::{NONE, expected, grouped, prediction_label, ratio, significant, task_label};
use crate::headline::{ratio_interval, ratio_range};
use crate::html::Html;
use crate::run::RunReport;
use crate::table::{Cell, Table};
use esmm_run::analysis::{FeatureAnalysis, MAX_VALUES, SplitAnalysis, ValueTask};

/// Standard deviations beyond which a value is called badly calibrated.
const DEVIATIONS: f64 = 3.0;
/// Share of values beyond [`DEVIATIONS`] by chance alone: two tails of the normal distribution.
const CHANCE: f64 = 0.0027;
/// Events that a judgement needs.
const ENOUGH_EVENTS: f64 = 20.0;
/// Lines of the list of the worst.
const WORST: usize = 15;

/// A value and a task on which it is off.
struct Finding<'a> {
    feature: &'a str,
    value: &'a str,
    task: &'a str,
    measured: &'a ValueTask,
}

/// The worst values of all features, then each feature.
pub(crate) fn write(run: &RunReport, _: u8, html: &mut Html) {
    let Some(split) = run.analysed() else { return };
    if split.features.is_empty() {
        let reason =
            if has_weights(split) { ": its rows have weights, and these tables count rows" } else { "" };
        html.paragraph(&format!("The {} split was not looked at by feature value{reason}.", split.split));
        return;
    }
    write_worst(split, html);
    for feature in &split.features {
        write_feature(split, feature, html);
    }
}

fn write_worst(split: &SplitAnalysis, html: &mut Html) {
    let judged: Vec<Finding<'_>> = findings(split).collect();
    let mut off: Vec<&Finding<'_>> =
        judged.iter().filter(|finding| deviation(finding.measured) >= DEVIATIONS).collect();
    off.sort_by(|left, right| deviation(right.measured).total_cmp(&deviation(left.measured)));
    let found = off.len();
    let all = judged.len();
    let by_chance = significant(all as f64 * CHANCE, 2);
    html.paragraph(&format!(
        "{} pairs of a value and a task on the {} split have {ENOUGH_EVENTS} events or more; on {} of them predictions \
         and events are {DEVIATIONS} standard deviations apart or more. By chance alone {by_chance} would be.",
        grouped(all as u64),
        split.split,
        grouped(found as u64),
    ));
    if off.is_empty() {
        html.element("p", &[("class", "box good")], "No value stands out.");
        return;
    }
    let mut table = Table::new("Where it is worst: predicted over observed events")
        .texts(&["feature", "value", "prediction", "½ to 2 times"])
        .numbers(&["predicted / observed", "95% interval", "predicted", "observed", "rows", "deviations"]);
    for finding in off.into_iter().take(WORST) {
        let measured = finding.measured;
        let interval = ratio_interval(measured.predicted, measured.positives, measured.rows);
        table.row(vec![
            finding.feature.into(),
            finding.value.into(),
            prediction_label(finding.task).into(),
            strip(measured, interval),
            off_cell(measured),
            ratio_range(interval).into(),
            expected(measured.predicted).into(),
            grouped(measured.positives).into(),
            grouped(measured.rows).into(),
            measured.deviation.map_or_else(|| NONE.to_owned(), |value| format!("{value:+.1}")).into(),
        ]);
    }
    table.write(html);
}

fn findings(split: &SplitAnalysis) -> impl Iterator<Item = Finding<'_>> {
    let tasks = &split.tasks;
    split.features.iter().flat_map(move |feature| {
        feature.values.iter().flat_map(move |value| {
            let pairs = tasks.iter().zip(&value.tasks);
            pairs.filter(|(_, measured)| enough(measured)).map(move |(task, measured)| Finding {
                feature: &feature.feature,
                value: &value.value,
                task: &task.task,
                measured,
            })
        })
    })
}

fn write_feature(split: &SplitAnalysis, feature: &FeatureAnalysis, html: &mut Html) {
    let what = if feature.dense { "ranges" } else { "values" };
    let off = feature.values.iter().flat_map(|value| &value.tasks);
    let off = off.filter(|task| enough(task) && deviation(task) >= DEVIATIONS).count();
    let mut summary = format!("{}: {} {what}", feature.feature, grouped(feature.distinct));
    if off > 0 {
        summary.push_str(&format!(", {off} off"));
    }
    html.within("details", &[], |html| {
        html.element("summary", &[], &summary);
        feature_table(split, feature).write(html);
        let mut text = String::new();
        if !feature.dense && feature.distinct > feature.values.len() as u64 {
            text.push_str("The most frequent values, then those of the others that are calibrated worst. ");
        }
        if feature.uncounted_rows > 0 {
            text.push_str(&format!(
                "Values first seen after {} others are not looked at: {} rows. ",
                grouped(MAX_VALUES as u64),
                grouped(feature.uncounted_rows)
            ));
        }
        if !text.is_empty() {
            html.note(text.trim_end());
        }
    });
}

fn feature_table(split: &SplitAnalysis, feature: &FeatureAnalysis) -> Table {
    let caption =
        format!("{} on the {} split: predicted over observed events, and AUC", feature.feature, split.split);
    let mut table = Table::new(&caption).texts(&["value"]).numbers(&["rows"]);
    // The events of a conditional task are those of the next task, which is over all rows.
    let reach: Vec<usize> = (0..split.tasks.len()).filter(|place| place % 2 == 0).collect();
    for place in &reach {
        table = table.numbers(&[&format!("{} events", task_label(&split.tasks[*place].task))]);
    }
    for task in &split.tasks {
        table = table.numbers(&[&format!("{} / observed", prediction_label(&task.task))]);
    }
    for task in &split.tasks {
        table = table.numbers(&[&format!("{} AUC", task_label(&task.task))]);
    }
    for value in &feature.values {
        let mut cells: Vec<Cell> = vec![value.value.as_str().into(), grouped(value.rows).into()];
        let events = reach.iter().filter_map(|place| value.tasks.get(*place));
        cells.extend(events.map(|task| Cell::new(grouped(task.positives))));
        cells.extend(value.tasks.iter().map(off_cell));
        cells.extend(value.tasks.iter().map(|task| Cell::new(auc(task.auc))));
        table.row(cells);
    }
    table
}

/// The ratio, marked where it is off by more than chance.
fn off_cell(task: &ValueTask) -> Cell {
    let text = ratio(task.calibration());
    match task.deviation {
        Some(off) if enough(task) && off >= DEVIATIONS => Cell::new(format!("▲ {text}")).class("high"),
        Some(off) if enough(task) && off <= -DEVIATIONS => Cell::new(format!("▼ {text}")).class("low"),
        _ => Cell::new(text),
    }
}

fn strip(task: &ValueTask, interval: Option<[f64; 2]>) -> Cell {
    let mut picture = Html::default();
    if let (Some(value), Some(interval)) = (task.calibration(), interval) {
        let title = format!("{}, 95%: {}", ratio(Some(value)), ratio_range(Some(interval)));
        ratio_strip(&mut picture, value, interval, &title);
    }
    Cell::picture(picture)
}

fn auc(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.3}"))
}

fn enough(task: &ValueTask) -> bool {
    task.predicted.max(task.positives as f64) >= ENOUGH_EVENTS
}

fn deviation(task: &ValueTask) -> f64 {
    task.deviation.map_or(0.0, f64::abs)
}
