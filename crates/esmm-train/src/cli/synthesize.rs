//! `esmm synthesize`

use std::path::PathBuf;

use anyhow::Context;
use esmm_train::TrainError;
use esmm_train::data::synthetic::{SyntheticConfig, write_csv, write_parquet};
use esmm_train::run_dir::write_atomic;

use super::numbers::{MAX, real, whole};
use super::stdout::outln;
use super::{in_run_file, logging, shown, table, train};

#[derive(Debug, clap::Args)]
pub(super) struct SynthesizeArgs {
    /// Where to write the data and a run file for it.
    out_dir: PathBuf,
    /// Impressions.
    #[arg(
        long,
        value_name = "N",
        default_value_t = SyntheticConfig::default().rows,
        value_parser = whole::<usize, 0, MAX>,
        allow_negative_numbers = true
    )]
    rows: usize,
    /// Seed of everything random.
    #[arg(
        long,
        value_name = "N",
        default_value_t = SyntheticConfig::default().seed,
        value_parser = whole::<u64, 0, MAX>,
        allow_negative_numbers = true
    )]
    seed: u64,
    /// Strength of a hidden variable that drives clicks and conversions, 0 to 4: above 0 the conversion rate of clicked
    /// rows is higher than that of all.
    #[arg(
        long,
        value_name = "X",
        default_value_t = SyntheticConfig::default().confounding,
        value_parser = real,
        allow_negative_numbers = true
    )]
    confounding: f64,
    /// Replaces the files that are there.
    #[arg(long)]
    overwrite: bool,
    /// Parquet or CSV.
    #[arg(long, value_enum, default_value = "parquet")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Parquet,
    Csv,
}

pub(super) fn run(args: &SynthesizeArgs) -> anyhow::Result<()> {
    logging::init();
    let config = SyntheticConfig {
        rows: args.rows,
        seed: args.seed,
        confounding: args.confounding,
        ..SyntheticConfig::default()
    };
    config.validate().map_err(|error| TrainError::config(error.to_string()))?;
    let data = match args.format {
        Format::Parquet => args.out_dir.join("data.parquet"),
        Format::Csv => args.out_dir.join("data.csv"),
    };
    in_run_file(&data, "OUT_DIR")?;
    let run_file = args.out_dir.join("run.toml");
    if let Some(path) = [&run_file, &data].into_iter().find(|path| !args.overwrite && path.exists()) {
        let reason = "is there already: --overwrite replaces it";
        return Err(TrainError::config(format!("{}: {reason}", path.display())).into());
    }
    std::fs::create_dir_all(&args.out_dir)
        .with_context(|| format!("{}: cannot be created", args.out_dir.display()))?;
    match args.format {
        Format::Parquet => write_parquet(config, &data)?,
        Format::Csv => write_csv(config, &data)?,
    }
    write_atomic(&run_file, train::synthetic_run(&data).as_bytes())?;
    outln!("{}: {} impressions", shown(&data), table::grouped(args.rows as u64))?;
    outln!("Next: esmm train {}", shown(&run_file))?;
    Ok(())
}
