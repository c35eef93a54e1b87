//! Every key of a run file with its type, default and meaning, out of the documentation of the run file's own types: as a
//! JSON schema for editors, and as a page of the book.

use schemars::schema_for;
use serde_json::Value;

use super::run_file::RunFile;

/// What stands above the tables.
const HEAD: &str = "\
# The run file

<!-- Made from the documentation of the run file's types: see CONTRIBUTING.md, \"The book\". Do not edit. -->

A run file is [TOML](https://toml.io). Only `features` and the files in `[data]` are needed. A key that does not exist is
an error that names the nearest one; on the command line `--set train.epochs=5` overrides a key. Editors with a TOML
language server complete and check keys with the [JSON schema](../run-file.schema.json), which `esmm schema` prints: save
it beside the run file and begin that with `#:schema ./run-file.schema.json`.
";

impl RunFile {
    /// The JSON schema of run files, with a description, a type and a default for each key.
    pub fn json_schema() -> Value {
        let mut schema = schema_for!(Self).to_value();
        schema.sort_all_objects();
        schema
    }

    /// What the value of a key may be, in words, as `a whole number, at least 1`; `None` of what is no key.
    pub(super) fn allowed(path: &str) -> Option<String> {
        let schema = Self::json_schema();
        let page = Page { schema: &schema, text: String::new() };
        let mut value = &schema;
        if path.is_empty() {
            return None;
        }
        // Places in a list are no keys.
        for key in path.split('.').filter(|key| key.parse::<usize>().is_err()) {
            value = page.object(value)?["properties"].get(key)?;
        }
        let target = page.resolved(value);
        if page.object(value).is_some() {
            let is_list = target["type"] == "array";
            return Some(if is_list { "a list of sections" } else { "a section" }.to_owned());
        }
        if let Some(named) = target["oneOf"].as_array() {
            let names: Vec<String> = named.iter().map(|name| format!("`{}`", name["const"])).collect();
            return Some(format!("one of {}", names.join(", ")));
        }
        let kind = page.kind(value);
        let least = if kind == "whole number" && value["minimum"] == 0 { ", at least 0" } else { "" };
        let has_article = ["one ", "text", "`"].iter().any(|begin| kind.starts_with(begin));
        Some(format!("{}{kind}{least}", if has_article { "" } else { "a " }))
    }

    /// The page `docs/src/run-file.md`: the same as tables.
    pub fn reference() -> String {
        let schema = Self::json_schema();
        let mut page = Page { schema: &schema, text: HEAD.to_owned() };
        page.section("", "", &schema);
        page.text
    }
}

/// The page while it is written.
struct Page<'a> {
    schema: &'a Value,
    text: String,
}

impl<'a> Page<'a> {
    /// A heading, a table of the keys that have a value, and after it each key that has keys of its own. `path` is empty
    /// for the file itself, whose keys are all of the second kind.
    fn section(&mut self, path: &str, heading: &str, object: &'a Value) {
        let keys: Vec<(&String, &Value)> = object["properties"].as_object().into_iter().flatten().collect();
        let (inner, own): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|(_, value)| self.object(value).is_some());
        if !path.is_empty() {
            self.text.push_str(&format!("\n## {heading}\n\n{}\n", line(object)));
        }
        if !own.is_empty() {
            self.text.push_str("\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
        }
        for (key, value) in own {
            let needed =
                object["required"].as_array().is_some_and(|keys| keys.iter().any(|name| name == key));
            let default = if needed { "needed".to_owned() } else { default(value) };
            let (kind, meaning) = (self.kind(value), self.meaning(value));
            self.text.push_str(&format!("| `{key}` | {kind} | {default} | {meaning} |\n"));
        }
        for (key, value) in inner {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let heading = match self.resolved(value)["type"] == "array" {
                true => format!("Each entry of `{path}`"),
                false => format!("`[{path}]`"),
            };
            if let Some(object) = self.object(value) {
                self.section(&path, &heading, object);
            }
        }
    }

