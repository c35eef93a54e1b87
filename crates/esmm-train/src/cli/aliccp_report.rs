//! The report of `esmm aliccp prepare` as tables.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, LineStyle, Table};
use esmm_aliccp::{PrepareReport, SplitReport};

use super::table;

/// Counts, fields, and what was skipped.
pub(super) fn printed(report: &PrepareReport) -> String {
    let mut text = counts(report);
    text.push_str(&fields(report));
    if !report.widened_fields.is_empty() {
        let fields = report.widened_fields.join(", ");
        text.push_str(&format!("Stored as lists, because some rows have several values of them: {fields}\n"));
    }
    if report.bad_rows > 0 {
        text.push_str(&format!("{} bad rows were skipped, the first of them:\n", report.bad_rows));
        report.bad_row_examples.iter().for_each(|row| text.push_str(&format!("  {row}\n")));
    }
    text
}

fn splits(report: &PrepareReport) -> Vec<(&'static str, &SplitReport)> {
    let test = report.test.as_ref().map(|test| ("test", test));
    std::iter::once(("train", &report.train)).chain(test).collect()
}

fn counts(report: &PrepareReport) -> String {
    let splits = splits(report);
    let mut table = lean();
    table.set_header(std::iter::once("").chain(splits.iter().map(|(name, _)| *name)));
    type Count = fn(&SplitReport) -> u64;
    let rows: [(&str, Count); 12] = [
        ("skeleton rows", |split| split.skeleton_rows),
        ("common rows", |split| split.common_rows),
        ("impressions", |split| split.impressions),
        ("clicks", |split| split.clicks),
        ("conversions", |split| split.conversions),
        ("groups", |split| split.groups),
        ("segments", |split| split.segments),
        ("dropped: conversion without click", |split| split.dropped_conversions_without_click),
        ("dropped: bad rows", |split| split.dropped_bad_rows),
        ("dropped: common rows without impressions", |split| split.unused_common_rows),
        ("dropped: repeated common rows", |split| split.repeated_common_rows),
        ("moved to the start of their group", |split| split.moved_impressions),
    ];
    for (name, count) in rows {
        let cells = splits.iter().map(|(_, split)| table::grouped(count(split)));
        table.add_row(std::iter::once(name.to_owned()).chain(cells));
    }
    aligned(table)
}

/// Values and missing rows of each field; those of users for each group, those of items for each impression.
fn fields(report: &PrepareReport) -> String {
    let splits = splits(report);
    let mut table = lean();
    let mut header = vec!["field".to_owned()];
    for (name, _) in &splits {
        header.extend(["values", "missing", "largest id"].map(|what| format!("{name}: {what}")));
    }
    table.set_header(header);
    for (code, field) in &report.train.fields {
        let mut cells = vec![format!("{code} {}", field.name)];
        for (_, split) in &splits {
            let field = split.fields.get(code).cloned().unwrap_or_default();
            let rows = if is_common(code) { split.groups } else { split.impressions };
            let missing = 100.0 * field.missing as f64 / rows.max(1) as f64;
            cells.extend([
                table::grouped(field.values),
                format!("{missing:.1}%"),
                table::grouped(field.largest_id.unsigned_abs().into()),
            ]);
        }
        table.add_row(cells);
    }
    aligned(table)
}

/// Whether a field is one of the user.
fn is_common(code: &str) -> bool {
    code.starts_with('1')
}

/// A table without lines between its rows.
fn lean() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table
}

/// Numbers to the right.
fn aligned(mut table: Table) -> String {
    for index in 1..table.column_count() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}
