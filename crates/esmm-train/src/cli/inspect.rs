//! `esmm inspect`

use std::path::PathBuf;

use esmm_core::{EsmmConfig, ModelSummary};
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::experiment::Experiment;
use esmm_train::run_dir::{RunDir, read_json};

use super::logging;

#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// What `esmm train` left, or a run file (its data is then read to size the tables).
    target: PathBuf,
}

pub(super) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    logging::init();
    let model: EsmmConfig = if args.target.is_dir() {
        read_json(&RunDir::open(&args.target)?.schema())?
    } else {
        let config = TrainConfig::resolve(&RunFile::read(&args.target, &[])?)?;
        Experiment::load(config)?.model
    };
    println!("{}", ModelSummary::new(&model));
    Ok(())
}
