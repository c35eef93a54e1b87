//! Embedding tables: rows that training never touched, ids that it never saw.

use crate::format::{grouped, percent};
use crate::html::Html;
use crate::run::RunReport;
use crate::table::{Cell, Table};
use esmm_run::analysis::{RunAnalysis, SplitAnalysis, UnknownIds};

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
        let unknown = match (usage.knows_all, usage.unknown_trained) {
            (true, _) => Cell::new("needs none"),
            (false, true) => Cell::new("trained"),
            (false, false) => Cell::new("never trained").class("low"),
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
    if analysis.tables.iter().any(|usage| !usage.unknown_trained && !usage.knows_all) {
        html.note(
            "Never trained: an unknown id is scored with the initial, random values of its row. Training takes some ids as \
             unknown where data.unknown_share is above 0.",
        );
    }
}

fn write_unknown(analysis: &RunAnalysis, html: &mut Html) {
    write_shares(
        "Share of ids that training does not know, of those that are there",
        analysis,
        unknown_share,
        html,
    );
    write_shares("Share of ids that are missing", analysis, missing_share, html);
}

/// A table of a share of each feature's ids, by split.
fn write_shares(title: &str, analysis: &RunAnalysis, share: impl Fn(&UnknownIds) -> Cell, html: &mut Html) {
    let names: Vec<&str> = analysis.splits.iter().map(|split| split.split.as_str()).collect();
    let Some(first) = analysis.splits.first().filter(|split| !split.unknown.is_empty()) else { return };
    let mut table = Table::new(title).texts(&["feature"]).numbers(&names);
    for (place, feature) in first.unknown.iter().enumerate() {
        let mut cells: Vec<Cell> = vec![feature.feature.as_str().into()];
        let of_split = |split: &SplitAnalysis| split.unknown.get(place).map_or(Cell::new("–"), &share);
        cells.extend(analysis.splits.iter().map(of_split));
        table.row(cells);
    }
    table.write(html);
}

fn unknown_share(ids: &UnknownIds) -> Cell {
    let present = ids.ids - ids.missing;
    if present == 0 {
        return Cell::new("–");
    }
    let share = ids.unknown as f64 / present as f64;
    let cell = Cell::new(percent(share));
    if share > MUCH { cell.class("high") } else { cell }
}

fn missing_share(ids: &UnknownIds) -> Cell {
    match ids.ids {
        0 => Cell::new("–"),
        all => Cell::new(percent(ids.missing as f64 / all as f64)),
    }
}
