//! The funnel: impressions with labels and truth, in chunks.

use std::iter::FusedIterator;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::batch::to_batch;
use super::config::SyntheticConfig;
use super::error::SyntheticError;
use super::impression::Impressions;
use super::intercept::Intercepts;
use super::outcome::Outcome;
use super::population::Population;
use super::quadrature::HiddenVariable;
use super::random::Purpose;

/// Rows of a chunk; the last one may be shorter.
pub const CHUNK_ROWS: usize = 8192;

/// A seeded stream of impressions, in [`RecordBatch`]es of [`CHUNK_ROWS`] rows. Its columns are listed in the
/// [module documentation](super). Memory is that of the users, items and categories and of one chunk.
///
/// # Examples
/// ```
/// use esmm_data::synthetic::{SyntheticConfig, SyntheticFunnel};
///
/// let funnel = SyntheticFunnel::new(SyntheticConfig { rows: 1_000, ..SyntheticConfig::default() })?;
/// let rows: usize = funnel.map(|chunk| chunk.num_rows()).sum();
/// assert_eq!(rows, 1_000);
/// # Ok::<(), esmm_data::synthetic::SyntheticError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SyntheticFunnel {
    config: SyntheticConfig,
    population: Population,
    hidden: HiddenVariable,
    intercepts: Intercepts,
    impressions: Impressions,
    /// Rows given out so far.
    done: usize,
}

impl SyntheticFunnel {
    /// Draws the population and finds the intercepts.
    ///
    /// # Errors
    /// [`SyntheticError::BadValue`] when a value is out of range.
    pub fn new(config: SyntheticConfig) -> Result<Self, SyntheticError> {
        config.validate()?;
        let population = Population::new(&config);
        let hidden = HiddenVariable::new(config.confounding);
        let intercepts = Intercepts::new(&config, &population, &hidden);
        let impressions = Impressions::new(&config, Purpose::Impressions);
        Ok(Self { config, population, hidden, intercepts, impressions, done: 0 })
    }

    /// The columns of every chunk.
    pub fn schema(&self) -> SchemaRef {
        to_batch(&[], &self.population).schema()
    }

    fn outcome(&mut self) -> Outcome {
        let impression = self.impressions.draw(&self.population);
        let effects = impression.effects(&self.population, self.config.affinity);
        let click_logit = self.intercepts.click + effects.click;
        let conversion_logit = self.intercepts.conversion + effects.conversion;
        let shift = self.config.confounding * self.impressions.hidden();
        let click = self.impressions.label(click_logit + shift);
        let would_convert = self.impressions.label(conversion_logit + shift);
        let id = self.done;
        self.done += 1;
        Outcome {
            id,
            impression,
            click,
            conversion: click && would_convert,
            truth: self.hidden.truth(click_logit, conversion_logit),
        }
    }
}

impl Iterator for SyntheticFunnel {
    type Item = RecordBatch;

    fn next(&mut self) -> Option<RecordBatch> {
        let rows = CHUNK_ROWS.min(self.config.rows - self.done);
        if rows == 0 {
            return None;
        }
        let outcomes: Vec<Outcome> = (0..rows).map(|_| self.outcome()).collect();
        Some(to_batch(&outcomes, &self.population))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let chunks = (self.config.rows - self.done).div_ceil(CHUNK_ROWS);
        (chunks, Some(chunks))
    }
}

impl ExactSizeIterator for SyntheticFunnel {}

impl FusedIterator for SyntheticFunnel {}
