//! A source piece by piece: rows with all of their columns, or impressions beside their groups.

use super::blocks::Block;
use super::chunk::Chunk;
use super::grouped::{Segment, Segments};
use super::source::{ChunkReader, SourceSpec};
use crate::error::DataError;

/// Some rows of a source.
#[derive(Debug)]
pub enum Piece {
    /// Rows with all of their columns.
    Rows(Chunk),
    /// Impressions, and the columns of their groups once a group.
    Groups(Box<Segment>),
}

impl Piece {
    /// One row an impression, without the columns that stand with the groups.
    pub fn impressions(&self) -> &Chunk {
        match self {
            Self::Rows(chunk) => chunk,
            Self::Groups(segment) => &segment.impressions,
        }
    }
}

/// The pieces of a source, file after file. Ends after the first error.
#[derive(Debug)]
pub struct Pieces(Kind);

#[derive(Debug)]
enum Kind {
    Rows(Box<ChunkReader>),
    Groups(Box<Segments>),
}

impl Iterator for Pieces {
    type Item = Result<Piece, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Kind::Rows(chunks) => chunks.next().map(|chunk| chunk.map(Piece::Rows)),
            Kind::Groups(segments) => {
                segments.next().map(|segment| segment.map(|segment| Piece::Groups(Box::new(segment))))
            }
        }
    }
}

impl SourceSpec {
    /// Starts to read the named columns of all files: impressions beside their groups where that is wanted and the source
    /// has groups, otherwise rows with all of their columns.
    ///
    /// # Errors
    /// As [`SourceSpec::open`].
    pub fn pieces(&self, columns: &[String], by_group: bool) -> Result<Pieces, DataError> {
        let segments = if by_group { self.segments(columns)? } else { None };
        Ok(Pieces(match segments {
            Some(segments) => Kind::Groups(Box::new(segments)),
            None => Kind::Rows(Box::new(self.open(columns)?)),
        }))
    }

    /// Reads some columns of a block, piece by piece, until `each` says that it has enough.
    ///
    /// # Errors
    /// A file that is gone, damaged or has changed, and the errors of `each`.
    pub(crate) fn block_pieces(
        &self,
        block: &Block,
        columns: &[String],
        by_group: bool,
        mut each: impl FnMut(Piece) -> Result<bool, DataError>,
    ) -> Result<(), DataError> {
        if by_group {
            let segment = self.read_segment(block, columns)?;
            return each(Piece::Groups(Box::new(segment))).map(|_| ());
        }
        self.read_block(block, columns, |chunk| each(Piece::Rows(chunk)))
    }
}
