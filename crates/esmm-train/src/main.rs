//! The `esmm` command: see `esmm --help`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
