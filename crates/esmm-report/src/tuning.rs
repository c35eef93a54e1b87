//! The page about a tuning: what it comes to, the best setting beside the run file as it is, and all that was tried.

use esmm_run::tuning::{TriedSetting, TuningReport, WindowComparison};

use crate::chart::{Axis, Chart, Dot, Mark, series};
use crate::format::{NONE, duration, grouped, interval, metric};
use crate::html::Html;
use crate::page::{Frame, document};
use crate::table::{Cell, Table};

/// The sections.
const CONTENTS: [(&str, &str); 3] = [
    ("verdict", "What it comes to"),
    ("compared", "The best setting beside the run file"),
    ("tried", "All that was tried"),
];

/// Writes the page about a tuning.
pub fn tuning_page(report: &TuningReport) -> String {
    let contents = CONTENTS.iter().filter(|(id, _)| *id != "compared" || !report.compared.is_empty());
    let frame = Frame {
        title: format!("ESMM: tuning of {}", report.run_file).chars().take(60).collect(),
        kind: "ESMM tuning report",
        heading: format!("Tuning of {}", report.run_file),
        contents: contents.map(|(id, name)| ((*id).to_owned(), (*name).to_owned())).collect(),
    };
    document(&frame, |html| {
        section(0, html, |html| verdict(report, html));
        if !report.compared.is_empty() {
            section(1, html, |html| compared(report, html));
        }
        section(2, html, |html| tried(report, html));
    })
}

fn section(place: usize, html: &mut Html, write: impl FnOnce(&mut Html)) {
    let (id, name) = CONTENTS[place];
    html.within("section", &[], |html| {
        html.heading(2, id, name);
        write(html);
    });
}

fn verdict(report: &TuningReport, html: &mut Html) {
    html.element("p", &[("class", "strong")], &report.verdict());
    html.open("dl", &[("class", "facts")]);
    let tried = report.tried.len().saturating_sub(1) as u64;
    let windows = match &report.time {
        Some(column) => {
            format!("{} windows of the training rows, one after the other by `{column}`", report.windows)
        }
        None => format!("{} folds of the training rows", report.windows),
    };
    let budget = if report.out_of_time { ", then the time was over" } else { "" };
    for (name, value) in [
        ("Next", report.next("found.toml")),
        ("Best setting", report.found.to_string()),
        ("Chosen by", format!("{} on {windows}", report.select)),
        ("Tried", format!("{} settings in {} trainings{budget}", grouped(tried), grouped(report.trainings))),
        ("Time", duration(report.seconds)),
        ("Test rows", "not used, and files of a test split not opened".to_owned()),
    ] {
        html.within("div", &[], |html| {
            html.element("dt", &[], name);
            html.element("dd", &[], &value);
        });
    }
    html.close("dl");
}

fn compared(report: &TuningReport, html: &mut Html) {
    let select = &report.select;
    html.within("div", &[("class", "charts")], |html| chart(report, html));
    let mut table = Table::new(&format!("{select} on each window, both trained with new seeds"))
        .texts(&["window"])
        .numbers(&["rows", "last stage", "seeds", "run file", "95% interval", "best setting", "95% interval"])
        .numbers(&["gain", "95% interval"])
        .texts(&["verdict"]);
    for window in &report.compared {
        table.row(vec![
            window_name(window, report.windows).into(),
            grouped(window.rows).into(),
            grouped(window.events).into(),
            grouped(window.seeds).into(),
            metric(Some(window.own)).into(),
            interval(window.own_interval).into(),
            metric(Some(window.found)).into(),
            interval(window.found_interval).into(),
            format!("{:+.4}", window.gain).into(),
            window
                .gain_interval
                .map_or_else(|| NONE.to_owned(), |[low, high]| format!("{low:+.4} – {high:+.4}"))
                .into(),
            judged(window),
        ]);
    }
    table.write(html);
    html.note(
        "The gain is that on the same rows, so it is known better than either value (DeLong's interval of a difference, with \
         what the seeds leave to chance where there are several). Settings were chosen on the numbered windows, which flatters \
         the best of them there; the last window was not used for choosing.",
    );
}

fn judged(window: &WindowComparison) -> Cell {
    match window.gain_interval {
        None => Cell::new(NONE),
        Some([low, _]) if low > 0.0 => Cell::new("better").class("good"),
        Some([_, high]) if high < 0.0 => Cell::new("worse").class("low"),
        Some(_) => Cell::new("within chance"),
    }
}

fn window_name(window: &WindowComparison, count: u32) -> String {
    match window.window {
        Some(number) => format!("{} of {count}", number + 1),
        None => "last: nothing was chosen on it".to_owned(),
    }
}

