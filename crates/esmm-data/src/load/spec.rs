//! The data of a training, and one way to load it.

use std::borrow::Cow;

use super::files::{StreamOptions, encoded_bytes, in_files};
use super::memory::in_memory;
use super::report::{LoadReport, SAMPLE_ROWS};
use super::rows::SplitRows;
use crate::dataset::Dataset;
use crate::encode::encoder::FittedEncoders;
use crate::encode::feature::FeatureSpec;
use crate::encode::fit::EncoderFitter;
use crate::encode::unknown_row::UnknownRow;
use crate::error::DataError;
use crate::outcome::counting::CountSpec;
use crate::outcome::label::LabelSpec;
use crate::outcome::truth::TruthSpec;
use crate::read::source::SourceSpec;
use crate::split::spec::SplitSpec;

/// What is read for a training: where the impressions are, how they are split, and which columns mean what.
///
/// # Examples
/// ```no_run
/// use esmm_data::{
///     CountSpec, DataSpec, FeatureKind, FeatureSpec, LabelSpec, LoadOptions, Outside, SourceSpec, SparseEncoding,
///     SplitSpec,
/// };
///
/// # fn main() -> Result<(), esmm_data::DataError> {
/// let user = FeatureKind::Sparse {
///     encoding: SparseEncoding::Vocabulary { min_count: 2 },
///     bag: None,
///     weighted: false,
///     weights_column: None,
///     shares: None,
/// };
/// let data = DataSpec {
///     split: SplitSpec::Random { source: SourceSpec::new(["impressions/*.parquet"]), valid: 0.1, test: 0.1, seed: 7 },
///     features: vec![FeatureSpec { name: "user".into(), column: "user_id".into(), side: esmm_core::Side::User, kind: user, outside: Outside::Clip }],
///     unknown_share: 0.01,
///     labels: LabelSpec::new(["click", "conversion"]),
///     group: None,
///     truth: None,
///     counting: CountSpec::default(),
/// };
/// let loaded = data.load(&LoadOptions::default())?;
/// println!("{} rows to learn from", loaded.train.rows());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DataSpec {
    /// The sources, and which of their rows train, validate and test.
    pub split: SplitSpec,
    /// The features, in the order of the model's input.
    pub features: Vec<FeatureSpec>,
    /// The least share of the values of each vocabulary that training takes as unknown, in `[0, 1)`. 0: none are taken, and
    /// unknown values share the row of missing ones.
    pub unknown_share: f64,
    /// The stages of the funnel.
    pub labels: LabelSpec,
    /// The column whose values are the groups of GAUC.
    pub group: Option<String>,
    /// Columns with true rates, of synthetic data.
    pub truth: Option<TruthSpec>,
    /// Columns that say how rows count.
    pub counting: CountSpec,
}

/// How rows are held and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Whether every pass reads the rows from their files; `None`: when they would take more than `memory`.
    pub streaming: Option<bool>,
    /// Bytes that encoded rows may take in memory.
    pub memory: u64,
    /// Bytes that this process may take in all, of which encoded rows get half at most; `None`: as many as there are.
    pub process_memory: Option<u64>,
    /// Streaming: rows that are shuffled together at most.
    pub shuffle_rows: usize,
    /// Data with groups: whether rows of one group stay together, and what they share is read, encoded and held once.
    pub by_group: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            streaming: None,
            memory: 4 << 30,
            process_memory: None,
            shuffle_rows: 1_000_000,
            by_group: true,
        }
    }
}

/// Encoders that were fitted on the training rows, and the rows of each split.
#[derive(Debug, Clone)]
pub struct LoadedData {
    /// The encoders.
    pub encoders: FittedEncoders,
    /// Training rows, at least one.
    pub train: SplitRows,
    /// Validation rows, at least one.
    pub valid: Option<SplitRows>,
    /// Test rows, at least one.
    pub test: Option<SplitRows>,
    /// What was read. Of rows in files, unknown values were counted in the first 200,000 rows of each split.
    pub report: LoadReport,
    /// The first training rows, where the rows stay in their files.
    first: Option<Dataset>,
}

impl LoadOptions {
    /// Bytes that encoded rows may take, whatever the limit comes from.
    fn rows_memory(&self) -> u64 {
        self.process_memory.map_or(self.memory, |process| self.memory.min(process / 2))
    }
}

