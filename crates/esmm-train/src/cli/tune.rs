//! `esmm tune`

use std::path::{Path, PathBuf};

use burn::train::Interrupter;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use esmm_report::tuning_page;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::experiment::plan;
use esmm_train::files::{FolderLock, Protected, make_folders};
use esmm_train::run_dir::write_atomic;
use esmm_train::tune::{RESULT_FILES, TRIALS_FILE, TuningConfig, TuningEnd};
use esmm_train::tuning::{TuningReport, WindowComparison};
use esmm_train::{TrainError, status_line};

use super::numbers::{MAX, positive, whole};
use super::stdout::outln;
use super::{DeviceArg, Done, ThreadsArg, logging, shown, signals, table};

/// Settings that are tried unless said.
const TRIALS: u64 = 24;
/// What ends a tuning that has minutes for a budget, should they be many.
const TRIALS_OF_MINUTES: u64 = 200;

#[derive(Debug, clap::Args)]
pub(super) struct TuneArgs {
    /// The run file (TOML) whose settings are tuned. It is not changed.
    run_file: PathBuf,
    /// Where to leave what is found; `runs/tune-` and the name of the run file unless said.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Settings to try, beside the run file as it is; 24 unless said.
    #[arg(long, value_name = "N", value_parser = whole::<u64, 1, MAX>, allow_negative_numbers = true)]
    trials: Option<u64>,
    /// Minutes that it may take, about.
    #[arg(long, value_name = "MINUTES", value_parser = positive, allow_negative_numbers = true)]
    minutes: Option<f64>,
    /// Windows of the training rows that settings are chosen on.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3,
        value_parser = whole::<u32, 1, 20>,
        allow_negative_numbers = true
    )]
    windows: u32,
    /// The column with the time of each row, where the run file names files for train and test: windows then follow each other,
    /// as test rows follow the training rows. Without it they are folds.
    #[arg(long, value_name = "COLUMN")]
    time: Option<String>,
    /// Seeds with which the best setting and the run file as it is are compared at the end.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3,
        value_parser = whole::<u64, 1, 100>,
        allow_negative_numbers = true
    )]
    seeds: u64,
    /// Goes on with the tuning in --out.
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replaces what an earlier tuning left in --out.
    #[arg(long)]
    overwrite: bool,
    /// No word on stderr but warnings and errors.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    threads: ThreadsArg,
}

pub(super) fn run(args: &TuneArgs) -> anyhow::Result<Done> {
    logging::init();
    args.threads.set()?;
    let name = args.run_file.display().to_string();
    let text = RunFile::read_text(&args.run_file)?;
    let config = TrainConfig::resolve(&RunFile::parse(&text, &name, &[])?)?;
    let device = args.device.open()?;
    let folder = args.folder();
    args.check_folder(&folder, &config)?;
    let tuning = TuningConfig {
        text: text.clone(),
        name,
        windows: args.windows,
        time: args.time.clone(),
        trials: args.trials.unwrap_or(if args.minutes.is_some() { TRIALS_OF_MINUTES } else { TRIALS }),
        minutes: args.minutes,
        seeds: args.seeds,
        folder: folder.clone(),
        resume: args.resume,
    };
    tuning.check(&device)?;
    let failed = |error: &dyn std::fmt::Display| TrainError::file(&folder, error.to_string());
    // Where nothing comes to be in it, the folder goes again.
    let _made = make_folders(&folder).map_err(|error| failed(&error))?;
    let _lock = FolderLock::take(&folder, "esmm tune").map_err(|error| failed(&error))?;
    let interrupter = Interrupter::new();
    let ends_for = stop_on_signals(&interrupter);
    // Many trainings would say the same many times.
    log::set_max_level(log::LevelFilter::Error);
    let say = |line: &str| {
        if !args.quiet {
            status_line::say(line);
        }
    };
    let end = tuning.run(&device, &interrupter, &say);
    log::set_max_level(log::LevelFilter::Info);
    match end? {
        TuningEnd::Interrupted => {
            let (file, folder) = (shown(&args.run_file), shown(&folder));
            log::warn!("interrupted; what was trained is kept");
            log::info!("go on with: esmm tune {file} --out {folder} --resume");
            Ok(Done::Interrupted(ends_for()))
        }
        TuningEnd::Finished(report) => {
            args.leave(&report, &text, &folder)?;
            Ok(Done::Whole)
        }
    }
}

