//! What `esmm calibrate` did to the probabilities.

use esmm_run::correction::Interval;

use crate::format::{grouped, metric, prediction_label, ratio, significant};
use crate::html::Html;
use crate::run::RunReport;
use crate::table::{Cell, Table};

/// Before and after, task by task, and what was fitted.
pub(crate) fn write(run: &RunReport, _: u8, html: &mut Html) {
    let Some(record) = &run.correction else { return };
    html.paragraph(&format!(
        "Scores of this run are corrected (Platt, by stage), fitted on {} impressions of {}. All other figures and pictures \
         of this page are those of the model as it was trained.",
        grouped(record.rows),
        record.data.join(", ")
    ));
    let mut changes = Table::new("Before the correction and after it, on rows that it was not fitted on")
        .texts(&["task"])
        .numbers(&["calibration before", "after", "log loss before", "after", "gain"])
        .texts(&[""]);
    for task in &record.tasks {
        let verdict = task.verdict();
        let class = match verdict {
            "better" => "good",
            "worse" => "high",
            _ => "quiet",
        };
        changes.row(vec![
            prediction_label(&task.task).into(),
            with_ends(task.before, |value| ratio(Some(value))).into(),
            with_ends(task.after, |value| ratio(Some(value))).into(),
            metric(Some(task.log_loss_before)).into(),
            metric(Some(task.log_loss_after)).into(),
            with_ends(task.gain, |value| significant(value, 3)).into(),
            Cell::new(verdict).class(class),
        ]);
    }
    changes.write(html);
    let mut fits = Table::new("What was fitted: corrected logit = slope x logit + intercept")
        .texts(&["stage"])
        .numbers(&["slope", "+-", "intercept", "+-"]);
    for stage in &record.stages {
        fits.row(vec![
            stage.stage.as_str().into(),
            significant(stage.platt.slope, 4).into(),
            significant(1.96 * stage.slope_error, 2).into(),
            significant(stage.platt.intercept, 4).into(),
            significant(1.96 * stage.intercept_error, 2).into(),
        ]);
    }
    fits.write(html);
    html.note(
        "Calibration is the sum of predictions over the number of events, with its 95% interval; the gain is by how much \
         the log loss falls. The conditional probabilities follow as quotients. `esmm calibrate RUN --undo` takes it back.",
    );
}

fn with_ends(interval: Interval, shown: impl Fn(f64) -> String) -> String {
    format!("{} ({} – {})", shown(interval.value), shown(interval.low), shown(interval.high))
}
