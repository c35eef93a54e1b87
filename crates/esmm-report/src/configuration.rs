//! The resolved configuration, and how those of several runs differ.

use serde_json::Value;

use crate::html::Html;
use crate::run::RunReport;
use crate::table::Table;

/// The whole configuration, folded.
pub(crate) fn write(run: &RunReport, html: &mut Html) {
    let Ok(text) = serde_json::to_string_pretty(&run.config) else { return };
    if run.config.is_null() {
        return;
    }
    html.within("details", &[], |html| {
        html.element("summary", &[], "The whole configuration (config.json)");
        html.within("pre", &[("tabindex", "0")], |html| html.element("code", &[], &text));
    });
}

/// The settings in which runs differ; `None` when there is none.
pub(crate) fn differences(runs: &[RunReport]) -> Option<Table> {
    let flat: Vec<Vec<(String, String)>> = runs.iter().map(|run| flattened(&run.config)).collect();
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in flat.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let mut table = Table::new("Settings that differ").texts(&["setting"]).texts(&names);
    for key in keys {
        let values: Vec<&str> = flat.iter().map(|settings| value_of(settings, key)).collect();
        if values.windows(2).any(|pair| pair[0] != pair[1]) {
            table.row(std::iter::once(key).chain(values).map(Into::into).collect());
        }
    }
    (!table.is_empty()).then_some(table)
}

fn value_of<'a>(settings: &'a [(String, String)], key: &str) -> &'a str {
    settings.iter().find(|(name, _)| name == key).map_or("–", |(_, value)| value)
}

/// Dotted names and values of all leaves. Items of a list that have a name are called by it.
fn flattened(value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    flatten("", value, &mut found);
    found
}

fn flatten(prefix: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let named = |items: &[Value]| items.iter().all(|item| item.get("name").is_some_and(Value::is_string));
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, found);
            }
        }
        Value::Array(items) if !items.is_empty() && named(items) => {
            for item in items {
                let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
                flatten(&format!("{prefix}[{name}]"), item, found);
            }
        }
        leaf => found.push((prefix.to_owned(), leaf.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{differences, flattened};
    use crate::html::Html;
    use crate::run::RunReport;

    #[test]
    fn only_what_differs_is_listed() {
        let run = |name: &str, config| RunReport { name: name.to_owned(), config, ..RunReport::default() };
        let base =
            json!({"train": {"seed": 1, "hidden": [8, 4]}, "features": [{"name": "a", "side": "user"}]});
        assert_eq!(flattened(&base)[0], ("features[a].name".to_owned(), "\"a\"".to_owned()));
        assert!(differences(&[run("x", base.clone()), run("y", base.clone())]).is_none());
        let other =
            json!({"train": {"seed": 1, "hidden": [8]}, "features": [{"name": "b<", "side": "user"}]});
        let mut html = Html::default();
        differences(&[run("x", base), run("y", other)]).unwrap().write(&mut html);
        let text = html.finish();
        assert!(text.contains(">train.hidden</th>") && text.contains(">[8]</td>"), "{text}");
        assert!(text.contains(">features[b&lt;].name</th>") && !text.contains("seed"), "{text}");
    }
}
