//! `esmm calibrate`

use std::path::{Path, PathBuf};

use anyhow::Context;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use esmm_core::TrainBackend;
use esmm_train::correction::{CalibrationRecord, Interval};
use esmm_train::run_dir::{Existing, RunClaim, RunDir};
use esmm_train::scorer::Scorer;
use esmm_train::{OnDevice, TrainError};

use super::counting::CountingArgs;
use super::stdout::outln;
use super::{DeviceArg, ThreadsArg, TrustArg, logging, scored, shown, table, warn_of_files};

/// Conversions below which a correction is more chance than anything else.
const FEW: u64 = 100;

#[derive(Debug, clap::Args)]
pub(super) struct CalibrateArgs {
    /// What `esmm train` left.
    run_dir: PathBuf,
    /// Labelled files, globs or folders, CSV or Parquet, or `-` for standard input: rows that are like those that will be
    /// scored, and that the model was not trained on.
    #[arg(required_unless_present = "undo", conflicts_with = "undo")]
    data: Vec<String>,
    /// Takes the correction away again.
    #[arg(long, conflicts_with_all = CountingArgs::FLAGS)]
    undo: bool,
    #[command(flatten)]
    counting: CountingArgs,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    trust: TrustArg,
    #[command(flatten)]
    threads: ThreadsArg,
    /// What was fitted as JSON, in the form of calibration.json.
    #[arg(long, conflicts_with = "undo")]
    json: bool,
}

pub(super) fn run(args: &CalibrateArgs) -> anyhow::Result<()> {
    logging::init();
    args.threads.set()?;
    RunDir::open(&args.run_dir)?;
    // Nobody else may write in the directory meanwhile.
    let claim = RunDir::claim_for(&args.run_dir, Existing::Resume, "esmm calibrate")?;
    if args.undo {
        return undo(&args.run_dir, &claim);
    }
    let device = args.device.open()?;
    let so = "a correction for them is none for new ones; calibrate on rows that it was not trained on";
    warn_of_files(claim.run(), &args.data, so)?;
    let had = claim.run().calibration().exists();
    let record = scored(&device, &claim.run().read_model()?, Calibrate { run: claim.run(), args })?;
    record.write(claim.run())?;
    if had {
        log::info!("the correction that was there before is replaced");
    }
    let conversions = record.tasks.last().map_or(0, |task| task.events);
    if conversions < FEW {
        log::warn!("{conversions} conversions are few to calibrate on: look at the intervals");
    }
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&record).context("calibration as JSON")?)?;
        return Ok(());
    }
    outln!("{}", described(&record))?;
    let path = shown(&args.run_dir);
    outln!("From now on every score of {path} is corrected. To take that back:")?;
    outln!("  esmm calibrate {path} --undo")?;
    Ok(())
}

fn undo(path: &Path, claim: &RunClaim) -> anyhow::Result<()> {
    if !CalibrationRecord::remove(claim.run())? {
        let message = format!("{}: is not calibrated, there is nothing to undo", shown(path));
        return Err(TrainError::config(message).into());
    }
    outln!("{}: scores are those of the model as it was trained again", shown(path))?;
    Ok(())
}

struct Calibrate<'a> {
    run: &'a RunDir,
    args: &'a CalibrateArgs,
}

impl OnDevice for Calibrate<'_> {
    type Output = CalibrationRecord;

    fn run<B>(self, device: B::Device) -> Result<CalibrationRecord, TrainError>
    where
        B: TrainBackend,
    {
        let mut scorer =
            Scorer::<B::InnerBackend>::open_uncorrected(self.run, &device, self.args.trust.trust())?;
        scorer.measure_as(&self.args.counting.said())?;
        scorer.counting_described().iter().for_each(|line| log::info!("{line}"));
        Ok(scorer.calibrate(self.run, &scorer.source(&self.args.data))?)
    }
}

/// Before and after, task by task, and what was fitted.
fn described(record: &CalibrationRecord) -> String {
    let mut changes = Table::new();
    changes.load_style(UTF8_HORIZONTAL_ONLY);
    table::fit(&mut changes);
    changes.set_header(vec!["task", "calibration", "corrected", "log loss", "corrected", "gain (95%)", ""]);
    for task in &record.tasks {
        let gain = format!("{:+.5}\n{:+.5} to\n{:+.5}", task.gain.value, task.gain.low, task.gain.high);
        changes.add_row(vec![
            table::label(&task.task),
            interval(task.before),
            interval(task.after),
            format!("{:.4}", task.log_loss_before),
            format!("{:.4}", task.log_loss_after),
            gain,
            task.verdict().to_owned(),
        ]);
    }
    for index in 1..6 {
        if let Some(column) = changes.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let rows = table::grouped(record.rows);
    let mut text = format!("{}: {rows} impressions\n{changes}\n", record.data.join(", "));
    text.push_str(
        "Calibration is the sum of predictions over the number of events, with its 95% interval. Corrected values\n\
         are measured on every second row with what was fitted on the others; what is kept is fitted on all rows.\n",
    );
    for stage in &record.stages {
        text.push_str(&format!(
            "{}: logit = {:.4} (+-{:.4}) x logit {:+.4} (+-{:.4})\n",
            stage.stage,
            stage.platt.slope,
            1.96 * stage.slope_error,
            stage.platt.intercept,
            1.96 * stage.intercept_error
        ));
    }
    text
}

/// The value over its interval: on one line a table of 80 columns would cut digits apart.
fn interval(interval: Interval) -> String {
    format!("{:.3}\n{:.3}-{:.3}", interval.value, interval.low, interval.high)
}
