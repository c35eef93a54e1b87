//! The command line: thin. It parses, calls the library, prints results on stdout and everything else on stderr.

mod aliccp;
mod aliccp_report;
mod calibrate;
mod counting;
mod devices;
mod evaluate;
mod export;
mod init;
mod inspect;
mod logging;
mod numbers;
mod predict;
mod report;
mod signals;
mod stdout;
mod synthesize;
mod table;
mod train;
mod training_signals;
mod tune;
mod values;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use esmm_core::{EsmmConfig, one_line};
use esmm_run::RunError;
use esmm_train::config::RunFile;
use esmm_train::data::{SourceSpec, SplitSpec};
use esmm_train::experiment::{guard, plan};
use esmm_train::files::remove_unfinished;
use esmm_train::manifest::Trust;
use esmm_train::run_dir::RunDir;
use esmm_train::{Device, DeviceName, OnDevice, TrainError, before_abort, status_line};

use self::signals::Signal;

/// ESMM, the entire space multi-task model (arXiv 1804.07931): trains, evaluates and scores pCTR, pCVR and pCTCVR.
#[derive(Debug, Parser)]
#[command(name = "esmm", version)]
struct Cli {
    /// Without a command: `train` on the built-in synthetic funnel.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at data and drafts a run file for it, to be edited.
    Init(init::InitArgs),
    /// Trains a model and leaves a run directory.
    Train(train::TrainArgs),
    /// Looks for better settings of a run file, on windows of its training rows; test rows are not read.
    Tune(tune::TuneArgs),
    /// Measures a trained model on labelled data.
    Evaluate(evaluate::EvaluateArgs),
    /// Corrects the probabilities of a trained model by what happened in labelled data (Platt), until it is undone.
    Calibrate(calibrate::CalibrateArgs),
    /// Scores impressions into a CSV or Parquet file: pctr, pcvr, pctcvr; of more than two stages p_click,
    /// p_cart_given_click, p_cart and so on.
    Predict(predict::PredictArgs),
    /// Prints the layers of a run directory's or run file's model.
    Inspect(inspect::InspectArgs),
    /// Writes a page about one run directory, or a comparison of several.
    Report(report::ReportArgs),
    /// Writes a trained model as ONNX, with what is needed to encode rows for it.
    Export(export::ExportArgs),
    /// Lists the devices that this program and this machine offer for --device.
    Devices,
    /// Prints the JSON schema of run files, with which editors complete and check them.
    Schema,
    /// Writes a synthetic funnel with its true rates, and a run file for it.
    Synthesize(synthesize::SynthesizeArgs),
    /// Prepares Ali-CCP, the public dataset of the paper, from its raw files.
    #[command(name = "aliccp")]
    AliCcp(aliccp::AliCcpArgs),
    /// Prints completions for a shell, as in `esmm completions bash > /etc/bash_completion.d/esmm`.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Prints the version, as --version does.
    Version,
}

/// The device flag of the commands that compute.
#[derive(Debug, Default, clap::Args)]
struct DeviceArg {
    /// ndarray, flex, wgpu, wgpu:N, cuda or cuda:N (`esmm devices` lists them), or cpu for ndarray; by default the fastest
    /// kind that is there.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

impl DeviceArg {
    /// The device, found once for the whole command.
    fn open(&self) -> Result<Device, TrainError> {
        match &self.device {
            Some(name) => name.parse::<DeviceName>()?.open(),
            None => Device::preferred(),
        }
    }
}

/// The threads of the commands that compute.
#[derive(Debug, Default, clap::Args)]
struct ThreadsArg {
    /// Threads that compute; by default as many as there are cores. One more may read.
    #[arg(long, value_name = "N", value_parser = numbers::threads, allow_negative_numbers = true)]
    threads: Option<u16>,
}

impl ThreadsArg {
    /// For everything that this process computes; before anything is computed.
    fn set(&self) -> anyhow::Result<()> {
        let Some(threads) = self.threads else { return Ok(()) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads));
        pool.build_global().with_context(|| format!("--threads {threads}: cannot be started"))
    }
}

