//! `esmm evaluate`

use std::path::PathBuf;

use anyhow::Context;
use esmm_core::{TrainBackend, one_line};
use esmm_train::analysis::Drift;
use esmm_train::counting::RowCounting;
use esmm_train::data::ValueCounts;
use esmm_train::evaluation::Evaluation;
use esmm_train::guard;
use esmm_train::metric::SplitMetrics;
use esmm_train::run_dir::RunDir;
use esmm_train::scorer::Scorer;
use esmm_train::{OnDevice, TrainError};
use serde::Serialize;

use super::counting::CountingArgs;
use super::stdout::outln;
use super::values::ByFeature;
use super::{DeviceArg, ThreadsArg, TrustArg, logging, scored, table, warn_of_files};

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
    #[command(flatten)]
    counting: CountingArgs,
    /// A value that a feature does not take, such as a negative one under log1p, is an error, whatever its `outside` says.
    #[arg(long)]
    strict: bool,
    /// Metrics as JSON, in the form of metrics.json, with how the rows counted under `counting`, what was counted of the
    /// features' values under `features` and how the rows differ from the training rows under `drift`.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &EvaluateArgs) -> anyhow::Result<()> {
    logging::init();
    args.threads.set()?;
    let run = RunDir::open(&args.run_dir)?;
    let device = args.device.open()?;
    warn_of_files(&run, &args.data, "metrics of new rows are lower")?;
    let Measured { evaluation, counts, counting, lines } =
        scored(&device, &run.read_model()?, Measure { run: &run, args })?;
    if let Some(warning) = guard::check_collapse(evaluation.cvr_spread) {
        log::warn!("{warning}");
    }
    for warning in counts.warnings() {
        log::warn!("{warning}");
    }
    if args.json {
        let measured = Printed {
            metrics: &evaluation.metrics,
            counting: &counting,
            features: ByFeature(&counts),
            drift: evaluation.drift.as_ref(),
        };
        outln!("{}", serde_json::to_string_pretty(&measured).context("metrics as JSON")?)?;
    } else {
        outln!("{}", table::metrics(&args.data.join(", "), &evaluation.metrics))?;
        lines.iter().try_for_each(|line| outln!("{}", one_line(line)))?;
        if let Some(drift) = &evaluation.drift {
            let rows = table::grouped(drift.rows_before);
            outln!("Against the {rows} training rows:")?;
            drift.described().iter().try_for_each(|line| outln!("  {}", one_line(line)))?;
        }
    }
    Ok(())
}

/// The metrics, how the rows counted, what was counted of the features' values, and how the rows differ from the training rows.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    metrics: &'a SplitMetrics,
    counting: &'a RowCounting,
    features: ByFeature<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<&'a Drift>,
}

struct Measure<'a> {
    run: &'a RunDir,
    args: &'a EvaluateArgs,
}

struct Measured {
    evaluation: Evaluation,
    counts: ValueCounts,
    counting: RowCounting,
    /// The same in words.
    lines: Vec<String>,
}

impl OnDevice for Measure<'_> {
    type Output = Measured;

    fn run<B>(self, device: B::Device) -> Result<Measured, TrainError>
    where
        B: TrainBackend,
    {
        let prefix = self.args.strip_prefix.as_deref();
        let mut scorer =
            Scorer::<B::InnerBackend>::open_stripped(self.run, prefix, &device, self.args.trust.trust())?;
        scorer.measure_as(&self.args.counting.said())?;
        let lines = scorer.counting_described();
        if self.args.json {
            lines.iter().for_each(|line| log::info!("{line}"));
        }
        if self.args.strict {
            scorer = scorer.strict();
        }
        let evaluation = scorer.evaluate(&scorer.source(&self.args.data))?;
        let counting = scorer.counting().clone();
        Ok(Measured { evaluation, counts: scorer.value_counts(), counting, lines })
    }
}
