//! Tables that a phone can scroll and a screen reader can follow.

use crate::html::Html;

/// A table: a caption, a header row, and rows whose first cell names them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    caption: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    number: bool,
}

/// A cell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    class: &'static str,
    picture: Option<Html>,
}

impl Table {
    pub(crate) fn new(caption: &str) -> Self {
        Self { caption: caption.to_owned(), ..Self::default() }
    }

    /// Adds columns of text.
    pub(crate) fn texts(self, names: &[&str]) -> Self {
        self.columns(names, false)
    }

    /// Adds columns of numbers.
    pub(crate) fn numbers(self, names: &[&str]) -> Self {
        self.columns(names, true)
    }

    fn columns(mut self, names: &[&str], number: bool) -> Self {
        self.columns.extend(names.iter().map(|name| Column { name: (*name).to_owned(), number }));
        self
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes it.
    pub(crate) fn write(&self, html: &mut Html) {
        html.open("div", &[("class", "scroll")]);
        html.open("table", &[]);
        html.element("caption", &[], &self.caption);
        html.open("thead", &[]);
        html.open("tr", &[]);
        for column in &self.columns {
            let class = if column.number { "number" } else { "words" };
            html.element("th", &[("scope", "col"), ("class", class)], &column.name);
        }
        html.close("tr");
        html.close("thead");
        html.open("tbody", &[]);
        for row in &self.rows {
            self.write_row(row, html);
        }
        html.close("tbody");
        html.close("table");
        html.close("div");
    }

    fn write_row(&self, row: &[Cell], html: &mut Html) {
        html.open("tr", &[]);
        for (place, (cell, column)) in row.iter().zip(&self.columns).enumerate() {
            let class = match (column.number, cell.class) {
                (true, "") => "number".to_owned(),
                (true, class) => format!("number {class}"),
                (false, class) => format!("words {class}").trim_end().to_owned(),
            };
            let (tag, scope): (_, &[_]) = if place == 0 { ("th", &[("scope", "row")]) } else { ("td", &[]) };
            html.within(tag, &[scope, &[("class", &*class)]].concat(), |html| {
                html.text(&cell.text);
                if let Some(picture) = &cell.picture {
                    html.append(picture);
                }
            });
        }
        html.close("tr");
    }
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// With a CSS class.
    pub(crate) fn class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }

    /// A picture.
    pub(crate) fn picture(picture: Html) -> Self {
        Self { picture: Some(picture), ..Self::default() }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}
