//! Several models of one run: how each scores alone, how far they are apart, and what their mean gains.

use esmm_run::ensemble::averaged;
use esmm_run::metrics::{EnsembleMetrics, MemberMetrics};

use crate::format::{grouped, metric, ratio, task_label};
use crate::html::Html;
use crate::run::RunReport;
use crate::table::{Cell, Table};

/// How a value is written; a dash where there is none.
type Shown = fn(Option<f64>) -> String;

/// A table of the spread of each metric on the split that counts most, and one of the models.
pub(crate) fn write(run: &RunReport, _: u8, html: &mut Html) {
    let (Some(ensemble), Some(headline)) = (run.ensemble(), run.headline()) else { return };
    let models = ensemble.members.len();
    let split = headline.name;
    let stages: Vec<String> = headline.metrics.reached.iter().map(|(stage, _)| stage.clone()).collect();
    html.paragraph(&format!(
        "{models} models of different seeds were trained on the same rows. The page scores their mean: {}.",
        averaged(&stages)
    ));
    let caption = format!("Each of the {models} models alone, and their mean, on the {split} split");
    let mut table = Table::new(&caption).texts(&["task", "metric"]).numbers(&[
        "mean of the models",
        "standard deviation",
        "least",
        "greatest",
        "all together",
    ]);
    for (task, together) in &headline.metrics.tasks {
        let values: [(&str, &str, Option<f64>, Shown); 3] = [
            ("auc", "AUC", together.auc, metric),
            ("log_loss", "log loss", together.log_loss, metric),
            ("calibration", "calibration", together.calibration, ratio),
        ];
        for (key, name, value, shown) in values {
            let Some(spread) = ensemble.spread(split, task, key) else { continue };
            let numbers = [spread.mean, spread.std, spread.min, spread.max].map(|value| shown(Some(value)));
            let mut cells: Vec<Cell> = vec![task_label(task).into(), name.into()];
            cells.extend(numbers.map(Cell::from));
            cells.push(shown(value).into());
            table.row(cells);
        }
    }
    table.write(html);
    one_by_one(ensemble, split, html);
}

fn one_by_one(ensemble: &EnsembleMetrics, split: &str, html: &mut Html) {
    let tasks = ensemble.members.first().and_then(|member| member.splits.get(split));
    let tasks: Vec<&String> = tasks.iter().flat_map(|metrics| &metrics.tasks).map(|(task, _)| task).collect();
    let names: Vec<String> = tasks.iter().map(|task| format!("{} AUC", task_label(task))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut table =
        Table::new("The models").texts(&["seed"]).numbers(&["best step", "epoch"]).numbers(&names);
    for member in &ensemble.members {
        let MemberMetrics { seed, step, epoch, splits } = member;
        let mut cells: Vec<Cell> =
            vec![seed.to_string().into(), grouped(*step).into(), grouped(*epoch).into()];
        for task in &tasks {
            let found = splits.get(split).and_then(|metrics| metrics.task(task));
            cells.push(metric(found.and_then(|found| found.auc)).into());
        }
        table.row(cells);
    }
    html.within("details", &[], |html| {
        html.element("summary", &[], &format!("All {} models", ensemble.members.len()));
        table.write(html);
    });
}
