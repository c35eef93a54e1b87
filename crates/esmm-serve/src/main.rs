//! The `esmm-serve` command: see `esmm-serve --help`.

#![forbid(unsafe_code)]

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use esmm_serve::{LogFormat, Options, Service, serve, tls_acceptor};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

/// Requests allocate and free small pieces on several threads; this allocator is quick at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Clients that wait to be accepted; systems allow 4096 or fewer.
const BACKLOG: u32 = 4096;
/// Exit code of a wrong command line or setting.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    log(&options);
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, reason)) => {
            let _ = writeln!(std::io::stderr(), "error: {reason}");
            ExitCode::from(code)
        }
    }
}

fn run(options: &Options) -> Result<(), (u8, String)> {
    let failed = |reason: String| (1, reason);
    let token = options.token().map_err(|reason| (USAGE, reason))?;
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(certificates), Some(key)) => {
            Some(tls_acceptor(certificates, key).map_err(|reason| (USAGE, reason))?)
        }
        _ => None,
    };
    #[cfg(feature = "train")]
    if options.run_dir.is_none() {
        esmm_serve::train_if_missing(options.run_dir()).map_err(failed)?;
    }
    // Each connection is an open file, and shells allow few. Where the system refuses, fewer are served.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let service = Arc::new(Service::open(options.source(), options.limits(), token).map_err(failed)?);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = options.threads {
        runtime.worker_threads(threads.max(1));
    }
    let runtime = runtime.enable_all().build().map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        let listener = listen(options.listen)
            .map_err(|error| failed(format!("--listen {}: {error}", options.listen)))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        // Nobody may read it, and the disk may be full: neither keeps the service from serving.
        let _ = writeln!(std::io::stdout(), "{scheme}://{address}/");
        if options.watch > 0.0 {
            tokio::spawn(service.clone().watch(Duration::from_secs_f64(options.watch)));
        }
        let end = end().map_err(|error| failed(error.to_string()))?;
        serve(service, listener, tls, end).await.map_err(|error| failed(error.to_string()))
    })
}

/// Listens, with room for as many clients at once as the system allows.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A service that is started again takes its port over at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Ends at SIGTERM or SIGINT.
fn end() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("no new connections; requests under way are finished");
    })
}

fn log(options: &Options) {
    let level = if options.verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let colours = std::io::stderr().is_terminal();
    let subscriber =
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).with_max_level(level);
    // A full disk would otherwise end the request whose line could not be written.
    let subscriber = subscriber.log_internal_errors(false);
    match options.log {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
}
