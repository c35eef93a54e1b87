//! Charts as SVG: axes, ticks, lines, dots, areas. Colours are CSS classes, so that they follow the theme.

mod axis;
mod draw;

pub(super) use axis::Axis;
pub(super) use draw::ratio_strip;

/// Classes of the series, in the order in which they are used; the style gives each a colour and a dash pattern.
const SERIES: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];

/// The class of the `place`-th series.
pub(super) fn series(place: usize) -> &'static str {
    SERIES[place % SERIES.len()]
}

/// A chart of 360 by 240 units, which a phone shows as large as a desktop.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    /// What it shows, below it.
    pub(super) caption: String,
    /// The same in a sentence with the numbers that matter, for those who do not see it.
    pub(super) description: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) marks: Vec<Mark>,
    /// Class and name of each series; empty when there is one only.
    pub(super) legend: Vec<(&'static str, String)>,
}

/// Something that is drawn, in the units of the axes. What lies outside of them is drawn at the border.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    /// A line through points, with a text for the pointer.
    Line { class: &'static str, points: Vec<[f64; 2]>, title: String },
    /// The same as a step that keeps its height until the next point.
    Steps { class: &'static str, points: Vec<[f64; 2]>, title: String },
    /// Dots, each with its own text and perhaps an interval of y.
    Dots { class: &'static str, dots: Vec<Dot> },
    /// Columns between edges, each with its own text.
    Columns { class: &'static str, edges: Vec<f64>, columns: Vec<(f64, String)> },
    /// A thin line to compare with.
    Rule { from: [f64; 2], to: [f64; 2], title: String },
}

/// A dot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dot {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) interval: Option<[f64; 2]>,
    /// Whether it stands out.
    pub(super) ringed: bool,
    pub(super) title: String,
}
