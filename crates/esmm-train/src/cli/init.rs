//! `esmm init`

use std::path::PathBuf;

use esmm_core::one_line;
use esmm_profile::{Draft, ProfileRequest};
use esmm_train::TrainError;
use esmm_train::data::SourceSpec;
use esmm_train::files::Protected;
use esmm_train::run_dir::write_atomic;

use super::stdout::{out, outln};
use super::{logging, shown};

/// Unsure points that are said; the run file has all of them.
const SAID: usize = 12;

#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// Files or globs of impressions, CSV or Parquet. A bounded number of their rows is looked at.
    #[arg(required = true)]
    data: Vec<String>,
    /// Where to write the run file; `-` is stdout.
    #[arg(short, long, value_name = "RUN.toml", default_value = "run.toml")]
    output: PathBuf,
    /// The column of the click, where its name does not tell.
    #[arg(long, value_name = "COLUMN")]
    click: Option<String>,
    /// The column of the conversion, where its name does not tell.
    #[arg(long, value_name = "COLUMN")]
    conversion: Option<String>,
    /// Replaces the run file that is there.
    #[arg(long)]
    overwrite: bool,
}

pub(super) fn run(args: &InitArgs) -> anyhow::Result<()> {
    logging::init();
    let to_stdout = args.output.as_os_str() == "-";
    if !to_stdout && !args.overwrite && args.output.exists() {
        let reason = "is there already: --overwrite replaces it, -o names another one";
        return Err(TrainError::config(format!("{}: {reason}", args.output.display())).into());
    }
    if !to_stdout {
        // Inputs that are not there are an error of the reader's, with its words.
        let inputs = SourceSpec::new(args.data.clone()).files().unwrap_or_default();
        Protected::new().files(inputs, "an input").check("-o", &args.output, &["toml"])?;
    }
    let request = ProfileRequest {
        paths: args.data.clone(),
        click: args.click.clone(),
        conversion: args.conversion.clone(),
    };
    let draft = request.draft()?;
    say(&draft);
    if to_stdout {
        out!("{}", draft.run_file)?;
        return Ok(());
    }
    write_atomic(&args.output, draft.run_file.as_bytes())?;
    let path = shown(&args.output);
    outln!("{path} is written: read its comments, edit it.")?;
    outln!("Next: esmm train {path}")?;
    Ok(())
}

fn say(draft: &Draft) {
    draft.found.iter().for_each(|line| log::info!("{}", one_line(line)));
    if draft.unsure.is_empty() {
        return;
    }
    log::info!("unsure:");
    draft.unsure.iter().take(SAID).for_each(|line| log::info!("  {}", one_line(line)));
    if draft.unsure.len() > SAID {
        log::info!("  and {} points more, in the run file's comments", draft.unsure.len() - SAID);
    }
}
