//! `esmm export`

use std::path::PathBuf;

use esmm_onnx::{MOST_INSIDE, OPSET, export};

use super::{logging, shown};

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// What `esmm train` left.
    run_dir: PathBuf,
    /// The ONNX model to write; preprocessing.json, vocabularies.parquet and golden.json go beside it.
    #[arg(short, long, value_name = "MODEL.onnx")]
    output: PathBuf,
}

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    logging::init();
    let exported = export(&args.run_dir, &args.output, MOST_INSIDE)?;
    println!("{}: opset {OPSET}", shown(&exported.model));
    let beside = [&exported.preprocessing, &exported.vocabularies, &exported.golden];
    for path in exported.weights.iter().chain(beside) {
        println!("{}", shown(path));
    }
    Ok(())
}
