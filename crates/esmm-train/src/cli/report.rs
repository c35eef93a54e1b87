//! `esmm report`

use std::path::PathBuf;

use esmm_report::{RunReport, page};
use esmm_run::RunError;
use esmm_train::files::Protected;
use esmm_train::run_dir::write_atomic;

use super::stdout::outln;
use super::{logging, shown};

#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// What `esmm train` left; with several of them they are compared, the first is what the others are held against.
    #[arg(required = true, value_name = "RUN_DIR")]
    run_dirs: Vec<PathBuf>,
    /// The page to write. One that is there already is replaced.
    #[arg(short, long, value_name = "OUT.html", default_value = "report.html")]
    output: PathBuf,
}

pub(super) fn run(args: &ReportArgs) -> anyhow::Result<()> {
    logging::init();
    let read = |protected: Protected, run: &PathBuf| protected.folder(run, "a file of a run directory");
    let protected = args.run_dirs.iter().fold(Protected::new(), read);
    protected.check("-o", &args.output, &["html", "htm"])?;
    let runs: Result<Vec<RunReport>, RunError> =
        args.run_dirs.iter().map(|path| RunReport::read(path)).collect();
    let mut runs = runs?;
    tell_apart(&mut runs, &args.run_dirs);
    for run in &runs {
        run.notes.iter().for_each(|note| log::warn!("{}: {note}", run.name));
    }
    let text = page(&runs);
    write_atomic(&args.output, text.as_bytes())?;
    let count = runs.len();
    let size = text.len().div_ceil(1024);
    let what = if count == 1 { "1 run".to_owned() } else { format!("{count} runs") };
    outln!("{}: {what}, {size} KiB; open it in a browser", shown(&args.output))?;
    Ok(())
}

/// Gives runs whose directories have the same name their whole paths for names.
fn tell_apart(runs: &mut [RunReport], paths: &[PathBuf]) {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for ((run, path), name) in runs.iter_mut().zip(paths).zip(&names) {
        if names.iter().filter(|other| *other == name).count() > 1 {
            run.name = shown(path);
        }
    }
}
