//! `esmm predict`

use std::path::{Path, PathBuf};

use esmm_core::TrainBackend;
use esmm_train::data::SourceSpec;
use esmm_train::experiment::plan;
use esmm_train::files::Protected;
use esmm_train::manifest::Trust;
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
    /// Files or globs, CSV or Parquet; labels are not needed.
    #[arg(required = true)]
    data: Vec<String>,
    /// Where the scores go: .csv or .parquet. One row out for each row in, in the same order.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Columns of the input to pass through, before the scores.
    #[arg(long, value_name = "COL,...", value_delimiter = ',')]
    keep: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    trust: TrustArg,
    #[command(flatten)]
    threads: ThreadsArg,
}

pub(super) fn run(args: &PredictArgs) -> anyhow::Result<()> {
    logging::init();
    args.threads.set()?;
    let run = RunDir::open(&args.run_dir)?;
    args.check_output(&run)?;
    let device = args.device.open()?;
    device.check_model(&run.read_model()?)?;
    let predict = Predict {
        run: &run,
        data: &args.data,
        keep: &args.keep,
        output: &args.output,
        trust: args.trust.trust(),
    };
    let rows = device.run(predict)?;
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
    data: &'a [String],
    keep: &'a [String],
    output: &'a Path,
    trust: Trust,
}

impl OnDevice for Predict<'_> {
    type Output = u64;

    fn run<B>(self, device: B::Device) -> Result<u64, TrainError>
    where
        B: TrainBackend,
    {
        let mut scorer = Scorer::<B::InnerBackend>::open_trusting(self.run, &device, self.trust)?;
        let mut columns = scorer.required_columns();
        columns.extend(self.keep.iter().filter(|name| !scorer.required_columns().contains(name)).cloned());
        let source = scorer.source(self.data);
        let chunks = source.open(&columns)?;
        let segments = scorer.segments(&source, &columns)?;
        let mut writer = PredictionWriter::create(self.output)?;
        if let Some(segments) = segments {
            for segment in segments {
                for piece in segment?.pieces(EVALUATION_BATCH) {
                    let (kept, scores) = (piece.columns(self.keep)?, scorer.score_segment(&piece)?);
                    writer.write(&with_columns(&kept, self.keep, &scores)?)?;
                }
            }
            return Ok(writer.finish()?);
        }
        for chunk in chunks {
            let chunk = chunk?;
            let scores = scorer.score(&chunk)?;
            writer.write(&with_columns(&chunk, self.keep, &scores)?)?;
        }
        Ok(writer.finish()?)
    }
}
