//! From sources to encoded splits, in passes over the chunks: times, fit, encode.

use super::report::{LoadReport, SplitReport};
use super::spec::DataSpec;
use super::users::stand_apart;
use crate::dataset::{Dataset, EncodedChunk, Outcome};
use crate::encode::encoder::{FittedEncoders, unique};
use crate::encode::feature::FeatureSpec;
use crate::encode::fit::EncoderFitter;
use crate::error::DataError;
use crate::outcome::label::LabelSpec;
use crate::outcome::outcomes::Outcomes;
use crate::read::source::SourceSpec;
use crate::split::divider::Divider;
use crate::split::spec::Part;

/// Encoders that were fitted on the training rows, and the rows of each split.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoadedSplits {
    /// The encoders.
    pub(crate) encoders: FittedEncoders,
    /// Training rows, at least one.
    pub(crate) train: Dataset,
    /// Validation rows, at least one.
    pub(crate) valid: Option<Dataset>,
    /// Test rows, at least one.
    pub(crate) test: Option<Dataset>,
    /// What was read.
    pub(crate) report: LoadReport,
}

/// Reads all splits and fits the encoders on the training rows. With `by_group` what the rows of a group share is held once,
/// where all sources have it apart.
///
/// # Errors
/// Everything in [`DataError`], and a split that got no row.
pub(crate) fn in_memory(data: &DataSpec, by_group: bool) -> Result<LoadedSplits, DataError> {
    let DataSpec { split: spec, features, unknown_share: _, labels, group, truth, counting } = data;
    let outcomes = Outcomes::new(labels, group.as_deref(), truth.as_ref(), counting)?;
    let by_group = by_group && stand_apart(spec, features, &outcomes)?;
    let fitter = data.fitter()?;

    for source in spec.sources() {
        source.open(&unique(
            features.iter().flat_map(FeatureSpec::columns).chain(outcomes.columns()).chain(spec.column()),
        ))?;
    }
    let outcomes = outcomes.resolved(&spec.sources())?;
    let dividers = spec.dividers()?;
    let encoders = fit(fitter, &dividers, labels)?;
    let mut splits =
        [Part::Train, Part::Valid, Part::Test].map(|part| Split::empty(part, &encoders, &outcomes, by_group));
    for (source, divider) in &dividers {
        let columns = encoders.required_columns();
        let columns = columns.iter().map(String::as_str).chain(outcomes.columns()).chain(divider.column());
        let columns = unique(columns);
        for piece in source.pieces(&columns, by_group)? {
            let piece = piece?;
            let encoded = encoders.encode_piece(&piece)?;
            let outcome = outcomes.read_piece(&piece)?;
            let parts = divider.assign(piece.impressions())?;
            let trains = |row: usize| parts[row] == Part::Train && outcome.depth[row].is_some();
            encoders.check_training(&piece, &encoded, trains)?;
            for split in splits.iter_mut().filter(|split| spec.has(split.part)) {
                split.append(&encoded, &outcome, &parts);
            }
        }
    }
    let [train, valid, test] =
        splits.map(|split| spec.has(split.part).then(|| split.finish(&encoders, &outcomes)));
    assemble(encoders, train.transpose()?, valid.transpose()?, test.transpose()?)
}

/// One pass over the training rows, if any feature needs it.
fn fit(
    mut fitter: EncoderFitter,
    dividers: &[(&SourceSpec, Divider)],
    labels: &LabelSpec,
) -> Result<FittedEncoders, DataError> {
    let needs_data = fitter.needs_data();
    let needed = fitter.required_columns();
    for (source, divider) in dividers.iter().filter(|(_, divider)| needs_data && divider.may_train()) {
        let columns = needed.iter().chain(&labels.columns).map(String::as_str).chain(divider.column());
        for chunk in source.open(&unique(columns))? {
            let chunk = chunk?;
            let parts = divider.assign(&chunk)?;
            let depth = labels.read(&chunk)?;
            let keep = parts.iter().zip(&depth).map(|(part, depth)| *part == Part::Train && depth.is_some());
            fitter.observe(&chunk, &keep.collect::<Vec<bool>>())?;
        }
    }
    fitter.finish()
}

type Loaded = (Dataset, SplitReport);

fn assemble(
    encoders: FittedEncoders,
    train: Option<Loaded>,
    valid: Option<Loaded>,
    test: Option<Loaded>,
) -> Result<LoadedSplits, DataError> {
    let (train, train_report) = train.unwrap_or_default();
    let (valid, valid_report) = valid.unzip();
    let (test, test_report) = test.unzip();
    let report = LoadReport { train: train_report, valid: valid_report, test: test_report };
    Ok(LoadedSplits { encoders, train, valid, test, report })
}

/// A split that is being read.
struct Split {
    part: Part,
    data: Dataset,
    orphans: u64,
}

impl Split {
    fn empty(part: Part, encoders: &FittedEncoders, outcomes: &Outcomes, by_group: bool) -> Self {
        Self { part, data: outcomes.empty_dataset(encoders, by_group), orphans: 0 }
    }

    fn append(&mut self, chunk: &EncodedChunk, outcome: &Outcome, parts: &[Part]) {
        let own = parts.iter().enumerate().filter(|(_, part)| **part == self.part).map(|(row, _)| row);
        let (kept, orphans): (Vec<usize>, Vec<usize>) = own.partition(|&row| outcome.depth[row].is_some());
        self.orphans += orphans.len() as u64;
        self.data.append(chunk, outcome, &kept);
    }

    fn finish(self, encoders: &FittedEncoders, outcomes: &Outcomes) -> Result<Loaded, DataError> {
        if self.data.rows == 0 {
            return Err(self.part.empty(self.orphans));
        }
        let report = SplitReport::of(&self.data, encoders, &outcomes.labels, self.orphans);
        outcomes.counting.check_weight(self.part.name(), report.weight)?;
        Ok((self.data, report))
    }
}
