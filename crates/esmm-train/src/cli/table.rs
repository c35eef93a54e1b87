//! Metrics as a table.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};
use esmm_core::one_line;
use esmm_train::data::SplitReport;
use esmm_train::experiment::EnsembleMetrics;
use esmm_train::metric::{SplitMetrics, TaskMetrics};
use esmm_train::status_line;
pub(super) use esmm_train::wording::grouped;

/// The tasks of a split, a line each, next to the best values that a known truth allows.
pub(super) fn metrics(title: &str, split: &SplitMetrics) -> String {
    let counts: Vec<String> =
        split.reached.iter().map(|(stage, rows)| format!("{} {}", grouped(*rows), one_line(stage))).collect();
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    fit(&mut table);
    let best = best(split);
    let mut header = vec!["task", "rows", "AUC", "95% interval"];
    if best.is_some() {
        header.push("best\npos-\nsible");
    }
    header.extend(["log\nloss", "norm.\nentropy", "cali-\nbration"]);
    let gauc = split.tasks.iter().any(|(_, task)| task.gauc.is_some());
    if gauc {
        header.push("GAUC");
    }
    table.set_header(header);
    for (name, task) in &split.tasks {
        let mut cells = vec![label(name), rows_of(name), number(task.auc), interval(task)];
        if let Some(best) = &best {
            cells.push(number(best.iter().find(|(task, _)| task == name).and_then(|(_, value)| *value)));
        }
        cells.extend([number(task.log_loss), number(task.normalized_entropy), number(task.calibration)]);
        if gauc {
            cells.push(number(task.gauc.as_ref().and_then(|gauc| gauc.value)));
        }
        table.add_row(cells);
    }
    // Names are broken where a table is too wide, but not those of two stages.
    for (index, width) in [(0, "CTCVR".len()), (1, "clicked".len())] {
        if let Some(column) = table.column_mut(index) {
            let padding = 2;
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width as u16 + padding)));
        }
    }
    for index in 2..table.column_count() {
        if let Some(column) = table.column_mut(index) {
            // Numbers stay in one piece; names are broken where a table is too wide.
            column.set_cell_alignment(CellAlignment::Right);
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let mut text = format!("{title}: {} impressions, {}", grouped(split.rows), counts.join(", "));
    if let Some(weight) = split.weight {
        text.push_str(&format!("; the metrics count weights, {weight:.1} in all"));
    }
    if let Some(open) = split.open {
        text.push_str(&format!("; {} too young count for the first stage only", grouped(open)));
    }
    text.push_str(&format!("\n{table}\n"));
    text.push_str(&entire_space(split));
    let without =
        split.tasks.iter().filter_map(|(_, task)| Some(task.gauc.as_ref()?.rows_without_group)).max();
    if let Some(without) = without.filter(|rows| *rows > 0) {
        text.push_str(&format!("GAUC leaves out {} impressions that have no group\n", grouped(without)));
    }
    for (name, task) in &split.tasks {
        for (metric, reason) in &task.undefined {
            text.push_str(&format!("{} {metric} is undefined: {reason}\n", label(name)));
        }
    }
    text
}

/// `Each of the 5 models alone: AUC CTR 0.6553 +- 0.0031, ...`: mean and standard deviation of single models.
pub(super) fn spread(split: &str, ensemble: &EnsembleMetrics) -> String {
    let models = ensemble.members.len();
    let tasks = ensemble.members.first().and_then(|first| first.splits.get(split));
    let tasks = tasks.into_iter().flat_map(|split| &split.tasks);
    let alone = tasks.filter_map(|(task, _)| {
        let auc = ensemble.spread(split, task, "auc")?;
        Some(format!("{} {:.4} +- {:.4}", label(task), auc.mean, auc.std))
    });
    let alone: Vec<String> = alone.collect();
    match alone.is_empty() {
        true => format!("Each of the {models} models alone has no AUC."),
        false => format!("Each of the {models} models alone: AUC {}", alone.join(", ")),
    }
}

/// Keeps a table within the terminal, or within 80 columns elsewhere: long names and headers are broken.
pub(super) fn fit(table: &mut Table) {
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(status_line::columns_of_stdout());
}

/// `400,000 impressions, 79,912 click, 15,800 conversion, 3 dropped`
pub(super) fn read(split: &SplitReport, stages: &[String]) -> String {
    let mut parts = vec![format!("{} impressions", grouped(split.rows))];
    parts.extend(
        stages
            .iter()
            .zip(&split.reached)
            .map(|(stage, rows)| format!("{} {}", grouped(*rows), one_line(stage))),
    );
    if split.orphans_dropped > 0 {
        parts.push(format!("{} dropped (a stage without the one before)", grouped(split.orphans_dropped)));
    }
    if split.open > 0 {
        parts.push(format!("{} too young to count after the first stage", grouped(split.open)));
    }
    parts.join(", ")
}

fn entire_space(split: &SplitMetrics) -> String {
    let Some(space) = &split.entire_space else {
        return String::new();
    };
    let best = space.best.as_ref().and_then(|best| best.entire_space_cvr_auc);
    format!(
        "CVR over all impressions, against the true CVR: AUC {} (best possible {}), calibration {}\n",
        number(space.cvr_auc),
        number(best),
        number(space.cvr_calibration)
    )
}

fn best(split: &SplitMetrics) -> Option<[(&'static str, Option<f64>); 3]> {
    let best = split.entire_space.as_ref()?.best.as_ref()?;
    Some([("ctr", best.ctr_auc), ("cvr", best.cvr_auc), ("ctcvr", best.ctcvr_auc)])
}

/// A task as a table names it.
pub(super) fn label(task: &str) -> String {
    match task {
        "ctr" | "cvr" | "ctcvr" => task.to_uppercase(),
        other => one_line(other),
    }
}

fn rows_of(task: &str) -> String {
    match task.split_once('|') {
        Some((_, given)) => format!("rows with {}", one_line(given)),
        None if task == "cvr" => "clicked".to_owned(),
        None => "all".to_owned(),
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

fn interval(task: &TaskMetrics) -> String {
    task.auc_ci95.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:.4}-{high:.4}"))
}
