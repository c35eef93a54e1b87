//! `calibration.json`: the correction of a run directory, and where it comes from.

use serde::{Deserialize, Serialize};

use super::Correction;
use super::measured::TaskChange;
use super::platt::{Platt, PlattFit};
use crate::counting::RowCounting;
use crate::error::RunError;
use crate::files::FileSum;
use crate::manifest::Manifest;
use crate::run_dir::{RunDir, read_json};

/// Version of the file's layout.
const FORMAT_VERSION: u32 = 1;

/// `calibration.json`: what `esmm calibrate` fitted, on what, and what it did there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationRecord {
    format_version: u32,
    /// Checksum of the weights that it corrects.
    weights_xxh64: String,
    /// The files that it was fitted on, as they were named.
    pub data: Vec<String>,
    /// Impressions in them.
    pub rows: u64,
    /// How they counted; `None` of a file that was written before this was stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counting: Option<RowCounting>,
    /// The correction, a stage each.
    pub stages: Vec<StageCorrection>,
    /// What it does to each task, on rows that it was not fitted on.
    pub tasks: Vec<TaskChange>,
}

/// The correction of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageCorrection {
    /// The stage.
    pub stage: String,
    /// Its correction.
    #[serde(flatten)]
    pub platt: Platt,
    /// Standard error of the slope.
    pub slope_error: f64,
    /// Standard error of the intercept.
    pub intercept_error: f64,
}

/// Reads the version first.
#[derive(Deserialize)]
struct Versioned {
    format_version: u32,
}

impl CalibrationRecord {
    /// What was fitted for the weights of a run directory.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn new(
        run: &RunDir,
        data: &[String],
        rows: u64,
        stages: &[String],
        fits: &[PlattFit],
        tasks: Vec<TaskChange>,
    ) -> Result<Self, RunError> {
        let stages = stages.iter().zip(fits).map(|(stage, fit)| StageCorrection {
            stage: stage.clone(),
            platt: fit.platt,
            slope_error: fit.slope_error,
            intercept_error: fit.intercept_error,
        });
        Ok(Self {
            format_version: FORMAT_VERSION,
            weights_xxh64: weights_of(run)?,
            data: data.to_vec(),
            rows,
            counting: None,
            stages: stages.collect(),
            tasks,
        })
    }

    /// The same with how the rows counted.
    #[must_use]
    pub fn counted(self, counting: RowCounting) -> Self {
        Self { counting: Some(counting), ..self }
    }

    /// The correction of a run directory; `None` where it has none.
    ///
    /// # Errors
    /// A file that is damaged, of a newer version, or fitted for other weights than those that are there.
    pub fn read(run: &RunDir) -> Result<Option<Self>, RunError> {
        let path = run.calibration();
        // A file that is there and empty is one that is being taken away.
        if !path.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            return Ok(None);
        }
        let Versioned { format_version } = read_json(&path)?;
        if format_version != FORMAT_VERSION {
            let reason = format!("has format version {format_version}, this program reads {FORMAT_VERSION}");
            return Err(RunError::file(&path, reason));
        }
        let record: Self = read_json(&path)?;
        let is_usable = |stage: &StageCorrection| {
            stage.platt.slope > 0.0 && stage.platt.slope.is_finite() && stage.platt.intercept.is_finite()
        };
        let run_dir = run.path().display();
        let undo = format!("take it away with: esmm calibrate {run_dir} --undo");
        if !record.stages.iter().all(is_usable) || record.stages.len() != run.read_model()?.stages {
            return Err(RunError::file(&path, format!("is damaged: it does not fit the model; {undo}")));
        }
        match record.weights_xxh64 == weights_of(run)? {
            true => Ok(Some(record)),
            false => Err(RunError::file(
                &path,
                format!("was fitted for other weights than model.safetensors; {undo}"),
            )),
        }
    }

    /// Makes it the correction of a run directory, in place of one that is there.
    ///
    /// # Errors
    /// A disk that refuses; everything is then as it was.
    pub fn write(&self, run: &RunDir) -> Result<(), RunError> {
        let path = run.calibration();
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|error| RunError::file(&path, error.to_string()))?;
        text.push(b'\n');
        Manifest::replace_calibration(run, Some(&text))
    }

    /// Takes the correction of a run directory away; `false` where it has none.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn remove(run: &RunDir) -> Result<bool, RunError> {
        let is_there = run.calibration().exists() || Manifest::lists_calibration(run)?;
        if is_there {
            Manifest::replace_calibration(run, None)?;
        }
        Ok(is_there)
    }

    /// The correction itself.
    pub fn correction(&self) -> Correction {
        Correction { stages: self.stages.iter().map(|stage| stage.platt).collect() }
    }

    /// What is said wherever corrected probabilities are used.
    pub fn described(&self) -> String {
        format!(
            "probabilities are calibrated (Platt, fitted by esmm calibrate on {} impressions of {})",
            self.rows,
            self.data.join(", ")
        )
    }
}

/// Checksum of the weights of all models of a run directory.
fn weights_of(run: &RunDir) -> Result<String, RunError> {
    let mut sums = String::new();
    let members = run.members(run.read_config()?.train.seeds);
    for path in members.iter().map(RunDir::weights) {
        let sum =
            FileSum::of(&path).map_err(|error| RunError::file(&path, format!("cannot be read: {error}")))?;
        sums.push_str(&sum.xxh64);
    }
    Ok(match members.len() {
        1 => sums,
        _ => FileSum::of_bytes(sums.as_bytes()).xxh64,
    })
}
