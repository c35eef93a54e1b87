//! The guesses as a run file that a person can read and edit.

use std::collections::BTreeMap;

use esmm_core::Side;
use esmm_data::quoted;

use crate::feature::{Encoding, FeatureGuess, LeftOut};
use crate::guesses::Guesses;
use crate::label::listed;
use crate::plan::Plan;
use crate::sample::Sample;

/// Width of a comment.
const WIDTH: usize = 112;
/// Columns with the same reason that are listed one by one.
const ONE_BY_ONE: usize = 6;
/// Bins of a number that need not be said.
const DEFAULT_BINS: usize = 16;
/// Unsure points that are listed.
const UNSURE: usize = 20;

/// The run file.
pub(crate) fn run_file(guesses: &Guesses, sample: &Sample, paths: &[String]) -> String {
    let mut text = head(guesses, sample, paths);
    text.push_str(&features(&guesses.features));
    text.push_str(&left_out(&guesses.left_out));
    text.push_str(&data(guesses, sample, paths));
    text.push_str(&labels(guesses));
    text.push_str(&metrics(guesses));
    text.push_str(&model_and_training(guesses.plan()));
    text
}

fn head(guesses: &Guesses, sample: &Sample, paths: &[String]) -> String {
    let mut text = comment(&format!(
        "A first guess by `esmm init {}`, made to be edited; `esmm train` takes it as it is. It {}.",
        paths.join(" ").escape_debug(),
        guesses.looked_at(sample)
    ));
    if let Some(expected) = &guesses.expected {
        text.push_str(&comment(&format!("{}.", capital(&expected.to_string()))));
    }
    let unsure = guesses.unsure();
    if !unsure.is_empty() {
        text.push_str("#\n# Unsure:\n");
        for line in unsure.iter().take(UNSURE) {
            text.push_str(&item(line));
        }
        if unsure.len() > UNSURE {
            text.push_str(&item(&format!(
                "and {} points more, at their columns below",
                unsure.len() - UNSURE
            )));
        }
    }
    text.push_str(
        "\n# A feature of ids: no `encode` (a vocabulary of the training rows; rarer than min_count is unknown),\n\
         # \"hash\" (buckets), \"raw\" (num_embeddings) or \"quantile\" (numbers cut into buckets). With pooling = \"mean\" or\n\
         # \"sum\" it takes lists. A feature of numbers: \"ple\" (cut into bins), \"dense\" (as they are), \"standardize\" or\n\
         # \"log1p\"; `missing` stands for a missing one. side: \"user\", \"item\", or \"context\" where none is given.\n",
    );
    text
}

fn features(features: &[FeatureGuess]) -> String {
    let lines: Vec<String> = features.iter().map(|feature| format!("  {},", entry(feature))).collect();
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0).min(72);
    let mut text = "features = [\n".to_owned();
    for (line, feature) in lines.iter().zip(features) {
        text.push_str(&format!("{line:<width$}  # {}", feature.why));
        if let Some(alternative) = &feature.alternative {
            text.push_str(&format!("; {alternative}"));
        }
        if let Some(unsure) = &feature.unsure {
            text.push_str(&format!("; unsure: {unsure}"));
        }
        text.push('\n');
    }
    text + "]\n"
}

/// `{ name = "user_id", side = "user", min_count = 2 }`
fn entry(feature: &FeatureGuess) -> String {
    let mut keys = vec![format!("name = {}", toml_text(&feature.column))];
    match feature.side {
        Some(Side::User) => keys.push("side = \"user\"".to_owned()),
        Some(Side::Item) => keys.push("side = \"item\"".to_owned()),
        _ => {}
    }
    let shares = feature.bag.as_ref().and_then(|bag| bag.shares.as_ref());
    match feature.encoding {
        _ if shares.is_some() => {}
        Encoding::Vocabulary { min_count: 1 } => {}
        Encoding::Vocabulary { min_count } => keys.push(format!("min_count = {min_count}")),
        Encoding::Hash { buckets } => keys.push(format!("encode = \"hash\", buckets = {buckets}")),
        Encoding::Ple { bins, missing } => {
            keys.push("encode = \"ple\"".to_owned());
            keys.extend((bins != DEFAULT_BINS).then(|| format!("bins = {bins}")));
            keys.extend(missing.map(missing_key));
        }
        Encoding::Standardize { missing } => {
            keys.push("encode = \"standardize\"".to_owned());
            keys.extend(missing.map(missing_key));
        }
    }
    if let Some(bag) = &feature.bag {
        keys.push("pooling = \"mean\"".to_owned());
        if bag.weighted {
            keys.push("weighted = true".to_owned());
        }
        keys.extend(
            bag.weights_column.iter().map(|column| format!("weights_column = {}", toml_text(column))),
        );
        keys.extend(bag.shares.iter().map(|owner| format!("shares = {}", toml_text(owner))));
    }
    format!("{{ {} }}", keys.join(", "))
}

