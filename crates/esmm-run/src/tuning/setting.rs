//! What a tuning changes of a run file: a few settings, each written into the text so that its comments stay.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::edit::{Step, TomlText};
use crate::config::{DropoutSection, Encode, FeatureSection, RunFile};
use crate::error::RunError;

/// Changes of a run file. What is `None` stays as the file says it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Setting {
    /// `train.epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// The learning rates of towers and tables, times those of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<f64>,
    /// `model.dropout`, of all hidden layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// The widths of the hidden layers, times those of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<f64>,
    /// `model.embedding_dim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_dim: Option<u64>,
    /// `min_count` of every vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_count: Option<u64>,
    /// How all numbers are encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Numbers>,
}

/// How numbers are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numbers {
    /// `encode = "ple"` with 16 bins.
    Ple16,
    /// `encode = "ple"` with 32 bins.
    Ple32,
    /// `encode = "standardize"`.
    Standardize,
    /// `encode = "quantile"` with 32 buckets.
    Quantile,
}

impl Setting {
    /// Numbers of epochs that are tried first: what else is best depends on how long a training is.
    pub fn epochs() -> Vec<Self> {
        [1, 2, 3, 4, 6].map(|epochs| Self { epochs: Some(epochs), ..Self::default() }).to_vec()
    }

    /// Changes of one kind each, those that helped most often first.
    pub fn single() -> Vec<Self> {
        let rates = |rates| Self { rates: Some(rates), ..Self::default() };
        let dropout = |dropout| Self { dropout: Some(dropout), ..Self::default() };
        let width = |width| Self { width: Some(width), ..Self::default() };
        let dim = |dim| Self { embedding_dim: Some(dim), ..Self::default() };
        let min_count = |count| Self { min_count: Some(count), ..Self::default() };
        let numbers = |numbers| Self { numbers: Some(numbers), ..Self::default() };
        vec![
            rates(2.0),
            rates(0.5),
            numbers(Numbers::Ple16),
            dim(8),
            min_count(5),
            dropout(0.2),
            dropout(0.0),
            dim(16),
            width(2.0),
            numbers(Numbers::Standardize),
            dropout(0.35),
            min_count(2),
            numbers(Numbers::Ple32),
            rates(4.0),
            width(0.5),
            dim(4),
            min_count(10),
            numbers(Numbers::Quantile),
            dim(32),
            dropout(0.5),
        ]
    }

    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Both changes; where both change the same, the other's.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            epochs: other.epochs.or(self.epochs),
            rates: other.rates.or(self.rates),
            dropout: other.dropout.or(self.dropout),
            width: other.width.or(self.width),
            embedding_dim: other.embedding_dim.or(self.embedding_dim),
            min_count: other.min_count.or(self.min_count),
            numbers: other.numbers.or(self.numbers),
        }
    }

    /// Whether both change something of the same kind.
    pub fn meets(&self, other: &Self) -> bool {
        let both = [
            self.epochs.is_some() && other.epochs.is_some(),
            self.rates.is_some() && other.rates.is_some(),
            self.dropout.is_some() && other.dropout.is_some(),
            self.width.is_some() && other.width.is_some(),
            self.embedding_dim.is_some() && other.embedding_dim.is_some(),
            self.min_count.is_some() && other.min_count.is_some(),
            self.numbers.is_some() && other.numbers.is_some(),
        ];
        both.contains(&true)
    }

    /// A run file with these changes.
    #[must_use]
    pub fn of(&self, file: &RunFile) -> RunFile {
        let mut file = file.clone();
        let (model, train) = (&mut file.model, &mut file.train);
        if let Some(epochs) = self.epochs {
            train.epochs = epochs;
        }
        if let Some(times) = self.rates {
            train.towers.learning_rate = short(train.towers.learning_rate * times);
            train.tables.learning_rate = short(train.tables.learning_rate * times);
        }
        if let Some(dropout) = self.dropout {
            model.dropout = DropoutSection::All(dropout);
        }
        if let Some(times) = self.width {
            let width = |width: &usize| ((*width as f64 * times).round() as usize).max(1);
            model.hidden = model.hidden.iter().map(width).collect();
        }
        if let Some(dim) = self.embedding_dim {
            model.embedding_dim = dim as usize;
        }
        for feature in &mut file.features {
            let is_vocabulary = feature.encode == Encode::Vocabulary && feature.shares.is_none();
            if let Some(count) = self.min_count.filter(|_| is_vocabulary) {
                feature.min_count = (count > 1).then_some(count);
            }
            if let Some(numbers) = self.numbers.filter(|_| feature.encode.is_dense()) {
                numbers.of(feature);
            }
        }
        file
    }

    /// The text of a run file with these changes, its comments and order as they were. `name` is for messages.
    ///
    /// # Errors
    /// A text that is no run file, or one that is written in a way in which it cannot be changed.
    pub fn write_into(&self, text: &str, name: &str) -> Result<String, RunError> {
        let file = RunFile::parse(text, name, &[])?;
        let wanted = self.of(&file);
        let mut toml = TomlText::new(text, name);
        if self.epochs.is_some() {
            toml.set(&[Step::Key("train")], "epochs", &wanted.train.epochs.to_string())?;
        }
        if self.rates.is_some() {
            let rates = [
                ("towers", wanted.train.towers.learning_rate),
                ("tables", wanted.train.tables.learning_rate),
            ];
            for (section, rate) in rates {
                let place = [Step::Key("train"), Step::Key(section)];
                toml.set(&place, "learning_rate", &format!("{rate:?}"))?;
            }
        }
        let model = [Step::Key("model")];
        if let Some(dropout) = self.dropout {
            toml.set(&model, "dropout", &format!("{dropout:?}"))?;
        }
        if self.width.is_some() {
            toml.set(&model, "hidden", &format!("{:?}", wanted.model.hidden))?;
        }
        if self.embedding_dim.is_some() {
            toml.set(&model, "embedding_dim", &wanted.model.embedding_dim.to_string())?;
        }
        for (number, (before, after)) in file.features.iter().zip(&wanted.features).enumerate() {
            feature(&mut toml, number, before, after)?;
        }
        let edited = toml.finish();
        match RunFile::parse(&edited, name, &[])? == wanted {
            true => Ok(edited),
            false => Err(RunError::Config(format!(
                "{name}: {self} cannot be written into this file: write `[train]`, `[model]` and `features` as \
                 docs/src/run-file.md has them"
            ))),
        }
    }
}

