//! `[labels]`: the stages of the funnel, and how each row counts.

use std::convert::Infallible;
use std::str::FromStr;

use esmm_data::{ConversionWindow, CountSpec, LabelSpec, MissingLabel, Orphans};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::instant::Instant;
use super::negative_rate::NegativeRate;
use crate::error::RunError;

/// The stages of the funnel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LabelSection {
    /// Columns of the stages, in order, at least 2. A cell is 0 or 1.
    pub stages: Vec<String>,
    /// What happens to a row that reached a stage but not the one before, as a conversion without a click.
    pub orphan_conversions: OrphanPolicy,
    /// Words for 1, beside `1` and `true`.
    pub positive: Vec<String>,
    /// Words for 0, beside `0` and `false`.
    pub negative: Vec<String>,
    /// What a missing label of a later stage means where the stage before was not reached; elsewhere it is an error.
    pub missing: MissingPolicy,
    /// The share of the impressions without a click that the data still holds, in (0, 1], or the column that holds it for
    /// each row, clicked ones too. Probabilities and metrics are then those of the full log. Unless said: all.
    pub negative_rate: Option<NegativeRateSetting>,
    /// The column with the weight of each row, in the loss and in the metrics: finite and not negative. Unless said: 1.
    pub weight: Option<String>,
    /// How long a conversion may take: a number with a unit, such as `7d` or `36h`, or for a column of numbers a number in
    /// its unit. Rows that are younger when the log ends count for the first stage only.
    pub conversion_window: Option<Instant>,
    /// With `conversion_window`: the column with the time of each row. Unless said: the one of a split by time.
    pub time: Option<String>,
    /// With `conversion_window`: when the log ends, as the column has it. Unless said: at the newest time of the data.
    pub conversions_until: Option<Instant>,
}

impl Default for LabelSection {
    fn default() -> Self {
        Self {
            stages: vec!["click".into(), "conversion".into()],
            orphan_conversions: OrphanPolicy::Error,
            positive: Vec::new(),
            negative: Vec::new(),
            missing: MissingPolicy::Error,
            negative_rate: None,
            weight: None,
            conversion_window: None,
            time: None,
            conversions_until: None,
        }
    }
}

/// A share for all rows, or a column with one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "it must be a number above 0 and at most 1, or the name of a column")]
pub enum NegativeRateSetting {
    /// `negative_rate = 0.1`
    Share(f64),
    /// `negative_rate = "kept"`
    Column(String),
}

impl NegativeRateSetting {
    /// The share of all rows; `None` where nothing was left out, and where a column has the share of each row.
    ///
    /// # Errors
    /// A share outside `(0, 1]`.
    pub fn share(&self) -> Result<Option<NegativeRate>, RunError> {
        match self {
            Self::Share(share) => NegativeRate::new(*share),
            Self::Column(_) => Ok(None),
        }
    }

    /// The column with the share of each row.
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Share(_) => None,
            Self::Column(column) => Some(column),
        }
    }
}

/// As a person writes it.
impl std::fmt::Display for NegativeRateSetting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Share(share) => share.fmt(formatter),
            Self::Column(column) => formatter.write_str(column),
        }
    }
}

/// A number is a share, anything else names a column; in double quotes a name may be a number.
impl FromStr for NegativeRateSetting {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if let Ok(share) = text.parse() {
            return Ok(Self::Share(share));
        }
        let unquoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Ok(Self::Column(unquoted.unwrap_or(text).to_owned()))
    }
}

/// What a missing label means where the stage before was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MissingPolicy {
    /// It is an error.
    #[default]
    Error,
    /// The stage was not reached.
    Zero,
}

/// What happens to a conversion without a click.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrphanPolicy {
    /// It is an error.
    #[default]
    Error,
    /// The row is dropped and counted.
    Drop,
}

/// The stages.
pub(super) fn stages(labels: &LabelSection) -> LabelSpec {
    let orphan_conversions = match labels.orphan_conversions {
        OrphanPolicy::Error => Orphans::Error,
        OrphanPolicy::Drop => Orphans::Drop,
    };
    let missing = match labels.missing {
        MissingPolicy::Error => MissingLabel::Error,
        MissingPolicy::Zero => MissingLabel::Zero,
    };
    LabelSpec {
        columns: labels.stages.clone(),
        orphan_conversions,
        positive: labels.positive.clone(),
        negative: labels.negative.clone(),
        missing,
    }
}

/// The share of the impressions without a click that the data holds, where it is one for all rows.
pub(super) fn negative_rate(labels: &LabelSection) -> Result<Option<NegativeRate>, RunError> {
    labels.negative_rate.as_ref().map_or(Ok(None), NegativeRateSetting::share)
}

/// What says how rows count; `by_time` is the column of a split that has one.
pub(super) fn counting(labels: &LabelSection, by_time: Option<&str>) -> Result<CountSpec, RunError> {
    let negative_rate =
        labels.negative_rate.as_ref().and_then(NegativeRateSetting::column).map(str::to_owned);
    let window = match &labels.conversion_window {
        None if labels.time.is_some() || labels.conversions_until.is_some() => {
            let message =
                "labels.time and labels.conversions_until go with labels.conversion_window: say that too";
            return Err(RunError::Config(message.into()));
        }
        None => None,
        Some(length) => {
            let Some(column) = labels.time.as_deref().or(by_time) else {
                let message =
                    "labels.conversion_window needs labels.time, the column with the time of each row";
                return Err(RunError::Config(message.into()));
            };
            Some(ConversionWindow {
                column: column.to_owned(),
                length: length.to_string(),
                until: labels.conversions_until.as_ref().map(Instant::to_string),
            })
        }
    };
    let spec = CountSpec { weight: labels.weight.clone(), negative_rate, window };
    spec.validate()?;
    Ok(spec)
}
