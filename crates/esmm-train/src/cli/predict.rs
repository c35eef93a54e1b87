//! `esmm predict`

use std::path::PathBuf;

use esmm_core::TrainBackend;
use esmm_train::data::SourceSpec;
use esmm_train::experiment::plan;
use esmm_train::files::Protected;
use esmm_train::predictions::{PredictionWriter, with_columns};
use esmm_train::run_dir::RunDir;
use esmm_train::scorer::Scorer;
use esmm_train::trainer::EVALUATION_BATCH;
use esmm_train::{OnDevice, TrainError};

use super::{DeviceArg, ThreadsArg, TrustArg, logging, table};

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
    /// Columns of the input to pass through, before the scores.
    #[arg(long, value_name = "COL,...", value_delimiter = ',')]
    keep: Vec<String>,
    /// Takes this off the names of the weights, as `module.` of a model that PyTorch trained in parallel.
    #[arg(long, value_name = "PREFIX")]
    strip_prefix: Option<String>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    trust: TrustArg,
    #[command(flatten)]
    threads: ThreadsArg,
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
    let run = RunDir::open(&args.run_dir)?;
    args.check_output(&run)?;
    let device = args.device.open()?;
    device.check_model(&run.read_model()?)?;
    let rows = device.run(Predict { run: &run, args })?;
    log::info!("{}: {} rows", args.output.display(), table::grouped(rows));
    Ok(())
}

impl PredictArgs {
    /// What is read, now or by the next training of this run, is not written over.
    fn check_output(&self, run: &RunDir) -> Result<(), TrainError> {
        let config = run.read_config()?;
        let source = SourceSpec { paths: self.data.clone(), ..config.data.train_source().clone() };
        // Files of the training may be gone; inputs that are not there are an error of the reader's, with its words.
        let trained_on = plan::files(&config).unwrap_or_default();
        let protected = Protected::new()
            .files(source.files().unwrap_or_default(), "an input")
            .folder(run.path(), "a file of the run directory")
            .files(trained_on, "what this run was trained on");
        Ok(protected.check("-o", &self.output, &["csv", "parquet"])?)
    }
}

struct Predict<'a> {
    run: &'a RunDir,
    args: &'a PredictArgs,
}

impl OnDevice for Predict<'_> {
    type Output = u64;

    fn run<B>(self, device: B::Device) -> Result<u64, TrainError>
    where
        B: TrainBackend,
    {
        let keep = &self.args.keep;
        let prefix = self.args.strip_prefix.as_deref();
        let mut scorer =
            Scorer::<B::InnerBackend>::open_stripped(self.run, prefix, &device, self.args.trust.trust())?;
        let mut columns = scorer.required_columns();
        columns.extend(keep.iter().filter(|name| !scorer.required_columns().contains(name)).cloned());
        let source = scorer.source(&self.args.data);
        let chunks = source.open(&columns)?.or_empty();
        let segments = scorer.segments(&source, &columns)?;
        let mut writer = PredictionWriter::create(&self.args.output)?;
        if let Some(segments) = segments {
            for segment in segments {
                for piece in segment?.pieces(EVALUATION_BATCH) {
                    let (kept, scores) = (piece.columns(keep)?, scorer.score_segment(&piece)?);
                    writer.write(&with_columns(&kept, keep, &scores)?)?;
                }
            }
            return Ok(writer.finish()?);
        }
        for chunk in chunks {
            let chunk = chunk?;
            let scores = scorer.score(&chunk)?;
            writer.write(&with_columns(&chunk, keep, &scores)?)?;
        }
        if writer.rows() == 0 {
            // Files without rows make a file without rows, with the names of its columns.
            writer.write(&with_columns(&source.no_rows(&columns)?, keep, &scorer.no_scores())?)?;
        }
        Ok(writer.finish()?)
    }
}