/// Writes what is another in a feature.
fn feature(
    toml: &mut TomlText,
    number: usize,
    before: &FeatureSection,
    after: &FeatureSection,
) -> Result<(), RunError> {
    let place = [Step::Key("features"), Step::Item(number)];
    let mut write = |key: &str, before: Option<String>, after: Option<String>| match after {
        after if before == after => Ok(()),
        Some(value) => toml.set(&place, key, &value),
        None => toml.remove(&place, key),
    };
    let number = |value: Option<usize>| value.map(|value| value.to_string());
    let encode = |encode: Encode| Some(format!("\"{}\"", encode.name()));
    write("encode", encode(before.encode), encode(after.encode))?;
    write(
        "min_count",
        before.min_count.map(|count| count.to_string()),
        after.min_count.map(|count| count.to_string()),
    )?;
    write("bins", number(before.bins), number(after.bins))?;
    write("buckets", number(before.buckets), number(after.buckets))?;
    let missing = |missing: Option<f64>| missing.map(|missing| format!("{missing:?}"));
    write("missing", missing(before.missing), missing(after.missing))
}

impl Numbers {
    fn of(self, feature: &mut FeatureSection) {
        feature.bins = None;
        match self {
            Self::Ple16 => feature.encode = Encode::Ple,
            Self::Ple32 => {
                feature.encode = Encode::Ple;
                feature.bins = Some(32);
            }
            Self::Standardize => feature.encode = Encode::Standardize,
            // A missing number is a bucket of its own.
            Self::Quantile => {
                feature.encode = Encode::Quantile;
                feature.buckets = Some(32);
                feature.missing = None;
            }
        }
    }
}

/// A number with two digits that count.
fn short(number: f64) -> f64 {
    format!("{number:.1e}").parse().unwrap_or(number)
}

