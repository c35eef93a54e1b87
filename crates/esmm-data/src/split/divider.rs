//! Where each row of a source belongs: by shares, by moments, by hash.

use twox_hash::XxHash64;

use super::spec::Part;
use super::time::{self, Kind, Moment, Moments};
use super::window::Cut;
use crate::column::key_column::hashes;
use crate::column::spelling::CellReader;
use crate::error::{DataError, quoted};
use crate::read::chunk::Chunk;
use crate::read::source::SourceSpec;

/// Decides for each row of a source where it belongs.
#[derive(Debug)]
pub(crate) enum Divider {
    All(Part),
    Time { column: String, valid_from: Option<Moment>, test_from: Option<Moment> },
    Hash { column: String, seed: u64, shares: Shares },
    Random { seed: u64, shares: Shares },
    Window { inner: Box<Divider>, cut: Cut },
}

/// Shares of the splits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shares {
    pub(super) valid: f64,
    pub(super) test: f64,
}

impl Shares {
    /// The split that a hash belongs to: its upper 53 bits as a fraction of 1.
    fn part(self, hash: u64) -> Part {
        match (hash >> 11) as f64 / (1_u64 << 53) as f64 {
            fraction if fraction < self.test => Part::Test,
            fraction if fraction < self.test + self.valid => Part::Valid,
            _ => Part::Train,
        }
    }

    pub(super) fn by_time(self, source: &SourceSpec, column: &str) -> Result<Divider, DataError> {
        let mut moments = Moments::default();
        for chunk in source.open(&[column.to_owned()])? {
            moments.observe(&chunk?, column)?;
        }
        let rows = moments.rows();
        let part = |share: f64| (rows as f64 * share).round() as u64;
        let test_rank = rows.saturating_sub(part(self.test));
        let valid_rank = test_rank.saturating_sub(part(self.valid));
        Ok(Divider::Time {
            column: column.to_owned(),
            valid_from: moments.first_from(valid_rank),
            test_from: moments.first_from(test_rank),
        })
    }
}

/// The first moments of the validation and of the test split.
pub(super) fn moments(
    source: &SourceSpec,
    valid_from: Option<&str>,
    test_from: Option<&str>,
) -> Result<[Option<Moment>; 2], DataError> {
    let wrong = |reason: String| DataError::setting("split", reason);
    let zone = source.spelling.zone().map_err(wrong)?;
    let moment = |key: &str, text: Option<&str>| match text {
        None => Ok(None),
        Some(text) => match Moment::parse(text, &CellReader::new(&source.spelling), zone) {
            Ok(Some(moment)) => Ok(Some(moment)),
            _ => Err(wrong(format!("{key} = {}, it must be {} or a number", quoted(text), time::DATE))),
        },
    };
    let valid = moment("valid_from", valid_from)?;
    let test = moment("test_from", test_from)?;
    match (valid, test) {
        (None, None) => {
            Err(wrong("a date to split at is missing: give `test_from`, `valid_from` or both".into()))
        }
        (Some(valid), Some(test)) if valid >= test => {
            Err(wrong("valid_from must be before test_from".into()))
        }
        _ => Ok([valid, test]),
    }
}

pub(super) fn by_date(
    source: &SourceSpec,
    column: &str,
    valid_from: Option<&str>,
    test_from: Option<&str>,
) -> Result<Divider, DataError> {
    let [valid, test] = moments(source, valid_from, test_from)?;
    let mut moments = Moments::default();
    for chunk in source.open(&[column.to_owned()])? {
        moments.observe(&chunk?, column)?;
    }
    let is_number = |kind: Kind| kind == Kind::Number;
    for (key, from) in [("valid_from", valid), ("test_from", test)] {
        if let (Some(from), Some(kind)) = (from, moments.kind())
            && is_number(from.kind()) != is_number(kind)
        {
            let reason = format!(
                "{key} is a {}, but column `{column}` holds a {} in each row: they must be alike",
                from.kind().described(),
                kind.described()
            );
            return Err(DataError::setting("split", reason));
        }
    }
    Ok(Divider::Time { column: column.to_owned(), valid_from: valid, test_from: test })
}

impl Divider {
    /// Whether some rows may train.
    pub(crate) fn may_train(&self) -> bool {
        match self {
            Self::All(part) => *part == Part::Train,
            Self::Window { inner, .. } => inner.may_train(),
            Self::Time { .. } | Self::Hash { .. } | Self::Random { .. } => true,
        }
    }

    /// The column that divides.
    pub(crate) fn column(&self) -> Option<&str> {
        match self {
            Self::Time { column, .. } | Self::Hash { column, .. } => Some(column),
            Self::All(_) | Self::Random { .. } => None,
            Self::Window { inner, .. } => inner.column(),
        }
    }

    /// The split of each row.
    pub(crate) fn assign(&self, chunk: &Chunk) -> Result<Vec<Part>, DataError> {
        let rows = 0..chunk.rows();
        match self {
            Self::All(part) => Ok(vec![*part; chunk.rows()]),
            Self::Time { column, valid_from, test_from } => {
                let reached =
                    |from: &Option<Moment>, moment: &Moment| from.as_ref().is_some_and(|from| moment >= from);
                let part = |moment: &Moment| match () {
                    () if reached(test_from, moment) => Part::Test,
                    () if reached(valid_from, moment) => Part::Valid,
                    () => Part::Train,
                };
                Ok(time::read(chunk, column)?.iter().map(part).collect())
            }
            Self::Hash { column, seed, shares } => {
                Ok(hashes(chunk, column, *seed)?.map(|hash| shares.part(hash)).collect())
            }
            Self::Random { seed, shares } => {
                let hash = |row| XxHash64::oneshot(*seed, &(chunk.first_row() + row as u64).to_le_bytes());
                Ok(rows.map(|row| shares.part(hash(row))).collect())
            }
            Self::Window { inner, cut } => cut.assign(chunk, inner.assign(chunk)?),
        }
    }
}
