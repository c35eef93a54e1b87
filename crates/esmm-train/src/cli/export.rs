//! `esmm export`

use std::path::PathBuf;

use esmm_onnx::{ExportOptions, OPSET, OnnxError, export};

use super::stdout::outln;
use super::{TrustArg, logging, shown};

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// What `esmm train` left.
    run_dir: PathBuf,
    /// The ONNX model to write; preprocessing.json, vocabularies.parquet and golden.json go beside it.
    #[arg(short, long, value_name = "MODEL.onnx")]
    output: PathBuf,
    /// Replaces the export of another model, or of another version of this one.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    trust: TrustArg,
}

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    logging::init();
    let options =
        ExportOptions { trust: args.trust.trust(), overwrite: args.overwrite, ..ExportOptions::default() };
    let exported = export(&args.run_dir, &args.output, &options).map_err(|error| match error {
        // Decides about the exit code.
        OnnxError::Run(error) => anyhow::Error::from(error),
        other => anyhow::Error::from(other),
    })?;
    outln!("{}: opset {OPSET}", shown(&exported.model))?;
    let beside = [&exported.preprocessing, &exported.vocabularies, &exported.golden];
    for path in exported.weights.iter().chain(beside) {
        outln!("{}", shown(path))?;
    }
    Ok(())
}