impl fmt::Display for Setting {
    /// `epochs 2, learning rates x 2, numbers as ple`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.epochs.map(|epochs| format!("epochs {epochs}")));
        parts.extend(self.rates.map(|rates| format!("learning rates x {rates}")));
        parts.extend(self.dropout.map(|dropout| format!("dropout {dropout}")));
        parts.extend(self.width.map(|width| format!("hidden layers x {width}")));
        parts.extend(self.embedding_dim.map(|dim| format!("embedding_dim {dim}")));
        parts.extend(self.min_count.map(|count| format!("min_count {count}")));
        parts.extend(self.numbers.map(|numbers| format!("numbers as {numbers}")));
        match parts.is_empty() {
            true => f.write_str("the run file as it is"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ple16 => "ple of 16 bins",
            Self::Ple32 => "ple of 32 bins",
            Self::Standardize => "standardize",
            Self::Quantile => "quantile of 32 buckets",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# A table of flights.
features = [
  { name = "user", min_count = 2 },  # who
  { name = "tags", pooling = "mean", shares = "user" },
  { name = "price", encode = "log1p", missing = 3.0 },  # how much
]

[data]
path = "data.csv" # here
split = { by = "time", column = "day", valid = 0.1, test = 0.1 }

[train]
epochs = 3
towers = { learning_rate = 2e-3 } # fast
"#;

    fn all() -> impl Iterator<Item = Setting> {
        Setting::epochs().into_iter().chain(Setting::single())
    }

    #[test]
    fn every_change_is_in_the_file_and_nothing_else_is() {
        let before = RunFile::parse(TEXT, "run.toml", &[]).unwrap();
        let setting = Setting {
            epochs: Some(2),
            rates: Some(0.5),
            dropout: Some(0.35),
            width: Some(2.0),
            embedding_dim: Some(8),
            min_count: Some(5),
            numbers: Some(Numbers::Ple32),
        };
        let text = setting.write_into(TEXT, "run.toml").unwrap();
        let file = RunFile::parse(&text, "run.toml", &[]).unwrap();
        assert_eq!((file.train.epochs, file.train.towers.learning_rate), (2, 1e-3));
        assert_eq!(file.train.tables.learning_rate, 5e-4);
        assert_eq!((file.model.hidden.as_slice(), file.model.embedding_dim), ([128, 64].as_slice(), 8));
        assert_eq!(file.model.dropout, DropoutSection::All(0.35));
        let [user, tags, price] = file.features.as_slice() else { panic!("{file:?}") };
        assert_eq!((user.min_count, tags.min_count, price.min_count), (Some(5), None, None));
        assert_eq!((price.encode, price.bins, price.missing), (Encode::Ple, Some(32), Some(3.0)));
        assert_eq!((&file.data, &file.labels), (&before.data, &before.labels));
        for comment in ["# A table of flights.", "# who", "# how much", "# here", "# fast"] {
            assert!(text.contains(comment), "{comment} is lost in {text}");
        }
        let quantile = Setting { numbers: Some(Numbers::Quantile), ..Setting::default() };
        let file = RunFile::parse(&quantile.write_into(TEXT, "run.toml").unwrap(), "run.toml", &[]).unwrap();
        assert_eq!((file.features[2].encode, file.features[2].missing), (Encode::Quantile, None));
    }

    #[test]
    fn each_change_alone_makes_a_file_that_resolves_and_nothing_changes_no_byte() {
        assert_eq!(Setting::default().write_into(TEXT, "run.toml").unwrap(), TEXT);
        let sections = TEXT.replace(
            "features = [",
            "[[features]]\nname = \"a\"\nencode = \"ple\"\nbins = 4\n\n[[features]]\nname = \"b\"\n\n[unused]\nx = [",
        );
        let sections = sections.split("[unused]").next().unwrap().to_owned() + "[data]\ntrain = \"a.csv\"\n";
        for text in [TEXT, sections.as_str()] {
            for setting in all() {
                let edited = setting.write_into(text, "run.toml").unwrap();
                let file = RunFile::parse(&edited, "run.toml", &[]).unwrap();
                crate::config::TrainConfig::resolve(&file)
                    .unwrap_or_else(|error| panic!("{setting}: {error}"));
            }
        }
        let text = Setting { numbers: Some(Numbers::Standardize), ..Setting::default() };
        let file = RunFile::parse(&text.write_into(&sections, "run.toml").unwrap(), "run.toml", &[]).unwrap();
        assert_eq!((file.features[0].encode, file.features[0].bins), (Encode::Standardize, None));
    }

    #[test]
    fn changes_are_put_together() {
        let settings: Vec<Setting> = all().collect();
        for (place, one) in settings.iter().enumerate() {
            assert!(one.meets(one) && !one.is_none() && one.and(one) == *one);
            assert!(!one.to_string().is_empty() && one.to_string() != Setting::default().to_string());
            let json = serde_json::to_string(one).unwrap();
            assert_eq!(serde_json::from_str::<Setting>(&json).unwrap(), *one);
            assert!(settings[..place].iter().all(|other| other != one), "{one} twice");
        }
        let two = Setting::epochs()[1].and(&Setting::single()[0]);
        assert_eq!(two.to_string(), "epochs 2, learning rates x 2");
        assert!(two.meets(&Setting::epochs()[0]) && !Setting::epochs()[0].meets(&Setting::single()[0]));
    }
}
