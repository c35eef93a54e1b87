//! What was trained and on what; what is wrong with the run directory; what the training warned of.

use esmm_core::ModelSummary;
use serde_json::Value;

use crate::format::{date, duration, grouped, short};
use crate::html::Html;
use crate::run::RunReport;
use crate::table::Table;

/// What is missing or damaged, so that nobody takes a part for the whole.
pub(crate) fn write_notes(run: &RunReport, html: &mut Html) {
    if run.notes.is_empty() {
        return;
    }
    html.within("div", &[("class", "box warn"), ("role", "note")], |html| {
        html.element("p", &[("class", "strong")], "This run directory is not complete:");
        list(&run.notes, html);
    });
}

/// The warnings of the guard rails.
pub(crate) fn write_warnings(run: &RunReport, _: u8, html: &mut Html) {
    html.within("div", &[("class", "box warn")], |html| list(&run.warnings, html));
}

fn list(lines: &[String], html: &mut Html) {
    html.within("ul", &[], |html| lines.iter().for_each(|line| html.element("li", &[], line)));
}

/// Data, features, model, optimizers, and how the training went.
pub(crate) fn write(run: &RunReport, _: u8, html: &mut Html) {
    html.open("dl", &[("class", "facts")]);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            html.within("div", &[], |html| {
                html.element("dt", &[], name);
                html.element("dd", &[], &value);
            });
        }
    };
    fact("Data", data(run));
    fact("Split", split(run));
    fact("Rows", rows(run));
    fact("Funnel", Some(run.stages().join(" → ")).filter(|stages| !stages.is_empty()));
    fact("Features", features(run));
    fact("Model", model(run));
    fact("Parameters", parameters(run));
    fact("Optimizers", optimizers(run));
    fact("Learning rate", learning_rate(run));
    fact("Steps", steps(run));
    fact("Seed", seed(run));
    fact("Best weights", best(run));
    fact("Trained", started(run));
    fact("Speed", speed(run));
    html.close("dl");
    write_features(run, html);
}

