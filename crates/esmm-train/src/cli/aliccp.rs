//! `esmm aliccp prepare` and `esmm aliccp generate`

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use esmm_aliccp::{
    AUTHORS_RUN_FILE, AliCcpError, GenerateConfig, PrepareConfig, PrepareProgress, REPORT_FILE, RUN_FILE,
    generate, prepare,
};
use esmm_train::TrainError;
use esmm_train::config::memory_amount;
use esmm_train::wording;

use super::aliccp_report::printed;
use super::numbers::{MAX, real, threads, whole};
use super::signals::{self, Answer, Signal};
use super::stdout::{out, outln};
use super::{Done, logging, shown, table};

#[derive(Debug, clap::Args)]
pub(super) struct AliCcpArgs {
    #[command(subcommand)]
    command: AliCcpCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AliCcpCommand {
    /// Turns the raw files into Parquet files and run files for them.
    Prepare(PrepareArgs),
    /// Writes files in the raw format with the official files' statistics.
    Generate(GenerateArgs),
}

#[derive(Debug, clap::Args)]
struct PrepareArgs {
    /// Folder with sample_skeleton_{train,test}.csv and common_features_{train,test}.csv, plain or .gz, one or several
    /// of each.
    raw_dir: PathBuf,
    /// Where to leave the Parquet files, the run files and the report.
    out_dir: PathBuf,
    /// Memory for everything but the index of groups (60 bytes a group), such as 4GiB or 500MiB.
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = bytes, allow_negative_numbers = true)]
    memory: u64,
    /// Malformed rows that are skipped and counted instead of ending the preparation.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = whole::<u64, 0, MAX>,
        allow_negative_numbers = true
    )]
    max_bad_rows: u64,
    /// Replaces what an earlier preparation left in OUT_DIR.
    #[arg(long)]
    overwrite: bool,
    /// Threads; by default as many as there are cores. The output does not depend on it.
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    threads: Option<u16>,
    /// No progress.
    #[arg(long)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
struct GenerateArgs {
    /// Where to write the four files.
    out_dir: PathBuf,
    /// Impressions of the training files; the test files get 1.017 times as many.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        value_parser = whole::<u64, 0, MAX>,
        allow_negative_numbers = true
    )]
    rows: u64,
    /// Seed of everything random.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = whole::<u64, 0, MAX>,
        allow_negative_numbers = true
    )]
    seed: u64,
    /// Clicks for each impression.
    #[arg(long, value_name = "RATE", default_value_t = 0.03887, value_parser = real, allow_negative_numbers = true)]
    click_rate: f64,
    /// Conversions for each impression.
    #[arg(long, value_name = "RATE", default_value_t = 0.000214, value_parser = real, allow_negative_numbers = true)]
    conversion_rate: f64,
    /// Share of groups with something unusual: no features, a common row twice, impressions that come back after those
    /// of another group, two categories.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = real, allow_negative_numbers = true)]
    anomalies: f64,
    /// Pack the files.
    #[arg(long)]
    gzip: bool,
    /// Threads; by default as many as there are cores. The files do not depend on it.
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    threads: Option<u16>,
}

pub(super) fn run(args: &AliCcpArgs) -> anyhow::Result<Done> {
    logging::init();
    match &args.command {
        AliCcpCommand::Prepare(args) => run_prepare(args),
        AliCcpCommand::Generate(args) => run_generate(args).map(|()| Done::Whole),
    }
}

fn run_prepare(args: &PrepareArgs) -> anyhow::Result<Done> {
    let stop = Arc::new(AtomicBool::new(false));
    let ends_for = stop_on_signals(&stop);
    let defaults = PrepareConfig::new(&args.raw_dir, &args.out_dir);
    let config = PrepareConfig {
        memory: args.memory,
        max_bad_rows: args.max_bad_rows,
        threads: args.threads.map_or(defaults.threads, usize::from),
        overwrite: args.overwrite,
        stop,
        ..defaults
    };
    let started = Instant::now();
    let mut say = |progress: &PrepareProgress| {
        if !args.quiet {
            log::info!("{}", line(progress));
        }
    };
    let report = match prepare(&config, &mut say) {
        Err(AliCcpError::Interrupted) => {
            log::warn!("{}", AliCcpError::Interrupted);
            return Ok(Done::Interrupted(*ends_for.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        report => report.map_err(explained)?,
    };
    let rows = report.train.skeleton_rows + report.test.as_ref().map_or(0, |test| test.skeleton_rows);
    let seconds = started.elapsed().as_secs_f64();
    let rate = table::grouped((rows as f64 / seconds) as u64);
    log::info!(
        "{} impressions read in {}, {rate} a second",
        table::grouped(rows),
        wording::duration(seconds)
    );
    out!("{}", printed(&report))?;
    let out = shown(&args.out_dir);
    outln!("Everything is in {out}: train, test, {REPORT_FILE}.")?;
    outln!("Next:")?;
    outln!("  esmm train {out}/{RUN_FILE}              the paper's settings")?;
    outln!("  esmm train {out}/{AUTHORS_RUN_FILE}      those of its authors' code")?;
    Ok(Done::Whole)
}

fn run_generate(args: &GenerateArgs) -> anyhow::Result<()> {
    let defaults = GenerateConfig::new(&args.out_dir, args.rows, args.seed);
    let config = GenerateConfig {
        click_rate: args.click_rate,
        conversion_rate: args.conversion_rate,
        anomalies: args.anomalies,
        gzip: args.gzip,
        threads: args.threads.map_or(defaults.threads, usize::from),
        ..defaults
    };
    let report = generate(&config).map_err(explained)?;
    let out = shown(&args.out_dir);
    for (split, rows, groups) in
        [("train", report.train_rows, report.train_groups), ("test", report.test_rows, report.test_groups)]
    {
        outln!("{split}: {} impressions, {} common rows", table::grouped(rows), table::grouped(groups))?;
    }
    outln!("Next: esmm aliccp prepare {out} {out}-prepared")?;
    Ok(())
}

/// Settings exit with 2, as everywhere.
fn explained(error: AliCcpError) -> anyhow::Error {
    match error {
        AliCcpError::Setting(message) => TrainError::config(message).into(),
        error => error.into(),
    }
}

/// The first signal ends the preparation and removes what it wrote, the second ends the program at once. Returns where the
/// first one is noted.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> Arc<Mutex<Signal>> {
    let ends_for = Arc::new(Mutex::new(Signal::Interrupt));
    let stop = stop.clone();
    let noted = ends_for.clone();
    signals::ask(move |signal| {
        *noted.lock().unwrap_or_else(PoisonError::into_inner) = signal;
        stop.store(true, Ordering::SeqCst);
        Answer::Ending
    });
    ends_for
}

/// `train, reading common features: 12,000 rows, 45,000 a second; 37% of everything, 2:05 left`
fn line(progress: &PrepareProgress) -> String {
    let PrepareProgress { split, step, rows, rows_per_second, done, seconds_left } = progress;
    let rows = table::grouped(*rows);
    let rate = table::grouped(*rows_per_second as u64);
    let share = 100.0 * done;
    let left = wording::duration(*seconds_left);
    format!("{split}, {step}: {rows} rows, {rate} a second; {share:.0}% of everything, {left} left")
}

/// A size such as `4GiB`, `500MB` or `1073741824`.
fn bytes(text: &str) -> Result<u64, String> {
    memory_amount(text)
        .ok_or_else(|| format!("`{text}` is no size, allowed are bytes and sizes such as 4GiB, 500MiB, 2GB"))
}
