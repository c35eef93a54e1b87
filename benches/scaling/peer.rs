//! PyTorch beside it: a worker of `benches/peers` that steps when it is asked to.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::Options;

/// A worker that trains one variant of PyTorch's model on so many threads, and waits between two rounds.
pub(crate) struct Peer {
    pub(crate) variant: String,
    child: Child,
    /// `None` once it was closed, which ends the worker.
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts a worker and waits until it is ready.
    ///
    /// # Errors
    /// A worker that does not start, or ends before it is ready: what it says goes to stderr.
    pub(crate) fn start(
        python: &str,
        options: &Options,
        variant: &str,
        threads: u64,
        batch: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let threads = threads.to_string();
        let mut command = Command::new(python);
        command
            .arg(&options.peer)
            .args(["--mode", "train", "--built", "--variant", variant, "--workload", &options.workload])
            .args(["--threads", &threads, "--batch", &batch.to_string()])
            .envs([("OMP_NUM_THREADS", &threads), ("MKL_NUM_THREADS", &threads)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("`{python}` does not start: {error}"))?;
        let (Some(asks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a worker without stdin and stdout".into());
        };
        let answers = BufReader::new(answers);
        let mut peer = Self { variant: variant.to_owned(), child, asks: Some(asks), answers };
        match peer.answer()?["ready"].as_bool() {
            Some(true) => Ok(peer),
            Some(false) | None => Err(format!("{variant}: the worker does not say that it is ready").into()),
        }
    }

    /// Rows a second of about so many seconds of steps.
    ///
    /// # Errors
    /// A worker that has ended.
    pub(crate) fn rate(&mut self, seconds: f64) -> Result<f64, Box<dyn Error>> {
        let Some(asks) = &mut self.asks else { return Err("the worker was closed".into()) };
        writeln!(asks, "{seconds}")?;
        asks.flush()?;
        let answer = self.answer()?;
        answer["samples_per_s"].as_f64().ok_or_else(|| format!("no rate: {answer}").into())
    }

    fn answer(&mut self) -> Result<Value, Box<dyn Error>> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(format!("{}: the worker has ended", self.variant).into()),
            _ => Ok(serde_json::from_str(&line)?),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.asks = None;
        let _ = self.child.wait();
    }
}