fn data(run: &RunReport) -> Option<String> {
    let data = run.config.pointer("/data")?;
    let sources = ["source", "train", "valid", "test"].into_iter().filter_map(|key| data.get(key));
    let paths = sources.filter_map(|source| source.get("paths")?.as_array());
    let names: Vec<&str> = paths.flatten().filter_map(Value::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn split(run: &RunReport) -> Option<String> {
    let data = run.config.pointer("/data")?;
    let by = data.get("by")?.as_str()?;
    let column = data.get("column").and_then(Value::as_str);
    let share = |key: &str| data.get(key).and_then(Value::as_f64);
    let shares = share("valid").zip(share("test"));
    let mut text = match (by, column) {
        ("files", _) => "files of its own for each split".to_owned(),
        (by, Some(column)) => format!("by {by}, column {column}"),
        (by, None) => format!("at {by}"),
    };
    if let Some((valid, test)) = shares {
        text.push_str(&format!(", {}% valid, {}% test", 100.0 * valid, 100.0 * test));
    }
    Some(text)
}

fn rows(run: &RunReport) -> Option<String> {
    let splits = run.splits();
    let counts = splits.iter().rev().map(|split| format!("{} {}", grouped(split.metrics.rows), split.name));
    (!splits.is_empty()).then(|| counts.collect::<Vec<_>>().join(", "))
}

fn features(run: &RunReport) -> Option<String> {
    let schema = &run.model.as_ref()?.schema;
    Some(format!("{} sparse, {} dense", schema.num_sparse(), schema.num_dense()))
}

fn model(run: &RunReport) -> Option<String> {
    let model = run.model.as_ref()?;
    let widths: Vec<String> = model.towers.hidden.iter().map(usize::to_string).collect();
    let mut text = format!(
        "embeddings of {}, {} towers {}",
        model.embedding_dim,
        model.stages,
        if widths.is_empty() { "without hidden layers".to_owned() } else { widths.join("-") }
    );
    text.push_str(if model.shared_embeddings { ", shared tables" } else { ", tables of their own" });
    if model.towers.batch_norm {
        text.push_str(", batch norm");
    }
    if model.towers.dropout.iter().any(|dropout| *dropout > 0.0) {
        let dropout: Vec<String> = model.towers.dropout.iter().map(f64::to_string).collect();
        text.push_str(&format!(", dropout {}", dropout.join(", ")));
    }
    Some(text)
}

fn parameters(run: &RunReport) -> Option<String> {
    let model = run.model.as_ref()?;
    let rows = model.schema.num_rows() as u64;
    Some(format!(
        "{}, in {} table rows and the towers",
        grouped(ModelSummary::new(model).parameters()),
        grouped(rows)
    ))
}

fn optimizers(run: &RunReport) -> Option<String> {
    let towers = run.text("/train/towers/optimizer")?;
    let tables = run.text("/train/tables/optimizer")?;
    let mut text = format!("towers {towers}, tables {}", tables.replace('_', " "));
    let number = |pointer: &str| run.config.pointer(pointer).and_then(Value::as_f64);
    if let Some(l2) = number("/train/tables/l2").filter(|l2| *l2 > 0.0) {
        text.push_str(&format!(", L2 {l2} on touched rows"));
    }
    if let Some(norm) = number("/train/clip_norm") {
        text.push_str(&format!(", gradients clipped to {norm}"));
    }
    Some(text)
}

fn learning_rate(run: &RunReport) -> Option<String> {
    let schedule = run.config.pointer("/train/schedule")?;
    let rate = schedule.get("learning_rate")?.as_f64()?;
    let mut text = format!("{rate}");
    if let Some(steps) = schedule.get("warmup_steps").and_then(Value::as_u64).filter(|steps| *steps > 0) {
        text.push_str(&format!(", {} steps of warm-up", grouped(steps)));
    }
    match schedule.get("decay").and_then(Value::as_str) {
        Some("constant") | None => {}
        Some(decay) => text.push_str(&format!(", {decay} decay")),
    }
    Some(text)
}

fn steps(run: &RunReport) -> Option<String> {
    let train = run.config.pointer("/train")?;
    let epochs = train.get("epochs")?.as_u64()?;
    let batch = train.get("batch_size")?.as_u64()?;
    let mut text = format!("{epochs} epochs planned, batches of {}", grouped(batch));
    if let Some(last) = run.history.as_ref().and_then(|history| history.steps.last()) {
        text.push_str(&format!("; last recorded step {} in epoch {}", grouped(last.step), last.epoch));
    }
    Some(text)
}

/// `3`, or `3 to 7, a model each`.
fn seed(run: &RunReport) -> Option<String> {
    let seed = run.config.pointer("/train/seed")?;
    match (run.seeds(), seed.as_u64()) {
        (seeds @ 2.., Some(first)) => {
            Some(format!("{first} to {}, a model each", first.wrapping_add(seeds - 1)))
        }
        _ => Some(seed.to_string()),
    }
}

fn best(run: &RunReport) -> Option<String> {
    let select = run.text("/train/select")?;
    if run.seeds() > 1 {
        return Some(format!("of each model its own, selected by {select} on the valid split"));
    }
    let step = run.best_step()?;
    let epoch =
        run.analysis.as_ref().map_or_else(String::new, |analysis| format!(", epoch {}", analysis.epoch));
    Some(format!("step {}{epoch}, selected by {select} on the valid split", grouped(step)))
}

fn started(run: &RunReport) -> Option<String> {
    let history = run.history.as_ref()?;
    let first = history.starts.first()?;
    let mut text = format!("{} on {}", date(first.unix_seconds), first.device);
    text.push_str(&format!(", {}", duration(history.seconds)));
    if history.starts.len() > 1 {
        text.push_str(&format!(" in {} parts", history.starts.len()));
    }
    Some(text)
}

fn speed(run: &RunReport) -> Option<String> {
    let steps = &run.history.as_ref()?.steps;
    let mut rates: Vec<f64> = steps.iter().map(|step| step.rows_per_second).collect();
    rates.sort_by(f64::total_cmp);
    let median = *rates.get(rates.len() / 2)?;
    let waiting = steps.iter().map(|step| step.waiting).sum::<f64>() / steps.len() as f64;
    Some(format!(
        "{} rows/s (median), {:.0}% of the time waiting for data",
        short(median.round()),
        100.0 * waiting
    ))
}

fn write_features(run: &RunReport, html: &mut Html) {
    let Some(features) = run.config.pointer("/features").and_then(Value::as_array) else { return };
    let mut table =
        Table::new("Features, in the order of the model's input").texts(&["feature", "side", "encoding"]);
    let table_rows = table_rows(run);
    table = table.numbers(&["table rows"]);
    for feature in features {
        let text = |key: &str| feature.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = text("name");
        let rows = table_rows.iter().find(|(table, _)| table == name);
        let rows = rows.map_or_else(String::new, |(_, rows)| grouped(*rows as u64));
        table.row(vec![name.into(), text("side").into(), encoding(feature).into(), rows.into()]);
    }
    html.within("details", &[], |html| {
        html.element("summary", &[], &format!("All {} features", features.len()));
        table.write(html);
    });
}

fn table_rows(run: &RunReport) -> Vec<(String, usize)> {
    let schema = run.model.iter().flat_map(|model| model.schema.tables());
    schema.map(|table| (table.name.clone(), table.num_embeddings)).collect()
}

/// `vocabulary, mean of a bag, shares category`
fn encoding(feature: &Value) -> String {
    let kind = feature.get("kind");
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Object(map)) => map.keys().next().cloned(),
        _ => None,
    };
    if let Some(dense) = kind.and_then(|kind| kind.get("dense")) {
        let transform = text(dense.get("transform")).filter(|transform| transform != "none");
        return transform.unwrap_or_else(|| "dense".to_owned());
    }
    let Some(sparse) = kind.and_then(|kind| kind.get("sparse")) else { return String::new() };
    let shares = sparse.get("shares").and_then(Value::as_str);
    let mut parts = match shares {
        Some(other) => vec![format!("table of {other}")],
        None => text(sparse.get("encoding")).into_iter().collect(),
    };
    parts.extend(text(sparse.get("bag")).map(|pooling| format!("{pooling} of a bag")));
    if sparse.get("weighted").and_then(Value::as_bool) == Some(true) {
        parts.push("weighted".to_owned());
    }
    parts.join(", ")
}
