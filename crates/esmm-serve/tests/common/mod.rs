//! A run directory, a service on it, and a small HTTP client.
#![allow(dead_code, reason = "each test file uses its own part of this module")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Float32Type;
use burn_ndarray::NdArray;
use esmm_data::LoadOptions;
use esmm_rank::SharePrecision;
use esmm_run::config::{RunFile, TrainConfig};
use esmm_run::manifest::{Manifest, Trust};
use esmm_run::run_dir::{Existing, RunDir, write_json};
use esmm_run::scorer::Scorer;
use esmm_serve::{ItemFiles, Limits, ModelSource, Service, serve};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Items of the catalogue.
const ITEMS: usize = 40;

const RUN_FILE: &str = r#"
features = [
  { name = "user", side = "user" },
  { name = "age", side = "user", encode = "standardize", missing = 30 },
  { name = "hour", side = "context", encode = "raw", num_embeddings = 24 },
  { name = "item", side = "item" },
  { name = "tags", side = "item", pooling = "mean" },
  { name = "price", side = "item" , encode = "standardize" },
]

[data]
path = "DATA"
split = { by = "random", valid = 0.2, test = 0.2, seed = 3 }

[model]
embedding_dim = 8
hidden = [24, 16]
embedding_init_std = 1.0
"#;

/// A folder with run directories, `current` a link to one of them, and items.
pub(crate) struct Workspace {
    folder: TempDir,
}

/// Number of an item that requests can rank by.
pub(crate) fn price(item: usize) -> f32 {
    (item * 7 % 11) as f32 + 0.5
}

fn tags(item: usize) -> String {
    format!("t{}|t{}", item % 6, item % 4)
}

impl Workspace {
    /// With one run directory, its weights drawn by a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let workspace = Self { folder: tempfile::tempdir().unwrap() };
        let mut rows = String::from("user,age,hour,item,tags,price,click,conversion\n");
        for row in 0..400 {
            let (item, click) = (row * 3 % ITEMS, u8::from(row % 5 < 2));
            rows.push_str(&format!(
                "u{},{},{},i{item},{},{},{click},{}\n",
                row % 20,
                20 + row % 30,
                row % 24,
                tags(item),
                price(item),
                click * u8::from(row % 3 == 0)
            ));
        }
        std::fs::write(workspace.path("data.csv"), rows).unwrap();
        let mut items = String::from("item,tags,price\n");
        (0..ITEMS).for_each(|item| items.push_str(&format!("i{item},{},{}\n", tags(item), price(item))));
        std::fs::write(workspace.path("items.csv"), items).unwrap();
        workspace.train(seed, "first");
        workspace.link("first");
        workspace
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run directory as a training leaves it, its weights the initial ones.
    pub(crate) fn train(&self, seed: u64, name: &str) {
        self.train_with(seed, name, "");
    }

    /// The same with more lines in the run file.
    pub(crate) fn train_with(&self, seed: u64, name: &str, more: &str) {
        let data = self.path("data.csv").display().to_string();
        let text = RUN_FILE.replace("DATA", &data) + more;
        let file = RunFile::parse(&text, "run.toml", &[]).unwrap();
        let config = TrainConfig::resolve(&file).unwrap();
        let loaded = config.data_spec().load(&LoadOptions::default()).unwrap();
        let mut model = config.model(loaded.encoders.schema().clone()).unwrap();
        model.seed = seed;
        let run = RunDir::create(&self.path(name), Existing::Refuse).unwrap();
        std::fs::create_dir_all(run.encoders()).unwrap();
        loaded.encoders.save(&run.encoders()).unwrap();
        write_json(&run.schema(), &model).unwrap();
        write_json(&run.config(), &config).unwrap();
        Manifest::begin(&run).unwrap();
        let weights = model.init::<NdArray>(&Default::default()).unwrap();
        Manifest::replace_weights(&run, &weights.state_dict()).unwrap();
    }

