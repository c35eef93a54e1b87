//! `esmm predict`

use std::path::{Path, PathBuf};

use anyhow::Context;
use esmm_core::TrainBackend;
use esmm_train::data::{ColumnNames, SourceSpec, ValueCounts};
use esmm_train::experiment::plan;
use esmm_train::files::Protected;
use esmm_train::predictions::{OutputFormat, PredictionWriter};
use esmm_train::run_dir::RunDir;
use esmm_train::scorer::Scorer;
use esmm_train::{OnDevice, TrainError, still_works};
use serde::Serialize;

use super::stdout::outln;
use super::values::ByFeature;
use super::{DeviceArg, ThreadsArg, TrustArg, logging, scored, table};

#[derive(Debug, clap::Args)]
pub(super) struct PredictArgs {
    /// What `esmm train` left.
    run_dir: PathBuf,
    /// Files, globs or folders, CSV or Parquet, or `-` for standard input; labels are not needed.
    #[arg(required = true)]
    data: Vec<String>,
    /// Where the scores go: .csv (also .csv.gz and .csv.zst), .parquet, or `-` for CSV on standard output. One row out for
    /// each row in, in the same order.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Columns of the input to pass through, before the scores. A name that holds a comma stands in quotes, as in CSV.
    #[arg(long, value_name = "COL,...")]
    keep: Vec<ColumnNames>,
    /// Takes this off the names of the weights, as `module.` of a model that PyTorch trained in parallel.
    #[arg(long, value_name = "PREFIX")]
    strip_prefix: Option<String>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    trust: TrustArg,
    #[command(flatten)]
    threads: ThreadsArg,
    /// A value that a feature does not take, such as a negative one under log1p, is an error, whatever its `outside` says.
    #[arg(long)]
    strict: bool,
    /// The number of rows and, for each feature, how many values are missing, unknown, untrained and outside, as JSON on
    /// standard output.
    #[arg(long)]
    json: bool,
    /// No word on stderr but warnings and errors.
    #[arg(long)]
    quiet: bool,
}

pub(super) fn run(args: &PredictArgs) -> anyhow::Result<()> {
    logging::init();
    args.threads.set()?;
    if args.quiet {
        logging::only_warnings();
    }
    if args.json && args.output == Path::new("-") {
        let reason = "--json and -o - both write to standard output: give -o a file";
        return Err(TrainError::config(reason).into());
    }
    let run = RunDir::open(&args.run_dir)?;
    args.check_output(&run)?;
    let device = args.device.open()?;
    let (rows, counts) = scored(&device, &run.read_model()?, Predict { run: &run, args })?;
    for warning in counts.warnings() {
        log::warn!("{warning}");
    }
    if args.json {
        let scored = Scored { rows, features: ByFeature(&counts) };
        outln!("{}", serde_json::to_string_pretty(&scored).context("counts as JSON")?)?;
    }
    log::info!("{}: {} rows", args.output.display(), table::grouped(rows));
    Ok(())
}

/// What was scored.
#[derive(Serialize)]
struct Scored<'a> {
    rows: u64,
    features: ByFeature<'a>,
}

impl PredictArgs {
    /// What is read, now or by the next training of this run, is not written over.
    fn check_output(&self, run: &RunDir) -> Result<(), TrainError> {
        if self.output == Path::new("-") {
            return Ok(());
        }
        let config = run.read_config()?;
        let source = SourceSpec { paths: self.data.clone(), ..config.data.train_source().clone() };
        // Inputs that are not there are an error of the reader's, with its words.
        let inputs = source.paths_there();
        let groups = source.groups_beside(&inputs);
        let trained_on = plan::files_there(&config);
        let protected = Protected::new()
            .files(inputs, "an input")
            .files(groups, "an input, the groups of others")
            .folder(run.path(), "a file of the run directory")
            .files(trained_on, "what this run was trained on");
        protected.check("-o", &self.output, &[])?;
        OutputFormat::of(&self.output)?;
        Ok(())
    }
}

struct Predict<'a> {
    run: &'a RunDir,
    args: &'a PredictArgs,
}

impl OnDevice for Predict<'_> {
    type Output = (u64, ValueCounts);

    fn run<B>(self, device: B::Device) -> Result<(u64, ValueCounts), TrainError>
    where
        B: TrainBackend,
    {
        let prefix = self.args.strip_prefix.as_deref();
        let mut scorer =
            Scorer::<B::InnerBackend>::open_stripped(self.run, prefix, &device, self.args.trust.trust())?;
        if self.args.strict {
            scorer = scorer.strict();
        }
        let source = scorer.source(&self.args.data);
        let predictions = scorer.predict(&source, &ColumnNames::joined(&self.args.keep))?;
        let mut writer = PredictionWriter::create(&self.args.output)?;
        for batch in predictions {
            let batch = batch?;
            // Scores of a device that has failed are whatever lay in its memory.
            still_works()?;
            writer.write(&batch)?;
        }
        Ok((writer.finish()?, scorer.value_counts()))
    }
}
