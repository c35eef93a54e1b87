//! From a chart to SVG.

use super::super::html::Html;
use super::{Axis, Chart, Dot, Mark};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 350.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 202.0;

impl Chart {
    /// Writes the chart as a figure.
    pub(crate) fn draw(&self, html: &mut Html) {
        html.open("figure", &[]);
        self.draw_legend(html);
        let frame = format!("0 0 {WIDTH} {HEIGHT}");
        let label = format!("{}. {}", self.caption, self.description);
        html.within("svg", &[("viewBox", &frame), ("role", "img"), ("aria-label", &label)], |html| {
            self.draw_axes(html);
            self.marks.iter().for_each(|mark| self.draw_mark(mark, html));
        });
        html.element("figcaption", &[], &self.caption);
        html.close("figure");
    }

    fn draw_legend(&self, html: &mut Html) {
        if self.legend.is_empty() {
            return;
        }
        html.open("ul", &[("class", "legend")]);
        for (class, name) in &self.legend {
            html.open("li", &[]);
            html.within("svg", &[("viewBox", "0 0 24 8"), ("aria-hidden", "true")], |html| {
                let class = format!("line {class}");
                html.empty("path", &[("class", &class), ("d", "M0 4H24")]);
            });
            html.text(name);
            html.close("li");
        }
        html.close("ul");
    }

    fn draw_axes(&self, html: &mut Html) {
        for (value, text) in &self.y.ticks {
            let y = self.y(*value);
            let path = format!("M{LEFT} {y:.1}H{RIGHT}");
            html.empty("path", &[("class", "grid"), ("d", &path)]);
            label(html, "tick end", LEFT - 6.0, y + 4.0, text);
        }
        for (value, text) in &self.x.ticks {
            let x = self.x(*value);
            let path = format!("M{x:.1} {BOTTOM}v4");
            html.empty("path", &[("class", "axis"), ("d", &path)]);
            // The outermost labels stay inside the picture.
            label(html, "tick middle", x.clamp(LEFT + 4.0, RIGHT - 12.0), BOTTOM + 17.0, text);
        }
        let axis = format!("M{LEFT} {BOTTOM}H{RIGHT}");
        html.empty("path", &[("class", "axis"), ("d", &axis)]);
        label(html, "name", 4.0, 12.0, &self.y.label);
        label(html, "name middle", (LEFT + RIGHT) / 2.0, HEIGHT - 6.0, &self.x.label);
    }

    fn draw_mark(&self, mark: &Mark, html: &mut Html) {
        match mark {
            Mark::Line { class, points, title } => {
                let class = format!("line {class}");
                html.shape("path", &[("class", &class), ("d", &self.path(points, false))], title);
            }
            Mark::Steps { class, points, title } => {
                let class = format!("line {class}");
                html.shape("path", &[("class", &class), ("d", &self.path(points, true))], title);
            }
            Mark::Dots { class, dots } => dots.iter().for_each(|dot| self.draw_dot(class, dot, html)),
            Mark::Columns { class, edges, columns } => self.draw_columns(class, edges, columns, html),
            Mark::Rule { from, to, title } => {
                let path = self.path(&[*from, *to], false);
                html.shape("path", &[("class", "rule"), ("d", &path)], title);
            }
        }
    }

    fn draw_dot(&self, class: &str, dot: &Dot, html: &mut Html) {
        let x = self.x(dot.x);
        let y = self.y(dot.y);
        html.open("g", &[("class", class)]);
        html.element("title", &[], &dot.title);
        if let Some([low, high]) = dot.interval {
            let path = format!("M{x:.1} {:.1}V{:.1}", self.y(low), self.y(high));
            html.empty("path", &[("class", "whisker"), ("d", &path)]);
        }
        let x = format!("{x:.1}");
        let y = format!("{y:.1}");
        let class = if dot.ringed { "dot ringed" } else { "dot" };
        html.empty("circle", &[("class", class), ("cx", &x), ("cy", &y), ("r", "3")]);
        html.empty("circle", &[("class", "hit"), ("cx", &x), ("cy", &y), ("r", "9")]);
        html.close("g");
    }

