//! Embedding tables: rows that training never touched, ids that it never saw.

use crate::format::{grouped, percent};
use crate::html::Html;
use crate::run::RunReport;
use crate::table::{Cell, Table};
use esmm_run::analysis::{RunAnalysis, UnknownIds};

/// A share of unknown ids that is worth a mark.
const MUCH: f64 = 0.1;

/// The tables, then the unknown ids of each split.
pub(crate) fn write(run: &RunReport, _: u8, html: &mut Html) {
    let Some(analysis) = &run.analysis else { return };
    write_tables(analysis, html);
    write_unknown(analysis, html);
}

fn write_tables(analysis: &RunAnalysis, html: &mut Html) {
    let mut table = Table::new("Rows of the embedding tables, and those that no training row has")
        .texts(&["table", "used by"])
        .numbers(&["rows", "never touched", "share"])
        .texts(&["row for unknown ids"]);
    for usage in &analysis.tables {
        let share = usage.never_touched as f64 / usage.rows.max(1) as f64;
        let unknown = match usage.unknown_trained {
            true => Cell::new("trained"),
            false => Cell::new("never trained").class("low"),
        };
        table.row(vec![
            usage.table.as_str().into(),
            usage.features.join(", ").into(),
            grouped(usage.rows).into(),
            grouped(usage.never_touched).into(),
            percent(share).into(),
            unknown,
        ]);
    }
    if table.is_empty() {
        html.paragraph("The model has no embedding table.");
        return;
    }
    table.write(html);
    if analysis.tables.iter().any(|usage| !usage.unknown_trained) {
        html.note(
            "Never trained: no training row has a missing or unknown value, so that an unknown id is scored with the \
             first, random values of its row. A min_count of 2 or more gives it rows to learn from.",
        );
    }
}

fn write_unknown(analysis: &RunAnalysis, html: &mut Html) {
    let names: Vec<&str> = analysis.splits.iter().map(|split| split.split.as_str()).collect();
    let Some(first) = analysis.splits.first().filter(|split| !split.unknown.is_empty()) else { return };
    let mut table = Table::new("Share of ids that are missing or unknown in training")
        .texts(&["feature"])
        .numbers(&names);
    for (place, feature) in first.unknown.iter().enumerate() {
        let mut cells: Vec<Cell> = vec![feature.feature.as_str().into()];
        cells.extend(analysis.splits.iter().map(|split| share(split.unknown.get(place))));
        table.row(cells);
    }
    table.write(html);
}

fn share(unknown: Option<&UnknownIds>) -> Cell {
    let Some(unknown) = unknown.filter(|unknown| unknown.ids > 0) else { return Cell::new("–") };
    let share = unknown.unknown as f64 / unknown.ids as f64;
    let cell = Cell::new(percent(share));
    if share > MUCH { cell.class("high") } else { cell }
}
