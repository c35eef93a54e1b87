//! `esmm predict`

use std::path::{Path, PathBuf};

use esmm_core::TrainBackend;
use esmm_train::predictions::{PredictionWriter, with_columns};
use esmm_train::run_dir::RunDir;
use esmm_train::scorer::Scorer;
use esmm_train::trainer::EVALUATION_BATCH;
use esmm_train::{OnDevice, TrainError};

use super::{DeviceArg, logging, table};

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
}

pub(super) fn run(args: &PredictArgs) -> anyhow::Result<()> {
    logging::init();
    let run = RunDir::open(&args.run_dir)?;
    let device = args.device.open()?;
    device.check_model(&run.read_model()?)?;
    let rows = device.run(Predict { run: &run, data: &args.data, keep: &args.keep, output: &args.output })?;
    log::info!("{}: {} rows", args.output.display(), table::grouped(rows));
    Ok(())
}

struct Predict<'a> {
    run: &'a RunDir,
    data: &'a [String],
    keep: &'a [String],
    output: &'a Path,
}

impl OnDevice for Predict<'_> {
    type Output = u64;

    fn run<B>(self, device: B::Device) -> Result<u64, TrainError>
    where
        B: TrainBackend,
    {
        let mut scorer = Scorer::<B::InnerBackend>::open(self.run, &device)?;
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
