//! Fitting encoders on the training rows, chunk by chunk.

use super::dense::{DenseEncoder, Moments};
use super::encoder::{Fitted, FittedEncoders};
use super::feature::{DenseTransform, FeatureKind, FeatureSpec, SparseEncoding, owners};
use super::pieces::Pieces;
use super::quantile::Quantiles;
use super::table::TableEncoder;
use super::unknown_row::UnknownRow;
use super::vocabulary::{KeyCounts, Vocabulary};
use crate::column::bag::{Bags, Weights};
use crate::column::key_column::KeyColumn;
use crate::column::real::{FINITE, RealColumn};
use crate::error::DataError;
use crate::read::chunk::Chunk;

/// Collects what the encoders of some features need to know about the training rows.
///
/// # Examples
/// ```
/// use esmm_core::Side;
/// use esmm_data::{EncoderFitter, FeatureKind, FeatureSpec, Outside, SourceSpec, SparseEncoding};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("clicks.csv").display().to_string();
/// std::fs::write(&path, "item\nshoes\nbags\nshoes\n").unwrap();
/// let item = FeatureSpec {
///     name: "item".into(),
///     column: "item".into(),
///     side: Side::Item,
///     kind: FeatureKind::Sparse {
///         encoding: SparseEncoding::Vocabulary { min_count: 1 },
///         bag: None,
///         weighted: false,
///         weights_column: None,
///         shares: None,
///     },
///     outside: Outside::Clip,
/// };
/// let mut fitter = EncoderFitter::new(vec![item])?;
/// for chunk in SourceSpec::new([path]).open(&fitter.required_columns())? {
///     let chunk = chunk?;
///     let training = vec![true; chunk.rows()];
///     fitter.observe(&chunk, &training)?;
/// }
/// let encoders = fitter.finish()?;
/// assert_eq!(encoders.schema().num_rows(), 4); // missing, unknown, shoes, bags
/// # Ok::<(), esmm_data::DataError>(())
/// ```
#[derive(Debug)]
pub struct EncoderFitter {
    specs: Vec<FeatureSpec>,
    owners: Vec<usize>,
    statistics: Vec<Statistics>,
    unknown_row: UnknownRow,
}

/// What is collected for one feature, or for all that use its table.
#[derive(Debug)]
enum Statistics {
    Nothing,
    Counts(KeyCounts),
    Values(Vec<f64>),
    Moments(Moments),
}

impl EncoderFitter {
    /// Checks the features.
    ///
    /// # Errors
    /// Features that make no schema, and settings out of range.
    pub fn new(specs: Vec<FeatureSpec>) -> Result<Self, DataError> {
        let owners = owners(&specs)?;
        let statistics =
            specs.iter().zip(&owners).enumerate().map(|(place, (spec, owner))| match spec.kind {
                _ if *owner != place => Statistics::Nothing,
                FeatureKind::Sparse { encoding: SparseEncoding::Vocabulary { .. }, .. } => {
                    Statistics::Counts(KeyCounts::default())
                }
                FeatureKind::Sparse { encoding: SparseEncoding::Quantile { .. }, .. }
                | FeatureKind::Dense { transform: DenseTransform::PiecewiseLinear { .. }, .. } => {
                    Statistics::Values(Vec::new())
                }
                FeatureKind::Dense { transform: DenseTransform::Standardize, .. } => {
                    Statistics::Moments(Moments::default())
                }
                _ => Statistics::Nothing,
            });
        let statistics = statistics.collect();
        Ok(Self { specs, owners, statistics, unknown_row: UnknownRow::Own })
    }

    /// With another row for the values that vocabularies do not know.
    pub fn with_unknown_row(self, unknown_row: UnknownRow) -> Self {
        Self { unknown_row, ..self }
    }

    /// Whether any feature has to see the training rows.
    pub fn needs_data(&self) -> bool {
        self.statistics.iter().any(|statistics| !matches!(statistics, Statistics::Nothing))
    }

    /// The columns that [`EncoderFitter::observe`] reads, each once.
    pub fn required_columns(&self) -> Vec<String> {
        let needed = self.specs.iter().zip(&self.owners);
        let needed = needed.filter(|(_, owner)| !matches!(self.statistics[**owner], Statistics::Nothing));
        super::encoder::unique(needed.map(|(spec, _)| spec.column.as_str()))
    }

    /// Looks at the rows of a chunk whose `keep` is true.
    ///
    /// # Errors
    /// A column that is not in the chunk or has an unsuitable type, and in kept rows a value that is not allowed.
    ///
    /// # Panics
    /// When `keep` is not as long as the chunk.
    pub fn observe(&mut self, chunk: &Chunk, keep: &[bool]) -> Result<(), DataError> {
        assert_eq!(keep.len(), chunk.rows(), "one flag for each row of the chunk");
        for (spec, owner) in self.specs.iter().zip(&self.owners) {
            match &mut self.statistics[*owner] {
                Statistics::Nothing => {}
                Statistics::Counts(counts) => count(chunk, spec, keep, counts)?,
                Statistics::Values(values) => kept_reals(chunk, spec, keep, |_, value| {
                    values.extend(value);
                    Ok(())
                })?,
                Statistics::Moments(moments) => measure(chunk, spec, keep, moments)?,
            }
        }
        Ok(())
    }

