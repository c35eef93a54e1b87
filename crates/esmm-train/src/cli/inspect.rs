//! `esmm inspect`

use std::path::PathBuf;

use anyhow::Context;
use esmm_train::inspect::{Inspection, inspect};

use super::stdout::{out, outln};
use super::{logging, table};

#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// What `esmm train` left, or a run file.
    #[arg(value_name = "RUN_DIR|RUN.toml")]
    target: PathBuf,
    /// Reads the data: all of it to size the tables of a run file, some rows to tell the lengths of lists.
    #[arg(long)]
    data: bool,
    /// Everything as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    logging::init();
    let inspection = inspect(&args.target, args.data)?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&inspection).context("the inspection as JSON")?)?;
    } else {
        out!("{inspection}")?;
        out!("{}", headline(&inspection))?;
    }
    Ok(())
}

/// The metrics of the last split that was measured.
fn headline(inspection: &Inspection) -> String {
    let last = inspection.run.as_ref().and_then(|run| run.splits.last());
    last.map_or_else(String::new, |split| {
        format!("\n{}", table::metrics(&format!("{} split", split.name), &split.metrics))
    })
}
