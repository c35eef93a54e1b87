//! Which columns are the click and the conversion.

use std::path::Path;

use esmm_data::{Chunk, DataError, label_of, quoted};

use crate::column::{Column, Kind};
use crate::words::{is_one_of, words};
use esmm_run::RunError;
use esmm_run::wording::grouped;

/// Words in names with their weight: the surer ones count more.
type Names = &'static [(u32, &'static str)];
/// Names of clicks.
const CLICK: Names = &[
    (30, "click clicked clicks isclick clk"),
    (20, "ctr visit visited open opened"),
    (10, "label"),
    (5, "y"),
];
/// Names of conversions.
const CONVERSION: Names = &[
    (
        30,
        "conversion conversions converted convert conv buy bought purchase purchased order ordered pay paid payment",
    ),
    (30, "sale sold install installed signup subscribed transaction deposit book booked booking reservation"),
    (20, "cvr"),
    (10, "cart favorite label"),
    (5, "z"),
];
/// From this weight on a name leaves no doubt.
const CERTAIN: u32 = 25;
/// The weight of a column that a person named.
const NAMED: u32 = 100;
/// More conversions without a click than this, and the two are no funnel.
const ORPHANS: f64 = 0.05;

/// The stages of the funnel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Labels {
    pub(crate) click: Stage,
    pub(crate) conversion: Stage,
    /// Conversions without a click.
    pub(crate) orphans: usize,
    /// Other columns of 0 and 1 with such a name, each 1 only where the click is.
    pub(crate) between: Vec<String>,
    /// A funnel of three stages, the first of these columns among them; `None` where none of them makes one.
    pub(crate) longer: Option<Vec<String>>,
}

/// A column of labels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stage {
    pub(crate) column: String,
    /// For each row whether it was reached.
    pub(crate) flags: Vec<bool>,
    /// Rows that reached it.
    pub(crate) count: usize,
    weight: u32,
}

/// What a person said about the labels.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Said<'a> {
    pub(crate) click: Option<&'a str>,
    pub(crate) conversion: Option<&'a str>,
}

/// Where the rows of the columns came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelRows<'a> {
    /// The first file.
    pub(crate) path: &'a Path,
    /// The rows, in the order of the columns' cells.
    pub(crate) chunks: &'a [Chunk],
}

impl LabelRows<'_> {
    /// File and line of a row, from 0.
    fn place(self, row: usize) -> String {
        let mut before = 0;
        for chunk in self.chunks {
            if row < before + chunk.rows() {
                return chunk.origin().place(row - before).to_string();
            }
            before += chunk.rows();
        }
        format!("row {}", row + 1)
    }
}

impl Labels {
    /// Takes the labels that were named, or finds columns that look like them.
    ///
    /// # Errors
    /// One line: what was looked for, and which columns could be named.
    pub(crate) fn find(columns: &[Column], said: Said<'_>, rows: LabelRows<'_>) -> Result<Self, RunError> {
        let clicks = candidates(columns, said.click, CLICK, rows)?;
        let conversions = candidates(columns, said.conversion, CONVERSION, rows)?;
        let mut best: Option<(u32, Self)> = None;
        let mut nearest: Option<(usize, &Stage, &Stage)> = None;
        for click in &clicks {
            for conversion in conversions.iter().filter(|stage| stage.column != click.column) {
                let orphans = click.orphans_of(conversion);
                let weight = click.weight + conversion.weight;
                let is_funnel = orphans as f64 <= ORPHANS * conversion.count as f64;
                if !is_funnel && nearest.is_none_or(|(fewest, ..)| orphans < fewest) {
                    nearest = Some((orphans, click, conversion));
                }
                if is_funnel && best.as_ref().is_none_or(|(highest, _)| weight > *highest) {
                    let between = Vec::new();
                    let click = click.clone();
                    let conversion = conversion.clone();
                    best = Some((weight, Self { click, conversion, orphans, between, longer: None }));
                }
            }
        }
        let Some((_, mut labels)) = best else {
            return Err(match nearest {
                Some(pair) => no_funnel(pair, rows.path),
                None => nothing_found(columns, &clicks, &conversions, rows),
            });
        };
        let all = clicks.iter().chain(&conversions);
        let own = [labels.click.column.clone(), labels.conversion.column.clone()];
        for stage in all.filter(|stage| !own.contains(&stage.column)) {
            let inside = stage.count > 0 && labels.click.orphans_of(stage) == 0;
            if inside && !labels.between.contains(&stage.column) {
                labels.between.push(stage.column.clone());
                labels.longer = labels.longer.take().or_else(|| labels.with(stage));
            }
        }
        Ok(labels)
    }
}

impl Labels {
    /// The funnel with one stage more, between click and conversion or after both, where each stage has the rows of the next.
    fn with(&self, stage: &Stage) -> Option<Vec<String>> {
        let stages = if self.conversion.orphans_of(stage) == 0 {
            [&self.click, &self.conversion, stage]
        } else if stage.orphans_of(&self.conversion) == 0 {
            [&self.click, stage, &self.conversion]
        } else {
            return None;
        };
        Some(stages.map(|stage| stage.column.clone()).to_vec())
    }

    /// Whether the names, or a person, leave no doubt.
    pub(crate) fn is_certain(&self) -> bool {
        self.click.weight >= CERTAIN && self.conversion.weight >= CERTAIN
    }
}