    /// The schema that a key refers to, of an optional key the one of its value.
    fn resolved(&self, value: &'a Value) -> &'a Value {
        if let Some(reference) = value["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or_default();
            return self.resolved(&self.schema["$defs"][name]);
        }
        let some: Vec<&Value> =
            value["anyOf"].as_array().into_iter().flatten().filter(|one| one["type"] != "null").collect();
        match some.as_slice() {
            [one] => self.resolved(one),
            _ => value,
        }
    }

    /// The keys of a section, or of each entry of a list of sections.
    fn object(&self, value: &'a Value) -> Option<&'a Value> {
        let value = self.resolved(value);
        let value = if value["type"] == "array" { self.resolved(&value["items"]) } else { value };
        value["properties"].is_object().then_some(value)
    }

    /// The type of a value in words.
    fn kind(&self, value: &'a Value) -> String {
        let target = self.resolved(value);
        if target["oneOf"].is_array() {
            return "one of these".to_owned();
        }
        if let Some(kinds) = target["anyOf"].as_array() {
            return kinds.iter().map(|kind| self.kind(kind)).collect::<Vec<_>>().join(" or ");
        }
        let kind = match &target["type"] {
            Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").unwrap_or(&Value::Null),
            kind => kind,
        };
        let name = match kind.as_str().unwrap_or_default() {
            "string" if target["maxLength"] == 1 => "one character",
            "string" => "text",
            "boolean" => "`true` or `false`",
            "integer" => "whole number",
            "array" => return format!("list of {}s", self.kind(&target["items"])),
            other => other,
        };
        let limit = |key: &str| value[key].as_f64();
        if let (Some(least), Some(most)) = (limit("minimum"), limit("maximum")) {
            return format!("{name}, {least} to {most}");
        }
        let below = limit("exclusiveMaximum").map_or_else(String::new, |limit| format!(" and below {limit}"));
        match (limit("minimum"), limit("exclusiveMinimum")) {
            (_, Some(limit)) => format!("{name} above {limit}{below}"),
            (Some(limit), _) if limit > 0.0 || kind == "number" => format!("{name}, at least {limit}{below}"),
            _ => name.to_owned(),
        }
    }

    /// The documentation of a key; of one with named values that of each.
    fn meaning(&self, value: &'a Value) -> String {
        let mut text = line(value);
        for variant in self.resolved(value)["oneOf"].as_array().into_iter().flatten() {
            text.push_str(&format!("<br>`{}`: {}", variant["const"], line(variant)));
        }
        text
    }
}

/// A description on one line, for a table.
fn line(value: &Value) -> String {
    let text = value["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// A default as TOML; a dash where there is none.
fn default(value: &Value) -> String {
    match &value["default"] {
        Value::Null => "–".to_owned(),
        Value::Array(values) if values.is_empty() => "–".to_owned(),
        default => format!("`{}`", default.to_string().replace(',', ", ").replace('|', "\\|")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::config::TrainConfig;

    /// The paths of all keys, with their schemas: `train.epochs`; those of an entry of a list `features[].name`.
    fn keys() -> Vec<(String, Value)> {
        fn collect(page: &Page<'_>, path: &str, object: &Value, found: &mut Vec<(String, Value)>) {
            for (key, value) in object["properties"].as_object().unwrap() {
                let path = format!("{path}{key}");
                found.push((path.clone(), value.clone()));
                if let Some(inner) = page.object(value) {
                    let list = if page.resolved(value)["type"] == "array" { "[]" } else { "" };
                    collect(page, &format!("{path}{list}."), inner, found);
                }
            }
        }
        let schema = RunFile::json_schema();
        let page = Page { schema: &schema, text: String::new() };
        let mut found = Vec::new();
        collect(&page, "", &schema, &mut found);
        found
    }

    const MINIMAL: &str = "features = [{ name = \"user\" }]\ndata.train = \"a.csv\"\n";

    /// The keys that the parser itself names when it meets an unknown one in a section.
    fn parsed_keys(section: &str) -> BTreeSet<String> {
        let text = match section {
            "features[]" => MINIMAL.replace("name", "x = 1, name"),
            "data.split" => format!("{MINIMAL}data.split = {{ by = \"time\", x = 1 }}"),
            "" => format!("{MINIMAL}x = 1"),
            section => format!("{MINIMAL}{section}.x = 1"),
        };
        let error = RunFile::parse(&text, "run.toml", &[]).unwrap_err().to_string();
        let (_, known) = error.split_once("expected ").unwrap_or_else(|| panic!("{section}: {error}"));
        let known = known.split(" (did").next().unwrap();
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_key_that_is_parsed_is_documented_and_no_other() {
        let keys = keys();
        let mut sections: BTreeSet<String> = BTreeSet::new();
        for (path, schema) in &keys {
            let section = path.rsplit_once('.').map_or("", |(section, _)| section);
            sections.insert(section.to_owned());
            let documented = schema["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(documented, "{path} has no documentation");
        }
        for section in sections {
            let start = if section.is_empty() { String::new() } else { format!("{section}.") };
            let documented: BTreeSet<String> = keys
                .iter()
                .filter_map(|(path, _)| path.strip_prefix(&start))
                .filter(|key| !key.contains('.'))
                .map(str::to_owned)
                .collect();
            assert_eq!(documented, parsed_keys(&section), "[{section}]");
        }
        assert!(keys.len() >= 72, "only {} keys were found", keys.len());
    }

    /// A limit that the reference states is one that the program enforces.
    #[test]
    fn values_beyond_a_limit_are_refused() {
        let mut limits = 0;
        for (path, schema) in keys() {
            let limit = |key: &str| schema[key].as_f64();
            let is_number = schema["type"] == "number";
            let below = match (limit("minimum"), limit("exclusiveMinimum")) {
                (_, Some(limit)) => Some(limit),
                (Some(limit), _) if limit > 0.0 || is_number => Some(limit - 1.0),
                _ => None,
            };
            let above = limit("exclusiveMaximum").or(limit("maximum").map(|limit| limit + 1.0));
            for value in [below, above].into_iter().flatten() {
                limits += 1;
                assert!(!is_taken(&path, value), "{path} = {value} is taken");
            }
        }
        assert!(limits >= 16, "only {limits} limits were found");
        for (key, least, most) in [("bins", 1.0, 1024.0), ("buckets", 1.0, 1e6), ("num_embeddings", 1.0, 1e6)]
        {
            for value in [least, most] {
                assert!(is_taken(&format!("features[].{key}"), value), "{key} = {value} is not taken");
            }
        }
    }

    /// Whether a run file with this value resolves; that of a feature's key in a feature that has it.
    fn is_taken(path: &str, value: f64) -> bool {
        let file = match path.strip_prefix("features[].") {
            Some(key) => {
                let encodes = [("bins", "ple"), ("buckets", "hash"), ("num_embeddings", "raw")];
                let (_, encode) = encodes.iter().find(|(name, _)| *name == key).unwrap();
                let feature = format!("{{ encode = \"{encode}\", {key} = {value}, name");
                RunFile::parse(&MINIMAL.replace("{ name", &feature), "run.toml", &[])
            }
            None => RunFile::parse(MINIMAL, "run.toml", &[format!("{path}={value}")]),
        };
        file.and_then(|file| TrainConfig::resolve(&file)).is_ok()
    }

    /// `ESMM_WRITE_DOCS=1 cargo test --lib reference` writes the two files anew.
    #[test]
    fn the_committed_reference_is_what_the_types_say() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let schema = format!("{:#}\n", RunFile::json_schema());
        for (file, made) in [("src/run-file.md", RunFile::reference()), ("run-file.schema.json", schema)] {
            let path = docs.join(file);
            if std::env::var_os("ESMM_WRITE_DOCS").is_some() {
                std::fs::write(&path, &made).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == made,
                "docs/{file} is not what the types say: ESMM_WRITE_DOCS=1 writes it anew"
            );
        }
    }

    /// Blocks marked `toml` are whole run files, but for the dependencies of a program that uses the library.
    #[test]
    fn every_run_file_in_a_document_is_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let pages = std::fs::read_dir(root.join("docs/src")).unwrap().map(|entry| entry.unwrap().path());
        let mut run_files = 0;
        for page in pages.chain([root.join("README.md")]) {
            if page.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let text = std::fs::read_to_string(&page).unwrap();
            for block in text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
                if block.starts_with("[dependencies]") {
                    continue;
                }
                let file = RunFile::parse(block, &page.display().to_string(), &[]);
                let resolved = file.and_then(|file| TrainConfig::resolve(&file));
                assert!(resolved.is_ok(), "{resolved:?} in\n{block}");
                run_files += 1;
            }
        }
        assert!(run_files >= 4, "only {run_files} run files were found");
    }

    #[test]
    fn defaults_are_those_of_the_program() {
        let page = RunFile::reference();
        for row in [
            "| `learning_rate` | number above 0 | `0.001` |",
            "| `batch_size` | whole number, 1 to 4294967295 | `1024` |",
            "| `memory` | text | `\"4GiB\"` |",
            "| `hidden` | list of whole numbers | `[64, 32]` |",
            "| `stages` | list of texts | `[\"click\", \"conversion\"]` |",
        ] {
            assert!(page.contains(row), "{row} is not in\n{page}");
        }
    }
}
