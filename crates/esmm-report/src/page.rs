//! The page: head, contents, a comparison where there are several runs, then each run.

use crate::html::Html;
use crate::run::RunReport;
use crate::{
    compare, configuration, correction, curves, drift, headline, learning, members, overview, tables, values,
};
use esmm_run::history::History;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// One part of the report on a run: its anchor, its heading, and what writes it.
type Section = (&'static str, &'static str, fn(&RunReport, u8, &mut Html));

const SECTIONS: [Section; 12] = [
    ("metrics", "Metrics", headline::write),
    ("correction", "Calibrated after training", correction::write),
    ("models", "The models one by one", members::write),
    ("warnings", "Warnings", overview::write_warnings),
    ("training", "What was trained, and on what", overview::write),
    ("learning", "Learning curves", learning::write),
    ("calibration", "Calibration by decile of the score", curves::write_calibration),
    ("ranking", "Ranking: ROC, precision and recall", curves::write_ranking),
    ("histograms", "Scores by label", curves::write_histograms),
    ("drift", "Are later rows like the training rows?", drift::write),
    ("values", "By feature value: where is it badly calibrated?", values::write),
    ("tables", "Embedding tables and unknown values", tables::write),
];

/// What stands around the contents of a page.
pub(crate) struct Frame {
    /// The title of the window.
    pub(crate) title: String,
    /// What kind of page it is.
    pub(crate) kind: &'static str,
    /// The heading.
    pub(crate) heading: String,
    /// Anchors with their names.
    pub(crate) contents: Vec<(String, String)>,
}

/// Writes the page about one or several runs.
pub fn page(runs: &[RunReport]) -> String {
    let (title, heading) = match runs {
        [run] => (format!("ESMM: {}", run.name).chars().take(60).collect(), run.name.clone()),
        runs => (format!("ESMM: {} runs compared", runs.len()), format!("{} runs compared", runs.len())),
    };
    let link = |id: &str, name: &str| (id.to_owned(), name.to_owned());
    let contents = match runs {
        [run] => sections_of(run).map(|(id, name, _)| link(id, name)).collect(),
        runs => {
            let whole = compare::CONTENTS.iter().map(|(id, name)| link(id, name));
            let each = (1..).zip(runs).map(|(place, run)| link(&format!("run{place}"), &run.name));
            whole.chain(each).collect()
        }
    };
    let frame = Frame { title, kind: "ESMM training report", heading, contents };
    document(&frame, |html| match runs {
        [run] => one_run(run, 2, "", html),
        runs => {
            compare::write(runs, html);
            for (place, run) in (1..).zip(runs) {
                let id = format!("run{place}");
                html.within("section", &[("class", "run"), ("aria-labelledby", &id)], |html| {
                    html.heading(2, &id, &run.name);
                    one_run(run, 3, &format!("{id}-"), html);
                });
            }
        }
    })
}

/// A whole page with whatever `write` puts into it.
pub(crate) fn document(frame: &Frame, write: impl FnOnce(&mut Html)) -> String {
    let mut html = Html::default();
    html.trusted("<!DOCTYPE html>\n");
    html.open("html", &[("lang", "en")]);
    head(&frame.title, &mut html);
    html.open("body", &[]);
    html.within("header", &[], |html| banner(frame, html));
    html.within("main", &[], write);
    html.within("footer", &[], |html| {
        let version = env!("CARGO_PKG_VERSION");
        html.paragraph(&format!(
            "Written by esmm {version}. The page is whole: it loads nothing from the network."
        ));
    });
    html.within("script", &[], |html| html.trusted(SCRIPT));
    html.close("body");
    html.close("html");
    html.trusted("\n");
    html.finish()
}

fn head(title: &str, html: &mut Html) {
    html.open("head", &[]);
    html.trusted("<meta charset=\"utf-8\">");
    html.trusted("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    html.trusted("<meta name=\"color-scheme\" content=\"light dark\">");
    html.element("title", &[], title);
    html.within("style", &[], |html| html.trusted(STYLE));
    html.close("head");
}

fn banner(frame: &Frame, html: &mut Html) {
    html.within("div", &[("class", "bar")], |html| {
        html.element("p", &[("class", "kind")], frame.kind);
        let button = [("type", "button"), ("id", "theme"), ("hidden", "hidden")];
        html.element("button", &button, "Dark");
    });
    html.heading(1, "", &frame.heading);
    html.within("nav", &[("aria-label", "Contents")], |html| {
        html.within("ul", &[], |html| {
            for (target, name) in &frame.contents {
                html.within("li", &[], |html| {
                    html.element("a", &[("href", &format!("#{target}"))], name);
                });
            }
        });
    });
}

/// The sections that a run has something for.
fn sections_of(run: &RunReport) -> impl Iterator<Item = Section> {
    let has_none = |id: &str| match id {
        "warnings" => run.warnings.is_empty(),
        "learning" => run.history.as_ref().is_none_or(History::is_empty),
        "calibration" | "ranking" | "histograms" | "values" | "tables" => run.analysis.is_none(),
        "metrics" => run.headline().is_none(),
        "models" => run.ensemble().is_none(),
        "correction" => run.correction.is_none(),
        "drift" => drift::found(run).next().is_none(),
        _ => false,
    };
    SECTIONS.into_iter().filter(move |(id, ..)| !has_none(id))
}

fn one_run(run: &RunReport, level: u8, prefix: &str, html: &mut Html) {
    overview::write_notes(run, html);
    for (id, title, write) in sections_of(run) {
        let id = format!("{prefix}{id}");
        html.within("section", &[], |html| {
            html.heading(level, &id, title);
            write(run, level, html);
        });
    }
    configuration::write(run, html);
}
