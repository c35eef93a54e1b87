//! How the rows of later splits differ from the training rows.

use esmm_run::analysis::{Drift, FeatureDrift, Moved};

use crate::format::{NONE, percent, prediction_label, ratio, significant};
use crate::html::Html;
use crate::run::RunReport;
use crate::table::{Cell, Table};

/// Features of a split that are shown at most.
const SHOWN: usize = 20;

/// The splits that are held against the training split.
pub(crate) fn found(run: &RunReport) -> impl Iterator<Item = (&'static str, Drift)> {
    let analysis = run.analysis.as_ref();
    ["test", "valid"].into_iter().filter_map(move |split| Some((split, analysis?.drift(split)?)))
}

/// Rates and features of each split.
pub(crate) fn write(run: &RunReport, _: u8, html: &mut Html) {
    for (split, drift) in found(run) {
        rates(split, &drift, html);
        features(split, &drift, html);
    }
    html.note(
        "A calibration that is off on later rows has two causes: what happens has become rarer or more frequent, or the rows \
         are others. The mean prediction changes only with the features: where the rate changed and the prediction did not, \
         the features do not tell why. Stability index: the sum over values of (q - p) ln(q / p), p their shares in training \
         and q the later ones; 0 is no change, .1 is some, .25 is much.",
    );
}

fn rates(split: &str, drift: &Drift, html: &mut Html) {
    let mut table = Table::new(&format!("Rates of the {split} split against the training split"))
        .texts(&["task"])
        .numbers(&["training", split, "ratio", "95% interval", "predicted: training", split, "ratio"])
        .texts(&[""]);
    for rate in &drift.rates {
        let [low, high] = rate.ratio_ci95;
        let verdict = match (rate.is_beyond_chance(), rate.ratio() < 1.0) {
            (false, _) => Cell::new("within chance").class("quiet"),
            (true, true) => Cell::new("fell").class("low"),
            (true, false) => Cell::new("rose").class("high"),
        };
        table.row(vec![
            prediction_label(&rate.task).into(),
            percent(rate.before).into(),
            percent(rate.after).into(),
            ratio(Some(rate.ratio())).into(),
            format!("{} – {}", ratio(Some(low)), ratio(Some(high))).into(),
            percent(rate.predicted_before).into(),
            percent(rate.predicted_after).into(),
            ratio(Some(rate.explained())).into(),
            verdict,
        ]);
    }
    if !table.is_empty() {
        table.write(html);
    }
}

fn features(split: &str, drift: &Drift, html: &mut Html) {
    let mut table = Table::new(&format!(
        "How the values of features are spread in the {split} split, the farthest first"
    ))
    .texts(&["feature"])
    .numbers(&["stability index", "by chance"])
    .texts(&["the value that moved most"])
    .numbers(&["training", split, "missing or new: training", split])
    .texts(&[""]);
    for feature in drift.features.iter().take(SHOWN) {
        let share = |share: Option<f64>| share.map_or_else(|| NONE.to_owned(), percent);
        table.row(vec![
            feature.feature.as_str().into(),
            significant(feature.stability_index, 2).into(),
            significant(feature.by_chance, 2).into(),
            feature.bin.as_str().into(),
            percent(feature.share_before).into(),
            percent(feature.share_after).into(),
            share(feature.unknown_before).into(),
            share(feature.unknown_after).into(),
            verdict(feature),
        ]);
    }
    if !table.is_empty() {
        table.write(html);
    }
}

fn verdict(feature: &FeatureDrift) -> Cell {
    match (feature.moved(), feature.newer()) {
        (Moved::Hardly, None) => Cell::new("as in training").class("quiet"),
        (Moved::Hardly, Some(_)) => Cell::new("more new values").class("high"),
        (Moved::Some, _) => Cell::new("moved").class("high"),
        (Moved::Far, _) => Cell::new("moved far").class("high"),
    }
}
