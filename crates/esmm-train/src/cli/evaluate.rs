//! `esmm evaluate`

use std::path::PathBuf;

use anyhow::Context;
use esmm_core::TrainBackend;
use esmm_train::evaluation::Evaluation;
use esmm_train::guard;
use esmm_train::manifest::Trust;
use esmm_train::run_dir::RunDir;
use esmm_train::scorer::Scorer;
use esmm_train::{OnDevice, TrainError};

use super::{DeviceArg, ThreadsArg, TrustArg, logging, table};

#[derive(Debug, clap::Args)]
pub(super) struct EvaluateArgs {
    /// What `esmm train` left.
    run_dir: PathBuf,
    /// Labelled files or globs, CSV or Parquet.
    #[arg(required = true)]
    data: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    trust: TrustArg,
    #[command(flatten)]
    threads: ThreadsArg,
    /// Metrics as JSON, in the form of metrics.json.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &EvaluateArgs) -> anyhow::Result<()> {
    logging::init();
    args.threads.set()?;
    let run = RunDir::open(&args.run_dir)?;
    let device = args.device.open()?;
    device.check_model(&run.read_model()?)?;
    let evaluation = device.run(Measure { run: &run, data: &args.data, trust: args.trust.trust() })?;
    if let Some(warning) = guard::check_collapse(evaluation.cvr_spread) {
        log::warn!("{warning}");
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&evaluation.metrics).context("metrics as JSON")?);
    } else {
        println!("{}", table::metrics(&args.data.join(", "), &evaluation.metrics));
    }
    Ok(())
}

struct Measure<'a> {
    run: &'a RunDir,
    data: &'a [String],
    trust: Trust,
}

impl OnDevice for Measure<'_> {
    type Output = Evaluation;

    fn run<B>(self, device: B::Device) -> Result<Evaluation, TrainError>
    where
        B: TrainBackend,
    {
        let scorer = Scorer::<B::InnerBackend>::open_trusting(self.run, &device, self.trust)?;
        Ok(scorer.evaluate(&scorer.source(self.data))?)
    }
}