    /// The encoders, fitted on all rows that were observed.
    ///
    /// # Errors
    /// When the features make no schema.
    pub fn finish(self) -> Result<FittedEncoders, DataError> {
        let features = self.specs.iter().zip(self.statistics).zip(&self.owners).enumerate();
        let fitted = features.map(|(place, ((spec, statistics), owner))| match *owner == place {
            true => fitted(&spec.kind, statistics, self.unknown_row),
            false => Fitted::Shares(*owner),
        });
        let fitted = fitted.collect();
        FittedEncoders::new(self.specs, fitted)
    }
}

fn fitted(kind: &FeatureKind, statistics: Statistics, unknown_row: UnknownRow) -> Fitted {
    match (kind, statistics) {
        (FeatureKind::Dense { transform, missing }, Statistics::Moments(moments)) => {
            Fitted::Dense(DenseEncoder {
                transform: *transform,
                missing: *missing,
                mean: moments.mean(),
                std: moments.std(),
            })
        }
        (FeatureKind::Dense { transform: DenseTransform::PiecewiseLinear { bins }, missing }, statistics) => {
            let transform = DenseTransform::PiecewiseLinear { bins: *bins };
            let values = match statistics {
                Statistics::Values(values) => values,
                Statistics::Nothing | Statistics::Counts(_) | Statistics::Moments(_) => Vec::new(),
            };
            let encoder = DenseEncoder { transform, missing: *missing, mean: 0.0, std: 0.0 };
            Fitted::Pieces(encoder, Pieces::fit(values, *bins))
        }
        (FeatureKind::Dense { transform, missing }, _) => {
            Fitted::Dense(DenseEncoder { transform: *transform, missing: *missing, mean: 0.0, std: 0.0 })
        }
        (FeatureKind::Sparse { encoding, .. }, statistics) => {
            Fitted::Table(table(*encoding, statistics, unknown_row))
        }
    }
}

fn table(encoding: SparseEncoding, statistics: Statistics, unknown_row: UnknownRow) -> TableEncoder {
    match (encoding, statistics) {
        (SparseEncoding::Vocabulary { min_count }, Statistics::Counts(counts)) => {
            TableEncoder::Vocabulary(counts.finish(min_count, unknown_row))
        }
        (SparseEncoding::Quantile { buckets }, Statistics::Values(values)) => {
            TableEncoder::Quantile(Quantiles::fit(values, buckets))
        }
        (SparseEncoding::Hash { buckets }, _) => TableEncoder::Hash { buckets: buckets as u64 },
        (SparseEncoding::Raw { num_embeddings }, _) => {
            TableEncoder::Raw { num_embeddings: num_embeddings as u64 }
        }
        (SparseEncoding::Vocabulary { .. }, _) => TableEncoder::Vocabulary(Vocabulary::empty(unknown_row)),
        (SparseEncoding::Quantile { buckets }, _) => {
            TableEncoder::Quantile(Quantiles::fit(Vec::new(), buckets))
        }
    }
}

fn count(chunk: &Chunk, spec: &FeatureSpec, keep: &[bool], counts: &mut KeyCounts) -> Result<(), DataError> {
    let FeatureKind::Sparse { bag: Some(_), .. } = spec.kind else {
        let keys = KeyColumn::read(chunk, &spec.column)?;
        let kept = keep.iter().enumerate().filter(|(_, keep)| **keep);
        kept.filter_map(|(row, _)| keys.key(row)).for_each(|key| counts.add(key));
        return Ok(());
    };
    let Bags { offsets, keys, .. } = Bags::read(chunk, &spec.column, inside(spec))?;
    let bags = offsets.windows(2).zip(keep).filter(|(_, keep)| **keep);
    bags.flat_map(|(bag, _)| bag[0]..bag[1])
        .filter_map(|item| keys.key(item))
        .for_each(|key| counts.add(key));
    Ok(())
}

/// Where weights are that stand beside the ids; a column of its own is of no interest when ids are counted.
fn inside(spec: &FeatureSpec) -> Weights<'_> {
    match spec.weights() {
        Weights::Inside => Weights::Inside,
        _ => Weights::None,
    }
}

fn measure(chunk: &Chunk, spec: &FeatureSpec, keep: &[bool], moments: &mut Moments) -> Result<(), DataError> {
    let missing = match spec.kind {
        FeatureKind::Dense { missing, .. } => missing,
        FeatureKind::Sparse { .. } => None,
    };
    let encoder = DenseEncoder { transform: DenseTransform::None, missing, mean: 0.0, std: 0.0 };
    kept_reals(chunk, spec, keep, |row, value| {
        let filled = encoder.fill(value);
        let filled = filled.map_err(|bad| chunk.bad_cell(row, &spec.column, bad.found, bad.allowed))?;
        moments.add(filled);
        Ok(())
    })
}

/// Hands over the real value of each row that is kept; the others may hold anything.
fn kept_reals(
    chunk: &Chunk,
    spec: &FeatureSpec,
    keep: &[bool],
    mut take: impl FnMut(usize, Option<f64>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let reals = RealColumn::of(chunk, &spec.column)?;
    let kept = keep.iter().enumerate().filter(|(_, keep)| **keep);
    for (row, _) in kept {
        let value = reals.value(row).map_err(|found| chunk.bad_cell(row, &spec.column, found, FINITE))?;
        take(row, value)?;
    }
    Ok(())
}
