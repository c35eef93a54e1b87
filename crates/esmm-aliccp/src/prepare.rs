//! A preparation from beginning to end: three passes over each split.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rayon::ThreadPool;

use crate::common::read_common;
use crate::convert::convert;
use crate::error::AliCcpError;
use crate::field::{FIELDS, FIELDS_LEN, Layout};
use crate::lines::total_bytes;
use crate::memory::Memory;
use crate::output::{AUTHORS_RUN_FILE, PartialOutput, REPORT_FILE, RUN_FILE, check_inputs};
use crate::passes::{Halt, Passes};
use crate::progress::{Meter, PrepareProgress, StepKind};
use crate::raw::RawFiles;
use crate::report::{BadRows, PrepareReport, SplitReport};
use crate::run_file::{Setting, run_file};
use crate::scan::scan;

/// Version of the report.
const FORMAT_VERSION: u32 = 1;

/// What to prepare, and with what.
#[derive(Debug, Clone)]
pub struct PrepareConfig {
    /// Folder with `sample_skeleton_{train,test}*.csv` and `common_features_{train,test}*.csv`, or `.csv.gz`.
    pub raw: PathBuf,
    /// Folder for the output: made, or empty, or written by an earlier preparation with `overwrite`.
    pub out: PathBuf,
    /// Memory in bytes. The index of the groups, some 50 bytes a group, comes on top.
    pub memory: u64,
    /// Rows that may be skipped.
    pub max_bad_rows: u64,
    /// Threads that parse and pack. The output does not depend on their number.
    pub threads: usize,
    /// Replace what an earlier preparation left.
    pub overwrite: bool,
    /// Set from outside, it ends the preparation as if it had not begun.
    pub stop: Arc<AtomicBool>,
}

impl PrepareConfig {
    /// With 4 GiB, all cores, and no bad row allowed.
    pub fn new(raw: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            raw: raw.into(),
            out: out.into(),
            memory: 4 << 30,
            max_bad_rows: 0,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            overwrite: false,
            stop: Arc::default(),
        }
    }
}

/// Prepares raw files; `say` hears every few seconds how far it is.
///
/// # Errors
/// Files that are missing, damaged or hold more bad rows than allowed; a disk that refuses; a stop. Then nothing is left
/// of it, and an earlier output is as it was.
pub fn prepare(
    config: &PrepareConfig,
    say: &mut dyn FnMut(&PrepareProgress),
) -> Result<PrepareReport, AliCcpError> {
    prepare_within(config, Memory::divide(config.memory, config.threads)?, say)
}

/// The same with memory that is divided already.
pub(crate) fn prepare_within(
    config: &PrepareConfig,
    memory: Memory,
    say: &mut dyn FnMut(&PrepareProgress),
) -> Result<PrepareReport, AliCcpError> {
    let train = RawFiles::find(&config.raw, "train")?.ok_or_else(|| {
        AliCcpError::file(&config.raw, "holds no sample_skeleton_train.csv and no common_features_train.csv")
    })?;
    let test = RawFiles::find(&config.raw, "test")?;
    let inputs = std::iter::once(&train).chain(&test).flat_map(|raw| raw.skeleton.iter().chain(&raw.common));
    check_inputs(&config.out, inputs)?;
    let output = PartialOutput::create(&config.out, config.overwrite)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(config.threads).build();
    let pool =
        pool.map_err(|error| AliCcpError::Setting(format!("--threads {}: {error}", config.threads)))?;
    let splits: Vec<(&'static str, RawFiles)> =
        std::iter::once(("train", train)).chain(test.map(|test| ("test", test))).collect();
    let mut layout = Layout::official();
    let report = loop {
        match attempt(config, &output, &pool, memory, layout, &splits, say) {
            Ok(report) => break report,
            Err(Halt::Error(error)) => return Err(error),
            Err(Halt::Widen { field, place }) => {
                log::warn!(
                    "{}: field {} has more than one value, or one that is not 1: starting over with lists for it",
                    place.place,
                    FIELDS[field].code
                );
                layout = layout.widened(field);
                output.clear()?;
            }
        }
    };
    write_texts(config, &output, &report, layout)?;
    output.finish()?;
    Ok(report)
}

/// All splits with one layout.
fn attempt(
    config: &PrepareConfig,
    output: &PartialOutput,
    pool: &ThreadPool,
    memory: Memory,
    layout: Layout,
    splits: &[(&'static str, RawFiles)],
    say: &mut dyn FnMut(&PrepareProgress),
) -> Result<PrepareReport, Halt> {
    let mut work = Vec::new();
    for (_, files) in splits {
        let skeleton = total_bytes(&files.skeleton)?;
        let common = total_bytes(&files.common)?;
        work.extend([(StepKind::Scan, skeleton), (StepKind::Common, common), (StepKind::Convert, skeleton)]);
    }
    let mut bad = BadRows::new(config.max_bad_rows);
    let mut meter = Meter::new(say, &config.stop, work.into_iter());
    let mut reports = Vec::new();
    for (split, files) in splits {
        let folder = output.folder().to_owned();
        let mut passes = Passes { split, files, folder, memory, layout, bad: &mut bad, meter: &mut meter };
        reports.push(run(&mut passes, pool, &output.subfolder(split)?)?);
    }
    let mut reports = reports.into_iter();
    Ok(PrepareReport {
        format_version: FORMAT_VERSION,
        train: reports.next().unwrap_or_default(),
        test: reports.next(),
        bad_rows: bad.found,
        bad_row_examples: bad.examples,
        widened_fields: widened(layout).map(|field| FIELDS[field].code.to_owned()).collect(),
    })
}

fn widened(layout: Layout) -> impl Iterator<Item = usize> {
    (0..FIELDS_LEN).filter(move |field| layout.is_bag(*field) && !Layout::official().is_bag(*field))
}

/// The passes over one split.
fn run(
    passes: &mut Passes<'_, '_>,
    pool: &ThreadPool,
    folder: &std::path::Path,
) -> Result<SplitReport, Halt> {
    let bad_before = passes.bad.found;
    let scan = scan(passes, pool)?;
    if scan.rows == 0 {
        return Err(AliCcpError::file(&passes.files.skeleton[0], "no rows").into());
    }
    let common = read_common(passes, pool, &scan.index)?;
    let mut report = convert(passes, pool, scan, common, folder)?;
    report.dropped_bad_rows = passes.bad.found - bad_before;
    if report.impressions == 0 {
        let orphans = report.dropped_conversions_without_click;
        let bad = report.dropped_bad_rows;
        let reason = format!("no impression is left ({orphans} conversions without a click, {bad} bad rows)");
        return Err(AliCcpError::file(&passes.files.skeleton[0], reason).into());
    }
    Ok(report)
}

fn write_texts(
    config: &PrepareConfig,
    output: &PartialOutput,
    report: &PrepareReport,
    layout: Layout,
) -> Result<(), AliCcpError> {
    let write = |name: &str, text: String| {
        let path = output.folder().join(name);
        std::fs::write(&path, text).map_err(|error| AliCcpError::io(&path, &error))
    };
    let has_test = report.test.is_some();
    write(RUN_FILE, run_file(Setting::Paper, &config.out, layout, has_test))?;
    write(AUTHORS_RUN_FILE, run_file(Setting::AuthorsCode, &config.out, layout, has_test))?;
    let json = serde_json::to_string_pretty(report)
        .map_err(|error| AliCcpError::file(&output.folder().join(REPORT_FILE), error))?;
    write(REPORT_FILE, json + "\n")
}
