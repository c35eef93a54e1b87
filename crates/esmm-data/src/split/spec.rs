//! Which rows train, validate and test.

use std::collections::HashMap;

use esmm_files::FileIdentity;
use serde::{Deserialize, Serialize};

use super::divider::{Divider, Shares, by_date, moments};
use super::window;
use crate::error::DataError;
use crate::read::source::SourceSpec;

/// How rows are divided into splits. Shares are fractions of all rows, at least 0 and together below 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase", deny_unknown_fields)]
pub enum SplitSpec {
    /// A source for each split.
    Files {
        /// Training rows.
        train: SourceSpec,
        /// Validation rows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        valid: Option<SourceSpec>,
        /// Test rows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        test: Option<SourceSpec>,
    },
    /// The earliest rows train, later ones validate, the latest test. Rows of the same time stay on one side, the
    /// earlier one. Times are numbers, timestamps or dates; a missing one is an error.
    Time {
        /// All rows.
        source: SourceSpec,
        /// The column with the time.
        column: String,
        /// Share of the validation split.
        valid: f64,
        /// Share of the test split.
        test: f64,
    },
    /// Rows from one moment on test, those from another one on until then validate, earlier ones train.
    Date {
        /// All rows.
        source: SourceSpec,
        /// The column with the time, as of a split by time.
        column: String,
        /// The first moment of the validation split: a date, a date with a time, or a number, as the column has them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        valid_from: Option<String>,
        /// The first moment of the test split.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        test_from: Option<String>,
    },
    /// All rows with the same value of a column stay on one side; a missing value counts as one more value.
    Hash {
        /// All rows.
        source: SourceSpec,
        /// The column, as the user's id.
        column: String,
        /// Share of the validation split, in values.
        valid: f64,
        /// Share of the test split, in values.
        test: f64,
        /// Another seed divides otherwise.
        seed: u64,
    },
    /// Every row for itself, by the hash of its number.
    Random {
        /// All rows.
        source: SourceSpec,
        /// Share of the validation split.
        valid: f64,
        /// Share of the test split.
        test: f64,
        /// Another seed divides otherwise.
        seed: u64,
    },
    /// Some of the training rows of another split validate, and none test: for choosing settings. Of a split by time windows
    /// follow each other and learn from what was before them, of others they are folds.
    Window {
        /// The split.
        of: Box<SplitSpec>,
        /// Which window, from 0, the earliest; `None`: the rows of the split's own validation.
        number: Option<u32>,
        /// How many there are.
        count: u32,
    },
}

/// A split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Train,
    Valid,
    Test,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }

    /// An error for a split without rows.
    pub(crate) fn empty(self, orphans: u64) -> DataError {
        let name = self.name();
        let reason = format!("no row is left for the {name} split ({orphans} orphans were dropped)");
        DataError::setting("split", reason)
    }
}

impl SplitSpec {
    /// Checks the shares, or the moments.
    ///
    /// # Errors
    /// A share that is negative or not finite, shares that leave nothing to train on, a moment that is none.
    pub fn validate(&self) -> Result<(), DataError> {
        if let Self::Date { source, valid_from, test_from, .. } = self {
            return moments(source, valid_from.as_deref(), test_from.as_deref()).map(|_| ());
        }
        if let Self::Window { of, .. } = self {
            return of.validate();
        }
        let shares = self.shares();
        for (name, share) in [("valid", shares.valid), ("test", shares.test)] {
            if !(0.0..1.0).contains(&share) {
                return Err(DataError::setting(
                    "split",
                    format!("{name} = {share}, it must be from 0 up to but without 1"),
                ));
            }
        }
        match shares.valid + shares.test {
            sum if sum < 1.0 => Ok(()),
            sum => {
                Err(DataError::setting("split", format!("valid + test = {sum}, nothing is left to train on")))
            }
        }
    }

    /// The source of the training rows, or the one that is divided.
    pub fn train_source(&self) -> &SourceSpec {
        match self {
            Self::Files { train: source, .. }
            | Self::Time { source, .. }
            | Self::Date { source, .. }
            | Self::Hash { source, .. }
            | Self::Random { source, .. } => source,
            Self::Window { of, .. } => of.train_source(),
        }
    }

    /// All sources: of the splits, or the one that is divided.
    pub fn sources(&self) -> Vec<&SourceSpec> {
        match self {
            Self::Files { train, valid, test } => {
                [Some(train), valid.as_ref(), test.as_ref()].into_iter().flatten().collect()
            }
            Self::Time { source, .. }
            | Self::Date { source, .. }
            | Self::Hash { source, .. }
            | Self::Random { source, .. } => vec![source],
            Self::Window { of, number, .. } => match (&**of, number) {
                (Self::Files { train, .. }, Some(_)) => vec![train],
                (Self::Files { train, valid, .. }, None) => {
                    std::iter::once(train).chain(valid.as_ref()).collect()
                }
                (of, _) => of.sources(),
            },
        }
    }

