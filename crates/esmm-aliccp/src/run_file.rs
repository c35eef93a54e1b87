//! Run files for what was prepared.

use std::fmt::Write;
use std::path::Path;

use crate::columns::weights_column;
use crate::field::{FIELDS, Field, Layout, Table};
use crate::output::{GROUPS_FILE, IMPRESSIONS_FILE};

/// Whose settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Those that arXiv 1804.07931 states.
    Paper,
    /// Those of the code that its authors published.
    AuthorsCode,
}

/// Fields with so few values that each of them is learned.
const SMALL: [&str; 9] = ["121", "122", "124", "125", "126", "127", "128", "129", "301"];

const PAPER: &str = "\
# Ali-CCP with the settings of arXiv 1804.07931: embeddings of 18, ReLU, 360 x 200 x 80, Adam. It states no learning rate,
# batch size or number of passes; those below are usual ones.
";

const PAPER_MODEL: &str = "\
[model]
embedding_dim = 18
hidden = [360, 200, 80]
activation = \"relu\"
batch_norm = false

[train]
epochs = 1
batch_size = 2048
";

const AUTHORS: &str = "\
# Ali-CCP with the settings of the code that the authors of arXiv 1804.07931 published: embeddings of 12, PReLU, 200 x 80,
# batches of 5000, a learning rate of 1e-3.
";

const AUTHORS_MODEL: &str = "\
[model]
embedding_dim = 12
hidden = [200, 80]
activation = \"prelu\"
batch_norm = false

[train]
epochs = 1
batch_size = 5000
";

/// A run file for a prepared folder.
pub(crate) fn run_file(setting: Setting, out: &Path, layout: Layout, has_test: bool) -> String {
    let (title, model) = match setting {
        Setting::Paper => (PAPER, PAPER_MODEL),
        Setting::AuthorsCode => (AUTHORS, AUTHORS_MODEL),
    };
    let mut text = format!("{title}{ABOUT}features = [\n");
    for (place, field) in FIELDS.iter().enumerate() {
        text.push_str(&feature(field, layout.is_bag(place)));
    }
    text.push_str("]\n\n[data]\n");
    let mut split = |key: &str| {
        let path = out.join(key).join(IMPRESSIONS_FILE).display().to_string().replace('\\', "/");
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{key} = {}", toml::Value::String(path));
    };
    split("train");
    if has_test {
        split("test");
    }
    format!("{text}groups = \"{GROUPS_FILE}\"\n\n{model}")
}

const ABOUT: &str = "\
# Multi-valued fields are summed with their weights, missing ones are empty. Vocabularies come from the training split;
# values in less than `min_count` impressions share one row.
";

fn feature(field: &Field, bag: bool) -> String {
    let side = match field.table {
        Table::Common => "user",
        Table::Skeleton if field.code == "301" => "context",
        Table::Skeleton => "item",
    };
    let Field { code, name, .. } = field;
    let mut text = format!("  {{ name = \"{name}\", column = \"{code}\", side = \"{side}\"");
    if bag {
        let weights = weights_column(code);
        text.push_str(&format!(", pooling = \"sum\", weighted = true, weights_column = \"{weights}\""));
    }
    if !SMALL.contains(code) {
        text.push_str(", min_count = 10");
    }
    text + " },\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use esmm_run::config::{RunFile, TrainConfig};

    #[test]
    fn both_files_are_valid_and_have_every_field() {
        for (setting, dim) in [(Setting::Paper, 18), (Setting::AuthorsCode, 12)] {
            for has_test in [true, false] {
                let text = run_file(setting, "a \"b\"".as_ref(), Layout::official(), has_test);
                let file = RunFile::parse(&text, "run.toml", &[]).unwrap();
                assert_eq!((file.features.len(), file.model.embedding_dim), (FIELDS.len(), dim));
                assert_eq!(file.data.test.to_vec().len(), usize::from(has_test));
                assert_eq!(file.data.train.to_vec(), ["a \"b\"/train/impressions.parquet"]);
                TrainConfig::resolve(&file).unwrap();
            }
        }
    }
}