impl DataSpec {
    /// Checks all that can be known before a file is opened.
    ///
    /// # Errors
    /// A setting of the sources, the split, the labels, the features or the counting of rows that cannot be; a label that is
    /// read for something else as well.
    pub fn validate(&self) -> Result<(), DataError> {
        self.split.sources().into_iter().try_for_each(SourceSpec::validate)?;
        self.split.validate()?;
        self.labels.validate()?;
        self.truth.as_ref().map_or(Ok(()), TruthSpec::validate)?;
        self.counting.validate()?;
        self.check_labels_apart()?;
        self.fitter().map(|_| ())
    }

    /// What fits its encoders.
    pub(super) fn fitter(&self) -> Result<EncoderFitter, DataError> {
        let unknown_row = if self.unknown_share > 0.0 { UnknownRow::Own } else { UnknownRow::OfMissing };
        Ok(EncoderFitter::new(self.features.clone())?.with_unknown_row(unknown_row))
    }

    /// Fits the encoders on the training rows and takes the rows of all splits into memory, or counts them where they stay
    /// in their files.
    ///
    /// # Errors
    /// Everything in [`DataError`], and a split that got no row. Values in columns that need no fit are looked at when
    /// they are read: now, or in each pass over the files.
    pub fn load(&self, options: &LoadOptions) -> Result<LoadedData, DataError> {
        self.validate()?;
        self.loaded(options).map_err(|error| self.with_key(error))
    }

    fn loaded(&self, options: &LoadOptions) -> Result<LoadedData, DataError> {
        let streaming = match options.streaming {
            Some(streaming) => streaming,
            None => self.is_larger_than_allowed(options)?,
        };
        if streaming {
            let LoadOptions { shuffle_rows, by_group, .. } = *options;
            let memory = options.rows_memory();
            let loaded = in_files(self, StreamOptions { memory, shuffle_rows, by_group })?;
            return Ok(LoadedData {
                encoders: loaded.encoders,
                train: loaded.train.into(),
                valid: loaded.valid.map(SplitRows::from),
                test: loaded.test.map(SplitRows::from),
                report: loaded.report,
                first: Some(loaded.sample),
            });
        }
        let loaded = in_memory(self, options.by_group)?;
        Ok(LoadedData {
            encoders: loaded.encoders,
            train: loaded.train.into(),
            valid: loaded.valid.map(SplitRows::from),
            test: loaded.test.map(SplitRows::from),
            report: loaded.report,
            first: None,
        })
    }

    /// Whether the encoded rows would take more bytes than they may.
    fn is_larger_than_allowed(&self, options: &LoadOptions) -> Result<bool, DataError> {
        let bytes = encoded_bytes(self, options.by_group)?;
        let rows_memory = options.rows_memory();
        if bytes <= rows_memory {
            return Ok(false);
        }
        let mebibytes = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
        let allowed = match options.process_memory {
            Some(process) if rows_memory < options.memory => {
                format!("half of the {} that this process may take", mebibytes(process))
            }
            _ => format!("data.memory = {}", mebibytes(rows_memory)),
        };
        let needed = mebibytes(bytes);
        log::info!("the rows would take about {needed}, more than {allowed}: every pass reads their files");
        Ok(true)
    }
}

impl LoadedData {
    /// Whether every pass reads the rows from their files.
    pub fn is_streaming(&self) -> bool {
        match &self.train {
            SplitRows::Memory(_) => false,
            SplitRows::Files(_) => true,
        }
    }

    /// Whether rows of one group stay together, and what they share is held once.
    pub fn by_group(&self) -> bool {
        match &self.train {
            SplitRows::Memory(dataset) => dataset.users.is_some(),
            SplitRows::Files(rows) => rows.by_group(),
        }
    }

    /// Training rows with all of their features, for those who look at features: all of them, or else the first ones.
    pub fn sample(&self) -> Cow<'_, Dataset> {
        match (&self.train, &self.first) {
            (_, Some(first)) => Cow::Borrowed(first),
            (SplitRows::Memory(dataset), None) => dataset.written_out(SAMPLE_ROWS),
            (SplitRows::Files(_), None) => Cow::Owned(Dataset::default()),
        }
    }
}
