//! Windows of a split: parts of its training rows that validate in their turn, for choosing settings without touching test
//! rows.
//!
//! ```text
//! by time, 3 windows           train                             | valid | test
//! window 0   train                         valid  -      -         -       -
//! window 1   train                         train  valid  -         -       -
//! window 2   train                         train  train  valid     -       -
//! the last   train                         train  train  train     valid   -
//! ```
//!
//! By time each window learns from what was before it (a rolling origin). Elsewhere the training rows are cut into folds, of
//! which one validates and the others train; rows that a hash keeps together stay together. Rows of the test split are in
//! none of them, and files of a test split are not opened.

use twox_hash::XxHash64;

use super::divider::Divider;
use super::spec::{Part, SplitSpec};
use super::time::{self, Moment, Moments};
use crate::column::key_column::hashes;
use crate::error::DataError;
use crate::read::chunk::Chunk;
use crate::read::source::SourceSpec;

/// Folds that training rows are cut into at most.
const MOST_FOLDS: u64 = 10;
/// Of rows by time the windows take this share at most: the first of them still learns from the rest.
const MOST_OF_TIME: f64 = 0.5;
/// Folds are cut by another hash than splits.
const FOLD_SEED: u64 = 0x0057_494E_444F_5753;

/// What a window makes of the rows that train.
#[derive(Debug)]
pub(crate) enum Cut {
    /// They train, and those that validate do.
    Whole,
    /// Those between two moments validate, earlier ones train.
    Time { column: String, valid_from: Moment, valid_to: Moment },
    /// Those of one fold validate.
    Fold { column: Option<String>, fold: u64, folds: u64 },
}

impl Cut {
    /// The part of each row, of which these are the parts in the split. Rows that are left out are said to test, which no
    /// window does.
    pub(crate) fn assign(&self, chunk: &Chunk, parts: Vec<Part>) -> Result<Vec<Part>, DataError> {
        let divided: Vec<Part> = match self {
            Self::Whole => return Ok(parts),
            Self::Time { column, valid_from, valid_to } => {
                let part = |moment: &Moment| match () {
                    () if moment >= valid_to => Part::Test,
                    () if moment >= valid_from => Part::Valid,
                    () => Part::Train,
                };
                time::read(chunk, column)?.iter().map(part).collect()
            }
            Self::Fold { column, fold, folds } => {
                let part = |hash: u64| if hash % folds == *fold { Part::Valid } else { Part::Train };
                match column {
                    Some(column) => hashes(chunk, column, FOLD_SEED)?.map(part).collect(),
                    None => {
                        let number = |row: usize| (chunk.first_row() + row as u64).to_le_bytes();
                        let hash = |row| XxHash64::oneshot(FOLD_SEED, &number(row));
                        (0..chunk.rows()).map(|row| part(hash(row))).collect()
                    }
                }
            }
        };
        let both = parts.into_iter().zip(divided);
        Ok(both.map(|(part, divided)| if part == Part::Train { divided } else { Part::Test }).collect())
    }
}

/// The dividers of a window of a split: `number` of `count`, from 0, the earliest; `None` for the last, which validates on
/// the rows of the split's own validation split.
pub(crate) fn dividers(
    of: &SplitSpec,
    number: Option<u32>,
    count: u32,
) -> Result<Vec<(&SourceSpec, Divider)>, DataError> {
    let mut found = Vec::new();
    for (source, inner) in of.dividers()? {
        let is_test = matches!(inner, Divider::All(Part::Test));
        let is_valid = matches!(inner, Divider::All(Part::Valid));
        if is_test || is_valid && number.is_some() {
            continue;
        }
        let cut = match number {
            None => Cut::Whole,
            Some(number) => cut(of, source, &inner, number, count)?,
        };
        found.push((source, Divider::Window { inner: Box::new(inner), cut }));
    }
    Ok(found)
}

fn cut(
    of: &SplitSpec,
    source: &SourceSpec,
    inner: &Divider,
    number: u32,
    count: u32,
) -> Result<Cut, DataError> {
    if number >= count {
        return Err(DataError::setting("windows", format!("window {number} of {count}, counted from 0")));
    }
    let column = match inner {
        Divider::Time { column, valid_from, test_from } => {
            let until = valid_from.as_ref().or(test_from.as_ref());
            return by_time(source, column, until.copied(), inner, number, count);
        }
        Divider::Hash { column, .. } => Some(column.clone()),
        Divider::All(_) | Divider::Random { .. } | Divider::Window { .. } => None,
    };
    // As large as the split's own validation, if that can be.
    let share = of.valid_share().filter(|share| *share > 0.0).unwrap_or(0.1);
    let folds = ((1.0 / share).round() as u64).clamp(2, MOST_FOLDS).max(u64::from(count));
    Ok(Cut::Fold { column, fold: u64::from(number), folds })
}

/// The slice of the training rows that a window validates on: as many rows as the split itself validates on, but of all
/// windows together no more than [`MOST_OF_TIME`] of the training rows.
fn by_time(
    source: &SourceSpec,
    column: &str,
    until: Option<Moment>,
    inner: &Divider,
    number: u32,
    count: u32,
) -> Result<Cut, DataError> {
    let mut moments = Moments::default();
    let mut valid = 0_u64;
    for chunk in source.open(&[column.to_owned()])? {
        let chunk = chunk?;
        moments.observe(&chunk, column)?;
        valid += inner.assign(&chunk)?.iter().filter(|part| **part == Part::Valid).count() as u64;
    }
    let train = until.map_or(moments.rows(), |until| moments.rows_before(&until));
    let most = (train as f64 * MOST_OF_TIME / f64::from(count)) as u64;
    let own = if valid > 0 { valid } else { train / 10 };
    let size = own.min(most);
    let begin = |window: u32| train - u64::from(count - window) * size;
    let from = moments.first_from(begin(number));
    let to = moments.first_from(begin(number + 1));
    let end = until.or(to);
    let valid_to = if number + 1 == count { end } else { to };
    match (from, valid_to) {
        (Some(valid_from), Some(valid_to)) if size > 0 && valid_from < valid_to => {
            Ok(Cut::Time { column: column.to_owned(), valid_from, valid_to })
        }
        _ => Err(DataError::setting(
            "windows",
            format!(
                "window {} of {count} has no rows: column `{column}` has too few moments in {train} training rows; ask \
                 for fewer windows",
                number + 1
            ),
        )),
    }
}
