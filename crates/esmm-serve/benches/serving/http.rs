//! The service under load: what it serves, and a client with a fixed rate.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use burn_ndarray::NdArray;
use esmm_data::LoadOptions;
use esmm_run::config::{RunFile, TrainConfig};
use esmm_run::manifest::Manifest;
use esmm_run::run_dir::{Existing, RunDir, write_json};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{ITEM, QUERY, ROWS, id, ids, percentiles};

/// Bodies that are sent in turn.
const BODIES: usize = 64;

/// Writes a run directory with the model of the bench, initial weights, and `items.csv`, into a folder.
pub(crate) fn prepare(folder: &Path, items: usize) {
    std::fs::create_dir_all(folder).expect("a folder");
    let feature = |place: usize| {
        let side = if place < QUERY { "user" } else { "item" };
        let table = match place {
            0 => format!("encode = \"raw\", num_embeddings = {ROWS}"),
            _ => "shares = \"f0\"".to_owned(),
        };
        format!("  {{ name = \"f{place}\", side = \"{side}\", {table} }},\n")
    };
    let features: String = (0..QUERY + ITEM).map(feature).collect();
    let data = folder.join("data.csv");
    let text = format!(
        "features = [\n{features}]\n[data]\ntrain = {data:?}\n[model]\nembedding_dim = 16\nembedding_init_std = 0.1\n\
         hidden = [200, 80]\nprior = false\n"
    );
    let names: Vec<String> = (0..QUERY + ITEM).map(|place| format!("f{place}")).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut rows = format!("{},click,conversion\n", names.join(","));
    for row in 0..64 {
        let ids: Vec<String> = (0..QUERY + ITEM).map(|_| id(&mut rng).to_string()).collect();
        writeln!(rows, "{},{},{}", ids.join(","), row % 2, row % 2 * (row / 2 % 2)).expect("memory");
    }
    std::fs::write(&data, rows).expect("data.csv");
    let file = RunFile::parse(&text, "the bench", &[]).expect("a run file");
    let config = TrainConfig::resolve(&file).expect("a configuration");
    let loaded = config.data_spec().load(&LoadOptions::default()).expect("rows");
    let model = config.model(loaded.encoders.schema().clone()).expect("a model");
    let run = RunDir::create(&folder.join("run"), Existing::Overwrite).expect("a run directory");
    std::fs::create_dir_all(run.encoders()).expect("a folder");
    loaded.encoders.save(&run.encoders()).expect("encoders");
    write_json(&run.schema(), &model).expect("schema.json");
    write_json(&run.config(), &config).expect("config.json");
    Manifest::begin(&run).expect("a manifest");
    let weights = model.init::<NdArray>(&Default::default()).expect("a model").state_dict();
    Manifest::replace_weights(&run, &weights).expect("weights");
    let mut rows = format!("item_id,{}\n", names[QUERY..].join(","));
    for item in 0..items {
        let ids: Vec<String> = (0..ITEM).map(|_| id(&mut rng).to_string()).collect();
        writeln!(rows, "{item},{}", ids.join(",")).expect("memory");
    }
    std::fs::write(folder.join("items.csv"), rows).expect("items.csv");
    println!("esmm-serve {0}/run --items {0}/items.csv --key item_id", folder.display());
}

/// Requests of N candidates of the catalogue, as bytes of HTTP.
fn requests(n: usize, items: usize, top: usize) -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let request = |_: usize| {
        let user = ids(&mut rng, QUERY, 1);
        let user: Vec<String> =
            user.iter().enumerate().map(|(place, ids)| format!("\"f{place}\":{}", ids[0])).collect();
        let candidates: Vec<String> = (0..n).map(|_| rng.random_range(0..items).to_string()).collect();
        let body =
            format!("{{\"user\":{{{}}},\"items\":[{}],\"top\":{top}}}", user.join(","), candidates.join(","));
        format!("POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .into_bytes()
    };
    (0..BODIES).map(request).collect()
}

/// A connection that stays open.
struct Client {
    stream: BufReader<TcpStream>,
    address: String,
    line: String,
    body: Vec<u8>,
}

