//! Scores of all rows of a source, batch by batch.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use esmm_core::EsmmBackend;
use esmm_data::{ChunkReader, Segment, Segments, SourceSpec};

use super::Scorer;
use crate::error::RunError;
use crate::evaluation::EVALUATION_BATCH;
use crate::predictions::with_columns;

/// Scores of all rows of a source, batch by batch, after the columns that are passed through. Files without rows make one
/// batch without rows.
#[must_use = "rows are scored as the batches are asked for"]
pub struct Predictions<'a, B: EsmmBackend> {
    scorer: &'a mut Scorer<B>,
    keep: Vec<String>,
    rows: Reading,
    /// The source and its columns, until the first batch came.
    empty: Option<(SourceSpec, Vec<String>)>,
}

/// Where the rows come from.
enum Reading {
    Chunks(Box<ChunkReader>),
    /// Segments, and those pieces of the last one that were not scored yet.
    Segments(Box<Segments>, VecDeque<Segment>),
}

impl<B: EsmmBackend> Scorer<B> {
    /// Scores all rows of a source, in order, after the columns `keep` of their own. Where groups have the features of their
    /// users, what a group shares is read, encoded and computed once.
    ///
    /// # Errors
    /// A file that is missing, damaged or lacks a column; a column to keep that is named twice, or like a score.
    pub fn predict(&mut self, source: &SourceSpec, keep: &[String]) -> Result<Predictions<'_, B>, RunError> {
        if let Some(place) = (1..keep.len()).find(|place| keep[..*place].contains(&keep[*place])) {
            return Err(RunError::Config(format!("--keep {}: the column is named twice", keep[place])));
        }
        let mut columns = self.encoders.required_columns();
        for name in keep {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        let chunks = source.open(&columns)?.or_empty();
        let segments = match self.config.reading.by_group {
            true => self.encoders.segments(source, &columns)?,
            false => None,
        };
        let rows = match segments {
            Some(segments) => Reading::Segments(Box::new(segments), VecDeque::new()),
            None => Reading::Chunks(Box::new(chunks)),
        };
        let empty = Some((source.clone(), columns));
        Ok(Predictions { scorer: self, keep: keep.to_vec(), rows, empty })
    }
}

impl<B: EsmmBackend> Predictions<'_, B> {
    /// The scores of the next rows; `None` at the end.
    fn scored(&mut self) -> Result<Option<RecordBatch>, RunError> {
        let batch = match &mut self.rows {
            Reading::Chunks(chunks) => {
                let Some(chunk) = chunks.next().transpose()? else { return Ok(None) };
                let scores = self.scorer.score(&chunk)?;
                with_columns(&chunk, &self.keep, &scores)?
            }
            Reading::Segments(segments, pieces) => {
                while pieces.is_empty() {
                    let Some(segment) = segments.next().transpose()? else { return Ok(None) };
                    pieces.extend(segment.pieces(EVALUATION_BATCH));
                }
                let Some(piece) = pieces.pop_front() else { return Ok(None) };
                let scores = self.scorer.score_segment(&piece)?;
                with_columns(&piece.columns(&self.keep)?, &self.keep, &scores)?
            }
        };
        Ok(Some(batch))
    }
}

impl<B: EsmmBackend> Predictions<'_, B> {
    /// A batch without rows, which has the names of the columns.
    fn without_rows(&self, source: &SourceSpec, columns: &[String]) -> Result<RecordBatch, RunError> {
        let chunk = source.no_rows(columns)?;
        with_columns(&chunk, &self.keep, &self.scorer.no_scores())
    }
}

impl<B: EsmmBackend> Iterator for Predictions<'_, B> {
    type Item = Result<RecordBatch, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.scored() {
            Ok(Some(batch)) => {
                self.empty = None;
                Some(Ok(batch))
            }
            Ok(None) => {
                let (source, columns) = self.empty.take()?;
                match self.rows {
                    Reading::Chunks(_) => Some(self.without_rows(&source, &columns)),
                    Reading::Segments(..) => None,
                }
            }
            Err(error) => Some(Err(error)),
        }
    }
}