/// What the commands that score take for what it says it is.
#[derive(Debug, Default, clap::Args)]
struct TrustArg {
    /// Takes model.safetensors as it is, for weights that were replaced on purpose. Otherwise weights that are not those that
    /// the training wrote are an error.
    #[arg(long)]
    accept_weights: bool,
}

impl TrustArg {
    fn trust(&self) -> Trust {
        if self.accept_weights { Trust::Weights } else { Trust::Nothing }
    }
}

/// How a command ended well.
enum Done {
    /// All of it.
    Whole,
    /// By a signal: what is there can be gone on from.
    Interrupted(Signal),
}

/// Runs the command of this process.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help) => return say_usage(&help),
    };
    let command = cli.command.unwrap_or_else(|| Command::Train(train::TrainArgs::example()));
    end_instead_of_abort(|error| error);
    let done = signals::listen().and_then(|()| run_command(command));
    esmm_data::spool::clear();
    match done {
        Ok(Done::Whole) => ExitCode::SUCCESS,
        Ok(Done::Interrupted(signal)) => ExitCode::from(signal.exit_code()),
        Err(error) if is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            status_line::say(&format!("error: {}", one_line(&with_causes(&error))));
            ExitCode::from(if is_usage(&error) { 2 } else { 1 })
        }
    }
}

/// Runs work that scores with a model on a device: memory that it refuses is told with what the model takes.
fn scored<W: OnDevice>(device: &Device, model: &EsmmConfig, work: W) -> Result<W::Output, TrainError> {
    device.check_model(model)?;
    let needs = device.scoring_needs(model);
    let told = needs.clone();
    end_instead_of_abort(move |error| error.with_needs(&told));
    let done = device.run(work).map_err(|error| error.with_needs(&needs));
    end_instead_of_abort(|error| error);
    done
}

/// Warns where data holds rows that a model has learned from, by whatever name or link, `so` says what comes of that; and
/// where a file is read more than once.
fn warn_of_files(run: &RunDir, data: &[String], so: &str) -> Result<(), TrainError> {
    let config = run.read_config()?;
    let source = SourceSpec { paths: data.to_vec(), ..config.data.train_source().clone() };
    for file in plan::learned_from(&config, &source) {
        let some = if matches!(config.data, SplitSpec::Files { .. }) { "its rows" } else { "rows of it" };
        log::warn!(
            "{}: the model has learned from {some}, and knows them better than new ones: {so}",
            shown(&file)
        );
    }
    guard::check_repeated(&source).iter().for_each(|warning| log::warn!("{warning}"));
    Ok(())
}

/// Where the process would be aborted because its device is lost, it ends with the line and the exit code that such an error
/// has otherwise. `with_advice` says more of the error.
fn end_instead_of_abort(with_advice: impl Fn(TrainError) -> TrainError + Send + 'static) {
    before_abort(move |error| {
        status_line::say(&format!("error: {}", one_line(&with_advice(error).to_string())));
        remove_unfinished();
        std::process::exit(1);
    });
}

fn run_command(command: Command) -> anyhow::Result<Done> {
    match command {
        Command::Init(args) => init::run(&args).map(|()| Done::Whole),
        Command::Train(args) => train::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Evaluate(args) => evaluate::run(&args).map(|()| Done::Whole),
        Command::Calibrate(args) => calibrate::run(&args).map(|()| Done::Whole),
        Command::Predict(args) => predict::run(&args).map(|()| Done::Whole),
        Command::Inspect(args) => inspect::run(&args).map(|()| Done::Whole),
        Command::Report(args) => report::run(&args).map(|()| Done::Whole),
        Command::Export(args) => export::run(&args).map(|()| Done::Whole),
        Command::Devices => devices::run().map(|()| Done::Whole),
        Command::Schema => {
            stdout::text(format_args!("{:#}\n", RunFile::json_schema()))?;
            Ok(Done::Whole)
        }
        Command::Synthesize(args) => synthesize::run(&args).map(|()| Done::Whole),
        Command::AliCcp(args) => aliccp::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "esmm", &mut script);
            stdout::text(format_args!("{}", String::from_utf8_lossy(&script)))?;
            Ok(Done::Whole)
        }
        Command::Version => {
            stdout::text(format_args!("{}", Cli::command().render_version()))?;
            Ok(Done::Whole)
        }
    }
}

