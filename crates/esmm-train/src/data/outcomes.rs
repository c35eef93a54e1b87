//! What is read beside the features: labels, groups, true rates.

use super::chunk::Chunk;
use super::dataset::Outcome;
use super::error::DataError;
use super::key::KEY_HASH_SEED;
use super::label::LabelSpec;
use super::split::hashes;
use super::truth::TruthSpec;

/// Where the outcome of an impression stands.
#[derive(Debug, Clone)]
pub(super) struct Outcomes {
    pub(super) labels: LabelSpec,
    pub(super) group: Option<String>,
    pub(super) truth: Option<TruthSpec>,
}

impl Outcomes {
    /// Checks the settings.
    pub(super) fn new(
        labels: &LabelSpec,
        group: Option<&str>,
        truth: Option<&TruthSpec>,
    ) -> Result<Self, DataError> {
        labels.validate()?;
        truth.map_or(Ok(()), TruthSpec::validate)?;
        Ok(Self { labels: labels.clone(), group: group.map(str::to_owned), truth: truth.cloned() })
    }

    /// The columns.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        let truth = self.truth.iter().flat_map(TruthSpec::columns);
        self.labels.columns.iter().map(String::as_str).chain(self.group.as_deref()).chain(truth)
    }

    /// Those that stand with the impressions where users stand apart.
    pub(super) fn columns_of_impressions(&self) -> impl Iterator<Item = &str> {
        let truth = self.truth.iter().flat_map(TruthSpec::columns);
        self.labels.columns.iter().map(String::as_str).chain(truth)
    }

    /// The outcome of each row of a chunk.
    pub(super) fn read(&self, chunk: &Chunk) -> Result<Outcome, DataError> {
        let groups = |column: &String| hashes(chunk, column, KEY_HASH_SEED).map(Iterator::collect);
        Ok(Outcome {
            depth: self.labels.read(chunk)?,
            group: self.group.as_ref().map(groups).transpose()?,
            truth: self.truth.as_ref().map(|truth| truth.read(chunk)).transpose()?,
        })
    }

    /// The outcome of each impression, where the column of the group may stand beside them, once a group.
    pub(super) fn read_beside(
        &self,
        impressions: &Chunk,
        groups: &Chunk,
        of_rows: &[u32],
    ) -> Result<Outcome, DataError> {
        let column = self.group.as_ref().filter(|column| groups.column(column).is_ok());
        let Some(column) = column else {
            return self.read(impressions);
        };
        let hashes: Vec<u64> = hashes(groups, column, KEY_HASH_SEED)?.collect();
        let group = of_rows.iter().map(|&group| hashes[group as usize]).collect();
        let others = Self { group: None, ..self.clone() };
        Ok(Outcome { group: Some(group), ..others.read(impressions)? })
    }
}