fn missing_key(missing: f64) -> String {
    format!("missing = {:?}", missing as f32)
}

fn left_out(left_out: &[LeftOut]) -> String {
    if left_out.is_empty() {
        return String::new();
    }
    let mut kinds: BTreeMap<&str, Vec<&LeftOut>> = BTreeMap::new();
    left_out.iter().for_each(|column| kinds.entry(column.kind).or_default().push(column));
    let mut text = "# Left out:\n".to_owned();
    for (kind, columns) in kinds {
        if columns.len() <= ONE_BY_ONE {
            for column in columns {
                text.push_str(&item(&format!("{} {}", quoted(&column.column), column.why)));
            }
        } else {
            let names: Vec<&str> = columns.iter().map(|column| column.column.as_str()).collect();
            text.push_str(&item(&format!("{kind}: {}", listed(&names))));
        }
    }
    text
}

fn data(guesses: &Guesses, sample: &Sample, paths: &[String]) -> String {
    let mut text = "\n[data]\n".to_owned();
    match &guesses.named {
        Some(named) => {
            let parts = [("train", &named.train), ("valid", &named.valid), ("test", &named.test)];
            for (part, paths) in parts.into_iter().filter(|(_, paths)| !paths.is_empty()) {
                text.push_str(&format!("{part} = {}\n", path_list(paths)));
            }
        }
        None => text.push_str(&format!("path = {}\n", path_list(paths))),
    }
    if let Some(delimiter) = sample.source.csv.delimiter {
        text.push_str(&format!("delimiter = {}\n", toml_text(&delimiter.to_string())));
    }
    if sample.source.csv.quote != '"' {
        text.push_str(&format!("quote = {}\n", toml_text(&sample.source.csv.quote.to_string())));
    }
    if sample.source.spelling.decimal != '.' {
        text.push_str(&format!("decimal = {}\n", toml_text(&sample.source.spelling.decimal.to_string())));
    }
    if let Some((separator, weight)) = guesses.lists {
        if separator != '|' {
            text.push_str(&format!("list_separator = {}\n", toml_text(&separator.to_string())));
        }
        if let Some(weight) = weight.filter(|weight| *weight != ':') {
            text.push_str(&format!("weight_separator = {}\n", toml_text(&weight.to_string())));
        }
    }
    if let Some(named) = &guesses.named {
        if named.valid.is_empty() {
            text.push_str("# Without a validation file the last weights are kept, and patience has nothing to wait for.\n");
        }
        return text;
    }
    let split = &guesses.split;
    text.push_str(&comment(&format!("{}.", capital(&split.why))));
    let shares = format!("valid = {:?}, test = {:?}", split.valid, split.test);
    let hash = guesses.group.as_ref().map(|group| {
        format!(
            "# or all rows of a user on one side: {{ by = \"hash\", column = {}, {shares} }}\n",
            toml_text(group)
        )
    });
    match &split.time {
        Some(column) => {
            text.push_str(&format!(
                "split = {{ by = \"time\", column = {}, {shares} }}\n",
                toml_text(column)
            ));
        }
        None => {
            text.push_str(&format!("split = {{ by = \"random\", {shares} }}\n"));
            text.push_str(&format!("# or by time: {{ by = \"time\", column = \"...\", {shares} }}\n"));
        }
    }
    text.push_str(&hash.unwrap_or_default());
    text.push_str("# or files of your own, instead of path and split: train = \"...\", valid = \"...\", test = \"...\"\n");
    text
}