    /// Lets `current` point to a run directory, at once.
    pub(crate) fn link(&self, name: &str) {
        let temporary = self.path("next");
        std::os::unix::fs::symlink(self.path(name), &temporary).unwrap();
        std::fs::rename(temporary, self.path("current")).unwrap();
    }

    /// An item with its features.
    pub(crate) fn item(&self, item: usize) -> Value {
        let tags: Vec<String> = tags(item).split('|').map(str::to_owned).collect();
        json!({ "item": format!("i{item}"), "tags": tags, "price": price(item) })
    }

    /// What `esmm predict` says of the first user with some items: pctr, pcvr, pctcvr.
    pub(crate) fn predict(&self, users: &[(&str, f64, u32)], items: &[usize]) -> Vec<[f32; 3]> {
        let mut rows = String::from("user,age,hour,item,tags,price\n");
        for (user, age, hour) in users {
            for item in items {
                rows.push_str(&format!("{user},{age},{hour},i{item},{},{}\n", tags(*item), price(*item)));
            }
        }
        let path = self.path("asked.csv");
        std::fs::write(&path, rows).unwrap();
        let run = RunDir::open(&self.path("current")).unwrap();
        let mut scorer = Scorer::<NdArray>::open(&run, &Default::default()).unwrap();
        let source = scorer.source(&[path.display().to_string()]);
        let mut found = Vec::new();
        for chunk in source.open(&scorer.required_columns()).unwrap() {
            let scores = scorer.score(&chunk.unwrap()).unwrap();
            let column = |name: &str| {
                scores.column_by_name(name).unwrap().as_primitive::<Float32Type>().values().to_vec()
            };
            let (ctr, cvr, ctcvr) = (column("pctr"), column("pcvr"), column("pctcvr"));
            found.extend((0..scores.num_rows()).map(|row| [ctr[row], cvr[row], ctcvr[row]]));
        }
        found
    }

    /// What a service is started with.
    pub(crate) fn source(&self) -> ModelSource {
        ModelSource {
            run_dir: self.path("current"),
            name: "esmm".to_owned(),
            items: Some(ItemFiles {
                paths: vec![self.path("items.csv").display().to_string()],
                key: "item".to_owned(),
                values: vec!["price".to_owned()],
                precision: SharePrecision::F32,
            }),
            per_candidate: Vec::new(),
            trust: Trust::Nothing,
        }
    }
}

/// A service that ends when it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    token: Option<String>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(workspace: &Workspace, limits: Limits, token: Option<String>) -> Self {
        Self::start_with(workspace, limits, token, None)
    }

    pub(crate) fn start_with(
        workspace: &Workspace,
        limits: Limits,
        token: Option<String>,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let service = Arc::new(Service::open(workspace.source(), limits, token.clone()).unwrap());
        let (end, ended) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::spawn(service.clone().watch(Duration::from_millis(100)));
                let end = async {
                    let _ = ended.await;
                };
                serve(service, listener, tls, end).await.unwrap();
            });
        });
        Self { address: told.recv().unwrap(), token, end: Some(end), thread: Some(thread) }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(self.address, method, path, headers, body)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], body.to_string().as_bytes())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.take().map(|end| end.send(()));
        self.thread.take().map(JoinHandle::join);
    }
}

/// What a service answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and reason of a refusal.
    #[track_caller]
    pub(crate) fn refused(&self) -> (u16, String) {
        assert!(self.status >= 400, "{}", self.text());
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        (self.status, body["error"].as_str().unwrap().to_owned())
    }
}

/// One request on a connection of its own.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    try_send(address, method, path, headers, body).unwrap_or_else(|| panic!("no answer to {method} {path}"))
}

/// The same, of a service that may not be there.
pub(crate) fn try_send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).ok()?;
    // A refusal may come, and the connection be closed, before the body is out.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let body = bytes[end + 4..].to_vec();
    let answer = Answer { status, headers, body };
    // A process that was killed in the middle of its answer.
    let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
    length.is_none_or(|length| length == answer.body.len()).then_some(answer)
}
