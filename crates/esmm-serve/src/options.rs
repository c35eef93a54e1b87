//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use esmm_data::ColumnNames;
use esmm_rank::SharePrecision;
use esmm_run::manifest::Trust;

use crate::limits::Limits;
use crate::model::{ItemFiles, ModelSource};

/// The run directory where none is named: of the built-in funnel.
const FUNNEL: &str = "runs/served";
/// Its items.
pub(crate) const FUNNEL_ITEMS: &str = "items.csv";
/// Where the token is, if no file has it.
const TOKEN: &str = "ESMM_SERVE_TOKEN";

/// Ranks with a trained ESMM: JSON over HTTP, and the Open Inference Protocol over HTTP and gRPC, on one port.
#[derive(Debug, clap::Parser)]
#[command(name = "esmm-serve", version)]
pub struct Options {
    /// What `esmm train` left, or a link to it. A link that moves and files that change are taken over while it serves. Without
    /// it: runs/served, which is trained on the built-in funnel if it is not there, and its items.
    pub run_dir: Option<PathBuf>,
    /// Items whose share of the model is computed once: files or globs, CSV or Parquet, with the columns of their features.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub items: Vec<String>,
    /// The column with the items' ids.
    #[arg(long, value_name = "COLUMN", requires = "items")]
    pub key: Option<String>,
    /// Columns of numbers of the items that requests can rank by: {"by": {"value": "price"}}. A name that holds a comma stands
    /// in quotes, as in CSV.
    #[arg(long, value_name = "COLUMN,...", requires = "items")]
    pub values: Vec<ColumnNames>,
    /// Keep the items' shares as 16-bit floats: half the memory, scores that differ in the third digit.
    #[arg(long, requires = "items")]
    pub f16: bool,
    /// Features of the context that differ between the candidates of a request, as their position.
    #[arg(long, value_name = "NAME,...")]
    pub per_candidate: Vec<ColumnNames>,
    /// Serve weights that were replaced since the training, on purpose.
    #[arg(long)]
    pub accept_weights: bool,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Name of the model in answers and in the paths of the Open Inference Protocol.
    #[arg(long, default_value = "esmm")]
    pub model_name: String,
    /// A file with the token that requests must show; the environment's ESMM_SERVE_TOKEN otherwise.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Listen beyond this machine without a token.
    #[arg(long, conflicts_with = "token_file")]
    pub no_token: bool,
    /// Certificates in PEM: serve with TLS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the first certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Bytes of a body at most.
    #[arg(long, default_value_t = Limits::default().body, value_name = "BYTES")]
    pub max_body: usize,
    /// Candidates of a body at most.
    #[arg(long, default_value_t = Limits::default().candidates, value_name = "N")]
    pub max_candidates: usize,
    /// Seconds of a request at most.
    #[arg(long, default_value_t = Limits::default().time.as_secs_f64(), value_name = "SECONDS", value_parser = some_seconds)]
    pub max_seconds: f64,
    /// Requests that are computed at once at most; more are answered with 503.
    #[arg(long, default_value_t = Limits::default().requests, value_name = "N")]
    pub max_requests: usize,
    /// Open connections at most.
    #[arg(long, default_value_t = Limits::default().connections, value_name = "N")]
    pub max_connections: usize,
    /// Seconds after which a connection without a request under way is closed.
    #[arg(long, default_value_t = Limits::default().idle.as_secs_f64(), value_name = "SECONDS", value_parser = some_seconds)]
    pub max_idle: f64,
    /// Seconds between looks at the run directory; 0 never looks.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = seconds)]
    pub watch: f64,
    /// Threads that answer; as many as there are cores by default.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// How the log on stderr is written.
    #[arg(long, default_value = "text")]
    pub log: LogFormat,
    /// Log every request.
    #[arg(long, short)]
    pub verbose: bool,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// An object a line.
    Json,
}

impl Options {
    /// The run directory.
    pub fn run_dir(&self) -> &Path {
        self.run_dir.as_deref().unwrap_or(Path::new(FUNNEL))
    }

    /// What is served.
    pub fn source(&self) -> ModelSource {
        let items = self.items().or_else(|| self.funnel_items());
        ModelSource {
            run_dir: self.run_dir().to_owned(),
            name: self.model_name.clone(),
            items,
            per_candidate: ColumnNames::joined(&self.per_candidate),
            trust: if self.accept_weights { Trust::Weights } else { Trust::Nothing },
        }
    }

    fn items(&self) -> Option<ItemFiles> {
        let key = self.key.as_ref().filter(|_| !self.items.is_empty())?;
        Some(ItemFiles {
            paths: self.items.clone(),
            key: key.clone(),
            values: ColumnNames::joined(&self.values),
            precision: if self.f16 { SharePrecision::F16 } else { SharePrecision::F32 },
        })
    }

    /// The items of the built-in funnel, where nothing else was named.
    fn funnel_items(&self) -> Option<ItemFiles> {
        let path = Path::new(FUNNEL).join(FUNNEL_ITEMS);
        let is_there = self.run_dir.is_none() && path.exists();
        is_there.then(|| ItemFiles {
            paths: vec![path.display().to_string()],
            key: "item_id".to_owned(),
            values: vec!["price".to_owned()],
            precision: SharePrecision::F32,
        })
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        Limits {
            body: self.max_body,
            candidates: self.max_candidates,
            time: Duration::from_secs_f64(self.max_seconds),
            requests: self.max_requests,
            connections: self.max_connections,
            idle: Duration::from_secs_f64(self.max_idle),
            ..Limits::default()
        }
    }

    /// What a request must show.
    ///
    /// # Errors
    /// A file that cannot be read, a token that is empty or cannot stand in a header, and none at all where others than this
    /// machine can connect.
    pub fn token(&self) -> Result<Option<String>, String> {
        let token = match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.map_err(|error| format!("--token-file {}: {error}", path.display()))?)
            }
            None => std::env::var(TOKEN).ok(),
        };
        let token = token.map(|token| token.trim().to_owned());
        match token {
            _ if self.no_token => Ok(None),
            Some(token) if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err("the token must be one word of visible ASCII characters".to_owned())
            }
            Some(token) => Ok(Some(token)),
            None if is_loopback(self.listen.ip()) => Ok(None),
            None => Err(format!(
                "--listen {}: others can connect, so a token is needed: --token-file FILE or {TOKEN}; --no-token serves \
                 without",
                self.listen
            )),
        }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("seconds are a number from 0 to 86400".to_owned()),
    }
}

fn some_seconds(text: &str) -> Result<f64, String> {
    match seconds(text) {
        Ok(seconds) if seconds >= 0.001 => Ok(seconds),
        _ => Err("seconds are a number from 0.001 to 86400".to_owned()),
    }
}