    /// Checks that no file is read for two splits.
    ///
    /// # Errors
    /// A file that is, by whatever name or link. Files that are not there are left to who reads them.
    pub fn check_apart(&self) -> Result<(), DataError> {
        let (train, valid, test) = match self {
            Self::Files { train, valid, test } => (train, valid, test),
            Self::Window { of, .. } => return of.check_apart(),
            Self::Time { .. } | Self::Date { .. } | Self::Hash { .. } | Self::Random { .. } => return Ok(()),
        };
        let parts = [(Part::Train, Some(train)), (Part::Valid, valid.as_ref()), (Part::Test, test.as_ref())];
        let mut seen: HashMap<FileIdentity, Part> = HashMap::new();
        for (part, source) in parts {
            let Some(source) = source else { continue };
            for path in source.paths_there() {
                let Some(identity) = FileIdentity::of(&path) else { continue };
                let before = *seen.entry(identity).or_insert(part);
                if before == part {
                    continue;
                }
                let reason = format!(
                    "is in data.{} and in data.{}: rows that are in both tell nothing of new ones. Name each file once, or \
                     let `data.path` with `data.split` divide it",
                    before.name(),
                    part.name()
                );
                return Err(DataError::setting(path.display().to_string(), reason));
            }
        }
        Ok(())
    }

    /// The column that divides, if one does.
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Time { column, .. } | Self::Date { column, .. } | Self::Hash { column, .. } => Some(column),
            Self::Files { .. } | Self::Random { .. } => None,
            Self::Window { of, .. } => of.column(),
        }
    }

    /// The share of the rows that validate; `None` where files or moments say which do.
    pub(crate) fn valid_share(&self) -> Option<f64> {
        match self {
            Self::Files { .. } | Self::Date { .. } => None,
            Self::Time { valid, .. } | Self::Hash { valid, .. } | Self::Random { valid, .. } => Some(*valid),
            Self::Window { of, .. } => of.valid_share(),
        }
    }

    /// Whether some rows validate.
    pub fn has_valid(&self) -> bool {
        self.has(Part::Valid)
    }

    /// Whether there is to be such a split.
    pub(crate) fn has(&self, part: Part) -> bool {
        match (self, part) {
            (_, Part::Train) => true,
            (Self::Window { .. }, Part::Test) => false,
            (Self::Window { of, number, .. }, Part::Valid) => number.is_some() || of.has(Part::Valid),
            (Self::Files { valid, .. }, Part::Valid) => valid.is_some(),
            (Self::Files { test, .. }, Part::Test) => test.is_some(),
            (Self::Date { valid_from, .. }, Part::Valid) => valid_from.is_some(),
            (Self::Date { test_from, .. }, Part::Test) => test_from.is_some(),
            (_, Part::Valid) => self.shares().valid > 0.0,
            (_, Part::Test) => self.shares().test > 0.0,
        }
    }

    /// All sources with what divides them. Reads the times of a split by time.
    pub(crate) fn dividers(&self) -> Result<Vec<(&SourceSpec, Divider)>, DataError> {
        self.validate()?;
        let shares = self.shares();
        Ok(match self {
            Self::Files { train, valid, test } => {
                let sources =
                    [(Some(train), Part::Train), (valid.as_ref(), Part::Valid), (test.as_ref(), Part::Test)];
                sources.into_iter().filter_map(|(source, part)| Some((source?, Divider::All(part)))).collect()
            }
            Self::Time { source, column, .. } => vec![(source, shares.by_time(source, column)?)],
            Self::Date { source, column, valid_from, test_from } => {
                vec![(source, by_date(source, column, valid_from.as_deref(), test_from.as_deref())?)]
            }
            Self::Hash { source, column, seed, .. } => {
                vec![(source, Divider::Hash { column: column.clone(), seed: *seed, shares })]
            }
            Self::Random { source, seed, .. } => vec![(source, Divider::Random { seed: *seed, shares })],
            Self::Window { of, number, count } => window::dividers(of, *number, *count)?,
        })
    }

    fn shares(&self) -> Shares {
        match self {
            Self::Files { .. } | Self::Date { .. } | Self::Window { .. } => Shares { valid: 0.0, test: 0.0 },
            Self::Time { valid, test, .. }
            | Self::Hash { valid, test, .. }
            | Self::Random { valid, test, .. } => Shares { valid: *valid, test: *test },
        }
    }
}
