//! What to generate, and what came of it.

use std::path::PathBuf;

use super::space::OFFICIAL_ROWS;
use crate::error::AliCcpError;

/// What to generate.
///
/// # Examples
/// ```no_run
/// use esmm_aliccp::{GenerateConfig, generate};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let report = generate(&GenerateConfig::new(folder.path(), 200, 1))?;
/// assert_eq!(report.train_rows, 200);
/// assert!(folder.path().join("sample_skeleton_train.csv").is_file());
/// # Ok::<(), esmm_aliccp::AliCcpError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateConfig {
    /// Folder for the files; others in it stay.
    pub out: PathBuf,
    /// Impressions of the training files. The test files get 1.017 times as many, as the official ones.
    pub rows: u64,
    /// Of everything random.
    pub seed: u64,
    /// Clicks for each impression.
    pub click_rate: f64,
    /// Conversions for each impression.
    pub conversion_rate: f64,
    /// Conversions without a click for each impression.
    pub orphan_rate: f64,
    /// Share of groups with something unusual that is allowed: no common features, an impression without features, a
    /// common row that is there twice, impressions that come back after those of the next group, two categories.
    pub anomalies: f64,
    /// Pack the files with gzip.
    pub gzip: bool,
    /// Threads. The files do not depend on their number.
    pub threads: usize,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GenerateReport {
    /// Impressions of the training files.
    pub train_rows: u64,
    /// Common rows of the training files.
    pub train_groups: u64,
    /// Impressions of the test files.
    pub test_rows: u64,
    /// Common rows of the test files.
    pub test_groups: u64,
}

impl GenerateConfig {
    /// With the official rates.
    pub fn new(out: impl Into<PathBuf>, rows: u64, seed: u64) -> Self {
        Self {
            out: out.into(),
            rows,
            seed,
            click_rate: 0.03887,
            conversion_rate: 0.000214,
            orphan_rate: 230.0 / OFFICIAL_ROWS as f64,
            anomalies: 0.0,
            gzip: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    pub(super) fn validate(&self) -> Result<(), AliCcpError> {
        let refuse = |what: String| Err(AliCcpError::Setting(what));
        if self.rows == 0 {
            return refuse("--rows 0: it must be at least 1".to_owned());
        }
        let rates = [
            ("--click-rate", self.click_rate),
            ("--conversion-rate", self.conversion_rate),
            ("the rate of conversions without a click", self.orphan_rate),
            ("--anomalies", self.anomalies),
        ];
        if let Some((name, rate)) = rates.into_iter().find(|(_, rate)| !(0.0..=0.9).contains(rate)) {
            return refuse(format!("{name} {rate}: it must be from 0 to 0.9"));
        }
        if self.conversion_rate > self.click_rate {
            let conversions = self.conversion_rate;
            let clicks = self.click_rate;
            return refuse(format!(
                "--conversion-rate {conversions}: it must not be above the click rate, {clicks}"
            ));
        }
        Ok(())
    }
}