impl Client {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a service at --http");
        stream.set_nodelay(true).expect("a socket");
        Self {
            stream: BufReader::new(stream),
            address: address.to_owned(),
            line: String::new(),
            body: Vec::new(),
        }
    }

    /// Whether the service answered with 200.
    fn ask(&mut self, request: &[u8]) -> bool {
        match self.try_ask(request) {
            Ok(status) => status == 200,
            Err(_) => {
                *self = Self::new(&self.address.clone());
                false
            }
        }
    }

    fn try_ask(&mut self, request: &[u8]) -> std::io::Result<u16> {
        self.stream.get_mut().write_all(request)?;
        let broken = || std::io::Error::other("no HTTP");
        let (mut status, mut length) = (0, 0);
        loop {
            self.line.clear();
            if self.stream.read_line(&mut self.line)? == 0 {
                return Err(broken());
            }
            let line = self.line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest.split(' ').next().and_then(|code| code.parse().ok()).ok_or_else(broken)?;
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().map_err(|_| broken())?;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        Ok(status)
    }
}

/// One request after the other on one connection.
pub(crate) fn closed_loop(address: &str, n: usize, items: usize, top: usize, seconds: f64) {
    let requests = requests(n, items, top);
    let mut client = Client::new(address);
    requests.iter().for_each(|request| assert!(client.ask(request), "the service refuses"));
    let (start, mut times, mut failed) = (Instant::now(), Vec::new(), 0);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        let begin = Instant::now();
        failed += usize::from(!client.ask(&requests[times.len() % BODIES]));
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    println!(
        "{{\"load\": \"closed\", \"n\": {n}, {}, \"rate\": {rate:.0}, \"failed\": {failed}}}",
        percentiles(&mut times)
    );
}

/// As many connections as needed, and the next request at its time whether or not the one before is answered: a latency
/// begins when its request should have been sent.
pub(crate) fn open_loop(address: &str, load: &Load) {
    let requests = requests(load.n, load.items, load.top);
    let start = Instant::now() + Duration::from_millis(100);
    let clients: Vec<_> = (0..load.connections)
        .map(|place| {
            let (requests, address, load) = (requests.clone(), address.to_owned(), load.clone());
            thread::spawn(move || {
                let (mut client, mut times, mut failed) = (Client::new(&address), Vec::new(), 0);
                let mut number = place;
                loop {
                    let due = start + Duration::from_secs_f64(number as f64 / load.rate);
                    if due.duration_since(start).as_secs_f64() > load.seconds {
                        return (times, failed);
                    }
                    if let Some(wait) = due.checked_duration_since(Instant::now()) {
                        thread::sleep(wait);
                    }
                    failed += usize::from(!client.ask(&requests[number % BODIES]));
                    times.push(due.elapsed().as_secs_f64() * 1e3);
                    number += load.connections;
                }
            })
        })
        .collect();
    let reloads = load.reload.map(|every| {
        let (address, seconds) = (address.to_owned(), load.seconds);
        thread::spawn(move || reload(&address, start, every, seconds))
    });
    let (mut times, mut failed) = (Vec::new(), 0);
    for client in clients {
        let (some, refused) = client.join().expect("a client");
        times.extend(some);
        failed += refused;
    }
    let reloads = reloads.map_or(0, |reloads| reloads.join().expect("reloads"));
    let measured = percentiles(&mut times);
    println!(
        "{{\"load\": \"open\", \"n\": {}, \"rate\": {}, \"seconds\": {}, {measured}, \"failed\": {failed}, \"reloads\": {reloads}}}",
        load.n, load.rate, load.seconds
    );
}

/// What an open loop asks for.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) n: usize,
    pub(crate) items: usize,
    pub(crate) top: usize,
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
    pub(crate) connections: usize,
    /// Seconds between reloads of the model.
    pub(crate) reload: Option<f64>,
}

/// Reloads that succeeded.
fn reload(address: &str, start: Instant, every: f64, seconds: f64) -> usize {
    let mut client = Client::new(address);
    let mut done = 0;
    for number in 1.. {
        let due = start + Duration::from_secs_f64(number as f64 * every);
        if due.duration_since(start).as_secs_f64() > seconds {
            break;
        }
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            thread::sleep(wait);
        }
        done += usize::from(client.ask(b"POST /v1/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"));
    }
    done
}