    fn draw_columns(&self, class: &str, edges: &[f64], columns: &[(f64, String)], html: &mut Html) {
        html.open("g", &[("class", class)]);
        for (pair, (height, title)) in edges.windows(2).zip(columns) {
            let left = self.x(pair[0]);
            let right = self.x(pair[1]);
            let top = self.y(*height);
            let [x, y] = [left, top].map(|place| format!("{place:.1}"));
            let [width, height] = [right - left, BOTTOM - top].map(|size| format!("{:.1}", size.max(0.0)));
            let attributes =
                [("class", "column"), ("x", &*x), ("y", &*y), ("width", &*width), ("height", &*height)];
            html.shape("rect", &attributes, title);
        }
        html.close("g");
    }

    fn path(&self, points: &[[f64; 2]], steps: bool) -> String {
        let mut path = String::new();
        for (place, [x, y]) in points.iter().enumerate() {
            let x = self.x(*x);
            let y = self.y(*y);
            let piece = match (place, steps) {
                (0, _) => format!("M{x:.1} {y:.1}"),
                (_, true) => format!("H{x:.1}V{y:.1}"),
                (_, false) => format!("L{x:.1} {y:.1}"),
            };
            path.push_str(&piece);
        }
        path
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * self.x.place(value)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * self.y.place(value)
    }
}

fn label(html: &mut Html, class: &str, x: f64, y: f64, text: &str) {
    let [x, y] = [x, y].map(|place| format!("{place:.1}"));
    html.element("text", &[("class", class), ("x", &x), ("y", &y)], text);
}

/// A small picture in a table: where a ratio and its interval lie between one half and two.
pub(crate) fn ratio_strip(html: &mut Html, ratio: f64, interval: [f64; 2], title: &str) {
    let axis = Axis::log("", 0.5, 2.0, |_| String::new());
    let place = |value: f64| 3.0 + 114.0 * axis.place(value);
    html.within(
        "svg",
        &[("class", "strip"), ("viewBox", "0 0 120 16"), ("role", "img"), ("aria-label", title)],
        |html| {
            html.element("title", &[], title);
            html.empty("path", &[("class", "rule"), ("d", "M60 0V16")]);
            let whisker = format!("M{:.1} 8H{:.1}", place(interval[0]), place(interval[1]));
            html.empty("path", &[("class", "whisker"), ("d", &whisker)]);
            let x = format!("{:.1}", place(ratio));
            html.empty("circle", &[("class", "dot"), ("cx", &x), ("cy", "8"), ("r", "3.5")]);
        },
    );
}

#[cfg(test)]
mod tests {
    use super::super::{Axis, Chart, Dot, Mark};
    use crate::html::Html;

    #[test]
    fn values_lie_where_the_axes_say() {
        let axis = || Axis::linear("rate", 0.0, 1.0, |value| format!("{value}"));
        let dot =
            Dot { x: 1.0, y: f64::NAN, interval: Some([0.0, 2.0]), ringed: true, title: "a & b".to_owned() };
        let chart = Chart {
            caption: "C".to_owned(),
            description: "D".to_owned(),
            x: axis(),
            y: axis(),
            marks: vec![
                Mark::Line {
                    class: "s0",
                    points: vec![[0.0, 0.0], [0.5, 1.0], [2.0, -1.0]],
                    title: "t".to_owned(),
                },
                Mark::Steps { class: "s0", points: vec![[0.0, 1.0], [1.0, 0.0]], title: "t".to_owned() },
                Mark::Dots { class: "s1", dots: vec![dot] },
            ],
            legend: vec![("s0", "<run>".to_owned())],
        };
        let mut html = Html::default();
        chart.draw(&mut html);
        let text = html.finish();
        for expected in [
            "M46.0 202.0L198.0 24.0L350.0 202.0",
            "M46.0 24.0H350.0V202.0",
            "M350.0 202.0V24.0",
            "<title>a &amp; b</title>",
            "&lt;run&gt;",
            "aria-label=\"C. D\"",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(!text.contains("NaN"), "{text}");
    }
}
