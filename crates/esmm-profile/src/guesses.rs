//! All guesses about some files.

use esmm_data::DataError;
use esmm_run::RunError;

use crate::choose::{Rows, choose};
use crate::column::Column;
use crate::expect::Expected;
use crate::feature::{BagGuess, Choice, Encoding, FeatureGuess, LeftOut};
use crate::label::Labels;
use crate::leak;
use crate::named_files::NamedFiles;
use crate::plan::Plan;
use crate::sample::Sample;
use crate::split::SplitGuess;

/// All guesses.
#[derive(Debug)]
pub(crate) struct Guesses {
    pub(crate) labels: Labels,
    pub(crate) split: SplitGuess,
    pub(crate) group: Option<String>,
    pub(crate) truth: Vec<String>,
    pub(crate) features: Vec<FeatureGuess>,
    pub(crate) left_out: Vec<LeftOut>,
    /// Separators of lists and weights in text, if there are lists.
    pub(crate) lists: Option<(char, Option<char>)>,
    pub(crate) rows: Rows,
    /// Files that their names divide.
    pub(crate) named: Option<NamedFiles>,
    /// What the features should come to, where enough rows clicked.
    pub(crate) expected: Option<Expected>,
}

/// Numbers of which a table has more than this are standardized: cut into bins they would make the first layer wide.
const MANY_NUMBERS: usize = 64;

impl Sample {
    /// The file that an error speaks of.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.source.paths.first().map(Into::into).unwrap_or_default()
    }
}

impl Guesses {
    pub(crate) fn take(&mut self, column: &Column) {
        let name = &column.name;
        let labels = [&self.labels.click.column, &self.labels.conversion.column];
        let is_time = self.split.time.as_ref() == Some(name);
        if labels.contains(&name) || self.truth.contains(name) || is_time && self.named.is_none() {
            return;
        }
        if is_time {
            let why = format!(
                "is the time: files divide the rows here, and later times are new to every model; esmm tune --time {name} \
                 chooses on later rows"
            );
            self.left_out.push(LeftOut { column: name.clone(), kind: "times", why, unsure: false });
            return;
        }
        let mut out =
            |kind, why| self.left_out.push(LeftOut { column: name.clone(), kind, why, unsure: true });
        if self.labels.between.contains(name) {
            let why = format!("is another outcome, 1 only where `{}` is", self.labels.click.column);
            return out("another outcome", why);
        }
        if let Some(why) = leak::knows(column, &self.labels) {
            return out("knows a label", why);
        }
        match choose(column, self.rows, &self.labels.click.flags) {
            Choice::Feature(guess) => self.features.push(*guess),
            Choice::LeaveOut(left_out) => self.left_out.push(left_out),
        }
    }

    /// Few numbers are cut into bins, many are standardized.
    pub(crate) fn settle_numbers(&mut self) {
        let numbers = self.features.iter().filter(|feature| feature.encoding.is_dense()).count();
        if numbers <= MANY_NUMBERS {
            return;
        }
        for feature in &mut self.features {
            if let Encoding::Ple { missing, .. } = feature.encoding {
                feature.encoding = Encoding::Standardize { missing };
                feature.alternative = Some("or encode = \"ple\"".to_owned());
            }
        }
    }

    /// What the rows and ids allow.
    pub(crate) fn plan(&self) -> Plan {
        let learned = match &self.named {
            Some(_) => 1.0,
            None => 1.0 - self.split.valid - self.split.test,
        };
        let ids = self.features.iter().map(|feature| feature.ids).max().unwrap_or(0);
        Plan::of((self.rows.total as f64 * learned).round() as u64, ids)
    }

    pub(crate) fn check_features(&self, sample: &Sample) -> Result<(), RunError> {
        match self.features.is_empty() {
            true => Err(DataError::file(&sample.path(), "no column is left that could be a feature").into()),
            false => Ok(()),
        }
    }

    pub(crate) fn drop_features(&mut self, refused: Vec<(String, String)>) {
        for (column, why) in refused {
            self.features.retain(|feature| feature.column != column);
            let sharing = |bag: &mut BagGuess| {
                if bag.shares.as_ref() == Some(&column) {
                    bag.shares = None;
                }
            };
            self.features.iter_mut().filter_map(|feature| feature.bag.as_mut()).for_each(sharing);
            self.left_out.push(LeftOut { column, kind: "refused by the reader", why, unsure: true });
        }
    }
}