fn chart(report: &TuningReport, html: &mut Html) {
    let mut ends: Vec<f64> = vec![0.0];
    let mut dots = Vec::new();
    for (place, window) in report.compared.iter().enumerate() {
        ends.extend(window.gain_interval.unwrap_or([window.gain; 2]));
        let title = format!("window {}: gain {:+.4}", window_name(window, report.windows), window.gain);
        let ringed = window.window.is_none();
        let x = (place + 1) as f64;
        dots.push(Dot { x, y: window.gain, interval: window.gain_interval, ringed, title });
    }
    let low = ends.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ends.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let count = report.compared.len();
    let chart = Chart {
        caption: "Gain of the best setting with 95% intervals".to_owned(),
        description: format!("{count} windows, the last one ringed; the numbers are in the table below"),
        x: Axis::numbers("window", count),
        y: Axis::metric("gain", low, high),
        marks: vec![
            Mark::Rule { from: [0.5, 0.0], to: [count as f64 + 0.5, 0.0], title: "no gain".to_owned() },
            Mark::Dots { class: series(0), dots },
        ],
        legend: Vec::new(),
    };
    chart.draw(html);
}

fn tried(report: &TuningReport, html: &mut Html) {
    let windows: Vec<String> = (1..=report.windows).map(|window| format!("window {window}")).collect();
    let windows: Vec<&str> = windows.iter().map(String::as_str).collect();
    let caption = format!("{} of every setting, in the order in which they were tried", report.select);
    let mut table = Table::new(&caption)
        .texts(&["setting"])
        .numbers(&windows)
        .numbers(&["mean difference"])
        .texts(&["remark"]);
    for tried in &report.tried {
        let TriedSetting { setting, values, reason } = tried;
        let mut cells: Vec<Cell> = vec![setting.to_string().into()];
        cells.extend(values.iter().map(|value| Cell::from(metric(*value))));
        let difference = report.tried.first().and_then(|own| difference(values, &own.values));
        let shown = difference.filter(|_| !setting.is_none()).map(|difference| format!("{difference:+.4}"));
        cells.push(Cell::from(shown.unwrap_or_else(|| NONE.to_owned())));
        let remark = match reason {
            Some(reason) => reason.clone(),
            None if *setting == report.found => "the best".to_owned(),
            None => String::new(),
        };
        cells.push(remark.into());
        table.row(cells);
    }
    table.write(html);
    html.note(
        "Each setting trains on the latest window first; the better half of a round goes on to the one before. Where a value \
         is missing the setting was left behind, or time was over. The mean difference is that to the run file as it is, on \
         the windows that both were measured on; of one window, or of few, most of it is chance.",
    );
}

/// The mean difference of two settings, on the windows that both were measured on.
fn difference(values: &[Option<f64>], own: &[Option<f64>]) -> Option<f64> {
    let pairs = values.iter().zip(own).filter_map(|(value, own)| Some((*value)? - (*own)?));
    let differences: Vec<f64> = pairs.collect();
    (!differences.is_empty()).then(|| differences.iter().sum::<f64>() / differences.len() as f64)
}

#[cfg(test)]
mod tests {
    use esmm_run::tuning::{FORMAT_VERSION, Setting};

    use super::*;

    #[test]
    fn the_page_says_what_was_found_and_what_was_tried() {
        let found = Setting { epochs: Some(2), ..Setting::default() };
        let compared = |window| WindowComparison {
            window,
            rows: 1200,
            events: 90,
            seeds: 3,
            own: 0.61,
            own_interval: Some([0.6, 0.62]),
            found: 0.63,
            found_interval: Some([0.62, 0.64]),
            gain: 0.02,
            gain_interval: Some([0.011, 0.029]),
        };
        let tried = |setting: &Setting, values: [Option<f64>; 2], reason: Option<&str>| TriedSetting {
            setting: setting.clone(),
            values: values.to_vec(),
            reason: reason.map(str::to_owned),
        };
        let mut report = TuningReport {
            format_version: FORMAT_VERSION,
            run_file: "a<b>.toml".to_owned(),
            select: "ctcvr.auc".to_owned(),
            windows: 2,
            time: None,
            found: found.clone(),
            tried: vec![
                tried(&Setting::default(), [Some(0.6), Some(0.61)], None),
                tried(&found, [Some(0.62), Some(0.63)], None),
                tried(
                    &Setting { dropout: Some(0.5), ..Setting::default() },
                    [None, None],
                    Some("it diverged"),
                ),
            ],
            compared: vec![compared(Some(0)), compared(Some(1)), compared(None)],
            trainings: 20,
            seconds: 61.0,
            out_of_time: false,
        };
        let page = tuning_page(&report);
        for part in [
            "Tuning of a&lt;b&gt;.toml",
            "Better by more than chance",
            "epochs 2",
            "+0.0110 – +0.0290",
            "last: nothing was chosen on it",
            "it diverged",
            "2 settings in 20 trainings",
            "mean difference",
        ] {
            assert!(page.contains(part), "`{part}` is missing");
        }
        report.compared.clear();
        let page = tuning_page(&report);
        assert!(page.contains("None of 2 settings was better") && !page.contains("id=\"compared\""));
    }
}
