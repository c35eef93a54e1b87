//! From a piece of a source to the encoded rows of one split.

use crate::dataset::{Dataset, EncodedChunk, Outcome};
use crate::encode::encoder::{FittedEncoders, unique};
use crate::error::DataError;
use crate::outcome::label::LabelSpec;
use crate::outcome::outcomes::Outcomes;
use crate::read::blocks::Block;
use crate::read::chunk::Chunk;
use crate::read::grouped::Segment;
use crate::read::pieces::Piece;
use crate::read::source::SourceSpec;
use crate::split::divider::Divider;
use crate::split::spec::Part;

/// How the rows of all splits are read.
pub(crate) struct Reading {
    pub(crate) sources: Vec<ReadSource>,
    pub(crate) blocks: Vec<(usize, Block)>,
    pub(crate) encoders: FittedEncoders,
    pub(crate) outcomes: Outcomes,
}

/// A source with what divides it, and the columns that are read of it.
pub(crate) struct ReadSource {
    pub(crate) source: SourceSpec,
    pub(crate) divider: Divider,
    pub(crate) columns: Vec<String>,
}

impl ReadSource {
    pub(crate) fn new(
        source: &SourceSpec,
        divider: Divider,
        encoders: &FittedEncoders,
        outcomes: &Outcomes,
    ) -> Self {
        let features = encoders.required_columns();
        let features = features.iter().map(String::as_str);
        let columns = unique(features.chain(outcomes.columns()).chain(divider.column()));
        Self { source: source.clone(), divider, columns }
    }
}

impl Reading {
    pub(crate) fn empty(&self, by_group: bool) -> Dataset {
        self.outcomes.empty_dataset(&self.encoders, by_group)
    }

    /// The rows of a piece that belong to a split and are no orphans, encoded; `None` where there are none.
    pub(crate) fn kept(
        &self,
        source: &ReadSource,
        part: Part,
        piece: Piece,
    ) -> Result<Option<(EncodedChunk, Outcome)>, DataError> {
        match piece {
            Piece::Rows(chunk) => self.kept_of_rows(source, part, &chunk),
            Piece::Groups(segment) => self.kept_of_segment(source, part, *segment),
        }
    }

    fn kept_of_segment(
        &self,
        source: &ReadSource,
        part: Part,
        segment: Segment,
    ) -> Result<Option<(EncodedChunk, Outcome)>, DataError> {
        let keep = kept(&self.outcomes.labels, &source.divider, part, &segment.impressions)?;
        if !keep.contains(&true) {
            return Ok(None);
        }
        let Segment { impressions, groups, group_of, .. } = &segment;
        let of_rows = group_of.iter().zip(&keep).filter(|(_, keep)| **keep);
        let of_rows: Vec<u32> = of_rows.map(|(group, _)| *group).collect();
        let own = impressions.filter(&keep)?;
        let outcome = self.outcomes.read_beside(&own, groups, &of_rows).or_else(|error| {
            // A row of filtered impressions does not know its place, the whole segment does.
            self.outcomes.counting.read(impressions)?;
            Err(error)
        });
        let encoded = self.encoders.encode_users(&own, groups, of_rows);
        // A row of filtered impressions does not know its place, the whole segment does.
        let encoded = encoded.or_else(|error| {
            self.encoders.encode_users(impressions, groups, Vec::new())?;
            Err(error)
        });
        let encoded = encoded?;
        if part == Part::Train && !encoded.outside.is_empty() {
            // The whole segment again: its cells know their places.
            let whole = self.encoders.encode_users(impressions, groups, group_of.clone())?;
            self.encoders.check_training(&Piece::Groups(Box::new(segment)), &whole, |row| keep[row])?;
        }
        Ok(Some((encoded, outcome?)))
    }

    fn kept_of_rows(
        &self,
        source: &ReadSource,
        part: Part,
        chunk: &Chunk,
    ) -> Result<Option<(EncodedChunk, Outcome)>, DataError> {
        let keep = kept(&self.outcomes.labels, &source.divider, part, chunk)?;
        let found = self.encoded(chunk, &keep)?;
        let Some((encoded, _)) = &found else { return Ok(None) };
        if part == Part::Train && !encoded.outside.is_empty() {
            // The whole chunk again: its cells know their places.
            let whole = self.encoders.encode(chunk)?;
            self.encoders.check_training(&Piece::Rows(chunk.clone()), &whole, |row| keep[row])?;
        }
        Ok(found)
    }

    /// The rows of a chunk that are kept; `None` where there are none.
    fn encoded(&self, chunk: &Chunk, keep: &[bool]) -> Result<Option<(EncodedChunk, Outcome)>, DataError> {
        match keep.iter().filter(|keep| **keep).count() {
            0 => Ok(None),
            all if all == keep.len() => Ok(Some((self.encoders.encode(chunk)?, self.outcomes.read(chunk)?))),
            _ => {
                let filtered = chunk.filter(keep)?;
                // A row of a filtered chunk does not know its place, the whole chunk does.
                let encoded = self.encoders.encode(&filtered).or_else(|error| {
                    self.encoders.encode(chunk)?;
                    Err(error)
                });
                let outcome = self.outcomes.read(&filtered).or_else(|error| {
                    self.outcomes.read(chunk)?;
                    Err(error)
                });
                Ok(Some((encoded?, outcome?)))
            }
        }
    }
}

/// Which rows of a chunk belong to a split and are no orphans.
fn kept(labels: &LabelSpec, divider: &Divider, part: Part, chunk: &Chunk) -> Result<Vec<bool>, DataError> {
    let (parts, depth) = (divider.assign(chunk)?, labels.read(chunk)?);
    Ok(parts.iter().zip(&depth).map(|(own, depth)| *own == part && depth.is_some()).collect())
}