impl TuneArgs {
    fn folder(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            let stem = self.run_file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            PathBuf::from(format!("runs/tune-{}", stem.unwrap_or_default()))
        })
    }

    /// What an earlier tuning left is neither lost nor mixed up; what is read is not written over.
    fn check_folder(&self, folder: &Path, config: &TrainConfig) -> Result<(), TrainError> {
        let files = || [TRIALS_FILE].into_iter().chain(RESULT_FILES);
        let is_there = files().any(|file| folder.join(file).exists());
        if is_there && !self.resume && !self.overwrite {
            let reason = "holds a tuning: choose another --out, or say --resume or --overwrite";
            return Err(TrainError::config(format!("{}: {reason}", shown(folder))));
        }
        let inputs = plan::files(config).unwrap_or_default();
        let protected =
            Protected::new().files(inputs, "an input").files(vec![self.run_file.clone()], "the run file");
        for file in files().filter(|file| folder.join(file).exists()) {
            let extension = file.rsplit('.').next().unwrap_or_default();
            protected.check("--out", &folder.join(file), &[extension])?;
        }
        Ok(())
    }

    fn leave(&self, report: &TuningReport, text: &str, folder: &Path) -> anyhow::Result<()> {
        let name = self.run_file.display().to_string();
        let verdict = report.verdict();
        report.write(&folder.join("tuning.json"))?;
        write_atomic(&folder.join("report.html"), tuning_page(report).as_bytes())?;
        let found = folder.join("found.toml");
        let head = format!(
            "# Found by `esmm tune {}` in {} trainings: {}.\n# {verdict}\n\n",
            name.escape_debug(),
            report.trainings,
            report.found
        );
        let written = report.found.write_into(text, &name)?;
        write_atomic(&found, format!("{head}{written}").as_bytes())?;
        if !report.compared.is_empty() {
            outln!("{}\n{}", report.select, compared(report))?;
        }
        outln!("{verdict}")?;
        if report.out_of_time {
            outln!(
                "The time was over before all settings were tried; --resume with more --minutes goes on."
            )?;
        }
        let (found, page) = (shown(&found), shown(&folder.join("report.html")));
        outln!("{found}: {}", report.found)?;
        outln!("{page}: a page to look at, with all {} settings", report.tried.len())?;
        outln!("Next: {}", report.next(&found))?;
        Ok(())
    }
}

/// The windows as a table.
fn compared(report: &TuningReport) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table::fit(&mut table);
    table.set_header(["window", "rows", "run file\n(95%)", "found\n(95%)", "gain\n(95%)"]);
    for window in &report.compared {
        let WindowComparison { own, own_interval, found, found_interval, gain, gain_interval, .. } = window;
        let name = window.window.map_or_else(|| "last".to_owned(), |window| (window + 1).to_string());
        let pair = |interval: &Option<[f64; 2]>| {
            interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:.4}-{high:.4}"))
        };
        let gains =
            gain_interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:+.4} {high:+.4}"));
        table.add_row([
            name,
            table::grouped(window.rows),
            format!("{own:.4}\n{}", pair(own_interval)),
            format!("{found:.4}\n{}", pair(found_interval)),
            format!("{gain:+.4}\n{gains}"),
        ]);
    }
    for index in 1..table.column_count() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// The first signal ends the trainings that run; what was trained before is kept. Returns which signal it was.
fn stop_on_signals(interrupter: &Interrupter) -> impl Fn() -> signals::Signal {
    let interrupter = interrupter.clone();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(signals::Signal::Interrupt));
    let told = heard.clone();
    signals::ask(move |signal| {
        let name = signal.name();
        status_line::say(&format!("{name}: ending the trainings that run (again to quit at once)"));
        *heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = signal;
        interrupter.stop(Some(name));
        signals::Answer::Ending
    });
    move || *told.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
