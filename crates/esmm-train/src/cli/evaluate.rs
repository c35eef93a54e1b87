//! `esmm evaluate`

use std::path::PathBuf;

use anyhow::Context;
use esmm_core::TrainBackend;
use esmm_train::evaluation::Evaluation;
use esmm_train::guard;
use esmm_train::run_dir::RunDir;
use esmm_train::scorer::Scorer;
use esmm_train::{OnDevice, TrainError};

use super::stdout::outln;
use super::{DeviceArg, ThreadsArg, TrustArg, logging, table};

#[derive(Debug, clap::Args)]
pub(super) struct EvaluateArgs {
    /// What `esmm train` left.
    run_dir: PathBuf,
    /// Labelled files, globs or folders, CSV or Parquet, or `-` for standard input.
    #[arg(required = true)]
    data: Vec<String>,
    /// Takes this off the names of the weights, as `module.` of a model that PyTorch trained in parallel.
    #[arg(long, value_name = "PREFIX")]
    strip_prefix: Option<String>,
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
    let evaluation = device.run(Measure { run: &run, args })?;
    if let Some(warning) = guard::check_collapse(evaluation.cvr_spread) {
        log::warn!("{warning}");
    }
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&evaluation.metrics).context("metrics as JSON")?)?;
    } else {
        outln!("{}", table::metrics(&args.data.join(", "), &evaluation.metrics))?;
    }
    Ok(())
}

struct Measure<'a> {
    run: &'a RunDir,
    args: &'a EvaluateArgs,
}

impl OnDevice for Measure<'_> {
    type Output = Evaluation;

    fn run<B>(self, device: B::Device) -> Result<Evaluation, TrainError>
    where
        B: TrainBackend,
    {
        let prefix = self.args.strip_prefix.as_deref();
        let scorer =
            Scorer::<B::InnerBackend>::open_stripped(self.run, prefix, &device, self.args.trust.trust())?;
        Ok(scorer.evaluate(&scorer.source(&self.args.data))?)
    }
}