/// An error with its causes, as far as it does not have their words already.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        let words = cause.split(" (os error").next().unwrap_or(&cause);
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if !text.contains(&words) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whether what was typed is wrong, and not what was found.
fn is_usage(error: &anyhow::Error) -> bool {
    let of_training = error.downcast_ref::<TrainError>().is_some_and(TrainError::is_usage);
    of_training || error.downcast_ref::<RunError>().is_some_and(RunError::is_usage)
}

/// Whether nobody reads the output any more.
fn is_closed(error: &anyhow::Error) -> bool {
    let of_training = matches!(error.downcast_ref(), Some(TrainError::Run(RunError::Closed)));
    of_training || matches!(error.downcast_ref(), Some(RunError::Closed))
}

/// Help, the version, or what is wrong with the arguments.
fn say_usage(help: &clap::Error) -> ExitCode {
    if help.kind() == clap::error::ErrorKind::InvalidUtf8 {
        status_line::say(
            "error: an argument is not UTF-8: files of data must have names that are, or be in a folder that is named; \
             names of columns must be UTF-8 too",
        );
        return ExitCode::from(2);
    }
    let code = u8::try_from(help.exit_code()).unwrap_or(2);
    match help.print() {
        Err(error) if !help.use_stderr() && error.kind() != std::io::ErrorKind::BrokenPipe => {
            status_line::say(&format!("error: standard output: cannot be written: {error}"));
            ExitCode::from(1)
        }
        _ => ExitCode::from(code),
    }
}

/// A path that a run file will name.
///
/// # Errors
/// One that is not UTF-8, which TOML cannot say.
fn in_run_file<'a>(path: &'a std::path::Path, flag: &str) -> Result<&'a str, TrainError> {
    path.to_str().ok_or_else(|| {
        let reason = "its name is not UTF-8, and a run file is to name a file in it";
        TrainError::config(format!("{flag} {}: {reason}", path.display()))
    })
}

/// A path as a person would type it.
fn shown(path: &std::path::Path) -> String {
    let path: PathBuf = path.components().collect();
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    /// Commands without commands of their own, each with its words: `aliccp prepare`.
    fn leaves(command: &clap::Command, words: &str, found: &mut Vec<(String, clap::Command)>) {
        for inner in command.get_subcommands() {
            let words = format!("{words} {}", inner.get_name());
            match inner.has_subcommands() {
                true => leaves(inner, &words, found),
                false => found.push((words, inner.clone())),
            }
        }
    }

    /// Values that are texts. Where another kind stands, `-1` is a value and no flag, and is answered with the range.
    const TEXTS: [&str; 10] = [
        "COLUMN",
        "COL,...",
        "DEVICE",
        "DIR",
        "FILE",
        "FORMAT",
        "KEY.PATH=VALUE",
        "MODEL.onnx",
        "OUT.html",
        "PREFIX",
    ];

    #[test]
    fn a_negative_number_is_a_value() {
        let mut commands = Vec::new();
        leaves(&Cli::command(), "esmm", &mut commands);
        let mut numbers = 0;
        for (words, command) in commands {
            for flag in command.get_opts().filter(|flag| flag.get_action().takes_values()) {
                let name = flag.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
                let name = name.unwrap_or_default();
                if TEXTS.contains(&name.as_str()) || name == "RUN.toml" {
                    continue;
                }
                numbers += 1;
                assert!(flag.is_allow_negative_numbers_set(), "{words} {flag} takes {name}");
            }
        }
        assert!(numbers >= 20, "only {numbers} flags take numbers");
    }

    #[test]
    fn the_page_of_commands_has_every_command_and_flag() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/commands.md");
        let page = std::fs::read_to_string(page).unwrap();
        let mut commands = Vec::new();
        leaves(&Cli::command(), "esmm", &mut commands);
        assert!(commands.len() >= 10, "{commands:?}");
        for (words, command) in commands {
            let section = page.split("\n## ").find(|part| part.starts_with(&format!("`{words}")));
            let section = section.unwrap_or_else(|| panic!("commands.md has no section `{words}`"));
            for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(section.contains(&format!("--{flag}")), "commands.md: `{words}` lacks --{flag}");
            }
        }
    }
}