fn path_list(paths: &[String]) -> String {
    match paths {
        [path] => toml_text(path),
        paths => format!("[{}]", paths.iter().map(|path| toml_text(path)).collect::<Vec<_>>().join(", ")),
    }
}

fn labels(guesses: &Guesses) -> String {
    let labels = &guesses.labels;
    let click = toml_text(&labels.click.column);
    let conversion = toml_text(&labels.conversion.column);
    let mut text = format!("\n[labels]\nstages = [{click}, {conversion}]\n");
    if let Some(stages) = &labels.longer {
        let stages: Vec<String> = stages.iter().map(|stage| toml_text(stage)).collect();
        text.push_str(&format!("# or one stage more: stages = [{}]\n", stages.join(", ")));
    }
    text.push_str(match labels.orphans {
        0 => "# A conversion without a click is an error; orphan_conversions = \"drop\" leaves such rows out.\n",
        _ => "# Conversions without a click are left out; \"error\" stops at the first one.\norphan_conversions = \"drop\"\n",
    });
    text
}

fn metrics(guesses: &Guesses) -> String {
    let mut text = String::new();
    if let Some(group) = &guesses.group {
        text.push_str("# GAUC: the AUC within each of these, averaged.\n");
        text.push_str(&format!("group = {}\n", toml_text(group)));
    }
    for column in &guesses.truth {
        text.push_str(&format!("{column} = {}\n", toml_text(column)));
    }
    if text.is_empty() { text } else { format!("\n[metrics]\n{text}") }
}

fn model_and_training(plan: Plan) -> String {
    let Plan { embedding_dim, hidden, dropout, batch, epochs, .. } = plan;
    let init_std = plan.embedding_init_std.map_or_else(String::new, |std| {
        format!("# Embeddings that start apart tell few ids from each other within few steps.\nembedding_init_std = {std:?}\n")
    });
    let steps = plan.steps();
    let few = if steps < 200 { "; more rows would help more than more epochs" } else { "" };
    format!(
        "\n[model]\n# By the rows an id has: wider embeddings learn more, and more by heart.\n\
         embedding_dim = {embedding_dim}\nhidden = {hidden:?}\ndropout = {dropout:?}\n\
         {init_std}\n[train]\n# About {steps} steps{few}. More epochs mostly learn the training rows by heart.\n\
         epochs = {epochs}\nbatch_size = {batch}\n# Stop after so many validations without a better one.\npatience = 1\n\
         # The validation metric that chooses the weights to keep; or cvr.auc, ctr.log_loss, ...\n\
         select = \"ctcvr.auc\"\n# Event files for `tensorboard --logdir`: curves, distributions, the graph of the model.\n\
         tensorboard = true\ntowers = {{ learning_rate = 2e-3 }}\ntables = {{ learning_rate = 2e-3 }}\n\
         # A rate that falls to about 0 makes the end steadier from one seed to the next.\n\
         schedule = {{ decay = \"cosine\", final_factor = 0.01 }}\n"
    )
}

/// A text as TOML writes it.
fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn comment(text: &str) -> String {
    wrapped(text, "# ", "# ")
}

fn item(text: &str) -> String {
    wrapped(text, "#   ", "#     ")
}

fn wrapped(text: &str, first: &str, next: &str) -> String {
    let mut lines = vec![first.to_owned()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line + word.chars().count() > WIDTH && line > next.len() {
            lines.push(next.to_owned());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
            line.push(' ');
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_stay_in_their_width() {
        let text = item(&"word ".repeat(60));
        assert!(text.lines().all(|line| line.starts_with("#   ") && line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.matches("word").count(), 60);
        assert_eq!(comment("a\nb = 1"), "# a b = 1\n");
    }

    #[test]
    fn names_are_written_so_that_toml_reads_them_back() {
        for name in ["plain", "with \"quotes\"", "tab\tand\nline", "back\\slash", "ünï"] {
            let parsed: toml::Table = format!("name = {}", toml_text(name)).parse().unwrap();
            assert_eq!(parsed["name"].as_str(), Some(name));
        }
    }
}