impl Stage {
    fn of(column: &Column, weight: u32) -> Option<Self> {
        let flags = flags(column)?;
        let count = flags.iter().filter(|flag| **flag).count();
        Some(Self { column: column.name.clone(), flags, count, weight })
    }

    /// Rows that reached a later stage without this one.
    fn orphans_of(&self, later: &Self) -> usize {
        self.flags.iter().zip(&later.flags).filter(|(own, later)| **later && !**own).count()
    }
}

/// The column that was named, or those whose names and values fit.
fn candidates(
    columns: &[Column],
    said: Option<&str>,
    names: Names,
    rows: LabelRows<'_>,
) -> Result<Vec<Stage>, RunError> {
    if let Some(name) = said {
        let column = columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let names = columns.iter().map(|column| column.name.as_str());
            let hint = esmm_data::nearest(name, names);
            DataError::UnknownColumn { path: rows.path.to_owned(), column: name.to_owned(), hint }
        })?;
        let stage = Stage::of(column, NAMED).ok_or_else(|| {
            let found = match first_odd(column) {
                Some((row, found)) => format!("{found} ({})", rows.place(row)),
                None => "other cells".to_owned(),
            };
            let reason = format!("column `{name}`: found {found}, a label is 0 or 1 in every row");
            DataError::file(rows.path, reason)
        })?;
        return Ok(vec![stage]);
    }
    let weight = |column: &Column| {
        let words = words(&column.name);
        let known = names.iter().filter(|(_, names)| words.iter().any(|word| is_one_of(word, names)));
        let weight = known.map(|(weight, _)| *weight).max()?;
        Some(weight.saturating_sub(words.len() as u32))
    };
    Ok(columns.iter().filter_map(|column| Stage::of(column, weight(column)?)).collect())
}

/// Spellings of labels in a column at most: `0`, `0.0`, `False`, ...
const MOST_SPELLINGS: usize = 8;

/// The labels of a column, if all its cells are labels.
fn flags(column: &Column) -> Option<Vec<bool>> {
    match column.kind {
        Kind::Text | Kind::Number | Kind::Flag
            if column.stats.distinct <= MOST_SPELLINGS && column.stats.missing() == 0 =>
        {
            column.cells().map(flag).collect()
        }
        _ => None,
    }
}

/// As the labels of a training are read.
fn flag(cell: Option<&str>) -> Option<bool> {
    label_of(cell?)
}

/// Columns with the name of a label whose cells are none, each with the first cell that is in the way.
fn in_the_way(columns: &[Column], rows: LabelRows<'_>) -> Vec<String> {
    let named = |column: &&Column| {
        let words = words(&column.name);
        let mut names = CLICK.iter().chain(CONVERSION).filter(|(weight, _)| *weight >= CERTAIN);
        names.any(|(_, names)| words.iter().any(|word| is_one_of(word, names)))
    };
    let odd = |column: &Column| {
        let (row, found) = first_odd(column)?;
        Some(format!("`{}` holds {found} ({})", column.name, rows.place(row)))
    };
    columns.iter().filter(named).filter_map(odd).collect()
}

/// The first cell that is no label, and its row.
fn first_odd(column: &Column) -> Option<(usize, String)> {
    let (row, cell) = column.cells().enumerate().find(|(_, cell)| flag(*cell).is_none())?;
    Some((row, cell.map_or_else(|| "nothing".to_owned(), quoted)))
}

fn no_funnel((orphans, click, conversion): (usize, &Stage, &Stage), path: &Path) -> RunError {
    let first = &click.column;
    let second = &conversion.column;
    let reason = format!(
        "`{second}` is 1 in {} rows, and in {} of them `{first}` is 0: a conversion needs a click; name the \
         labels with --click COL --conversion COL",
        grouped(conversion.count as u64),
        grouped(orphans as u64)
    );
    DataError::file(path, reason).into()
}

fn nothing_found(
    columns: &[Column],
    clicks: &[Stage],
    conversions: &[Stage],
    rows: LabelRows<'_>,
) -> RunError {
    let found = match (clicks, conversions) {
        ([], []) => "found no labels".to_owned(),
        ([click, ..], _) => format!("found a click (`{}`) but no conversion", click.column),
        (_, [conversion, ..]) => format!("found a conversion (`{}`) but no click", conversion.column),
    };
    let usable: Vec<&str> =
        columns.iter().filter(|column| flags(column).is_some()).map(|column| column.name.as_str()).collect();
    let usable = match usable.as_slice() {
        [] => "no column holds 0 and 1 alone".to_owned(),
        names => format!("columns of 0 and 1 are {}", listed(names)),
    };
    let odd = match in_the_way(columns, rows).as_slice() {
        [] => String::new(),
        odd => format!(
            "; {}, and a label is 0 or 1 (or true or false): convert it, or write the run file by hand and say \
             labels.positive = [\"yes\"] and labels.negative = [\"no\"], or labels.missing = \"zero\" for nothing behind \
             no click",
            odd.join(", ")
        ),
    };
    let reason = format!(
        "{found}{odd}: looked for columns of 0 and 1 with a name like click, clicked, clk, visit, and like conversion, \
         buy, purchase, order, pay, booking; {usable}; name them with --click COL --conversion COL"
    );
    DataError::file(rows.path, reason).into()
}

/// Some names in backticks, a few of many.
pub(crate) fn listed(names: &[&str]) -> String {
    const MOST: usize = 6;
    let shown: Vec<String> = names.iter().take(MOST).map(|name| quoted(name)).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), grouped(more as u64)),
    }
}
