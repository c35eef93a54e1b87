//! The `esmm` command: see `esmm --help`.

#![forbid(unsafe_code)]

mod cli;

/// Steps allocate and free the same large tensors again and again; this allocator keeps their memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
