//! The ranking engine: one user against N candidates, one thread a request, as `ort_split.py` beside it asks ONNX Runtime.
//!
//! ```sh
//! cargo bench --bench serving -- [--n 200,1000,2000] [--seconds 3] [--items 200000] [--mode catalogue]
//! cargo bench --bench serving -- --prepare DIR          # a run directory and items with the same model, for esmm-serve
//! cargo bench --bench serving -- --http 127.0.0.1:8080 [--rate 600 [--reload 10]] [--n 1000] [--top 50]
//! ```
//!
//! The model: 24 sparse features (14 of user and context, 10 of the item) of D = 16 in one table of a million rows, two
//! towers 384-200-80-1 with ReLU and batch norm. A request: 14 ids and N candidates, in the mode `catalogue` by their places
//! among `--items` items, in the mode `features` with 10 ids each. One JSON object a line: mode, n, p50_ms, p99_ms, requests.
//!
//! `--http` asks a service over one connection, one request after the other; with `--rate` at that many requests a second,
//! answered or not (open loop), a latency counting from when its request was due.

#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

mod http;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn_ndarray::NdArray;
use clap::Parser;
use esmm_core::{EsmmConfig, Feature, FeatureSchema, Side, SparseInput};
use esmm_rank::{Catalogue, Columns, Ranker, Request, Scratch, SharePrecision};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROWS: usize = 1_000_000;
const QUERY: usize = 14;
const ITEM: usize = 10;
/// Requests that are asked in turn.
const REQUESTS: usize = 64;

#[derive(Debug, Parser)]
struct Args {
    /// Candidates of a request.
    #[arg(long, default_value = "200,1000,2000", value_delimiter = ',')]
    n: Vec<usize>,
    /// Seconds a mode and size.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Items of the catalogue.
    #[arg(long, default_value_t = 200_000)]
    items: usize,
    /// One of the modes alone.
    #[arg(long, value_parser = ["catalogue", "features"])]
    mode: Option<String>,
    /// Write a run directory and items for a service into this folder.
    #[arg(long, value_name = "DIR")]
    prepare: Option<PathBuf>,
    /// Ask the service at this address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<String>,
    /// With --http: requests a second.
    #[arg(long, requires = "http")]
    rate: Option<f64>,
    /// With --rate: seconds between reloads.
    #[arg(long, requires = "rate")]
    reload: Option<f64>,
    /// With --rate: connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// With --http: candidates that are answered.
    #[arg(long, default_value_t = 50)]
    top: usize,
    /// What Cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// An id as popularity has it: small ones are frequent.
fn id(rng: &mut ChaCha8Rng) -> u32 {
    let u: f64 = rng.random();
    (u.powi(3) * ROWS as f64) as u32
}

fn ids(rng: &mut ChaCha8Rng, features: usize, rows: usize) -> Vec<Vec<u32>> {
    (0..features).map(|_| (0..rows).map(|_| id(rng)).collect()).collect()
}

fn sparse(ids: &[Vec<u32>]) -> Vec<SparseInput<'_>> {
    ids.iter().map(|ids| SparseInput::Single(ids)).collect()
}

fn ranker() -> Ranker {
    let feature = |place: usize| {
        let side = if place < QUERY { Side::User } else { Side::Item };
        let feature = Feature::sparse(format!("f{place}"), side, ROWS);
        if place == 0 { feature } else { feature.sharing("f0") }
    };
    let schema = FeatureSchema::new((0..QUERY + ITEM).map(feature).collect()).expect("a schema");
    let mut config = EsmmConfig::new(schema);
    config.embedding_dim = 16;
    config.embedding_init_std = 0.1;
    config.towers.hidden = vec![200, 80];
    config.towers.dropout = vec![0.0; 2];
    config.towers.batch_norm = true;
    let weights = config.init::<NdArray>(&Default::default()).expect("a model").state_dict();
    Ranker::new(&config, weights, &[]).expect("a ranker")
}

fn catalogue(ranker: &Ranker, items: usize, rng: &mut ChaCha8Rng) -> Catalogue {
    let mut catalogue = Catalogue::new(ranker, SharePrecision::F32, Vec::new());
    while catalogue.len() < items {
        let rows = (items - catalogue.len()).min(8192);
        let names: Vec<String> = (0..rows).map(|row| (catalogue.len() + row).to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let ids = ids(rng, ITEM, rows);
        let columns = Columns { rows, sparse: &sparse(&ids), dense: &[] };
        catalogue.push(ranker, &names, &columns, &[]).expect("items");
    }
    catalogue
}

/// What one request brings.
struct Asked {
    user: Vec<Vec<u32>>,
    items: Vec<Vec<u32>>,
    places: Vec<u32>,
}

fn measure(name: &str, n: usize, seconds: f64, mut ask: impl FnMut(usize)) {
    (0..20).for_each(|request| ask(request % REQUESTS));
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs_f64(seconds) || times.len() < 200 {
        let begin = Instant::now();
        ask(times.len() % REQUESTS);
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let measured = percentiles(&mut times);
    println!("{{\"engine\": \"esmm-rank\", \"mode\": \"{name}\", \"n\": {n}, {measured}}}");
}

/// Fields of a line.
fn percentiles(times: &mut [f64]) -> String {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let (p50, p99, p999, requests) = (at(0.5), at(0.99), at(0.999), times.len());
    format!("\"p50_ms\": {p50:.3}, \"p99_ms\": {p99:.3}, \"p999_ms\": {p999:.3}, \"requests\": {requests}")
}

fn main() {
    let args = Args::parse();
    if let Some(folder) = &args.prepare {
        return http::prepare(folder, args.items);
    }
    if let Some(address) = &args.http {
        return ask(address, &args);
    }
    let ranker = ranker();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let catalogue = catalogue(&ranker, args.items, &mut rng);
    let mut scratch = Scratch::default();
    for &n in &args.n {
        let mut asked = Vec::new();
        for _ in 0..REQUESTS {
            let places = (0..n).map(|_| rng.random_range(0..args.items as u32)).collect();
            asked.push(Asked { user: ids(&mut rng, QUERY, 1), items: ids(&mut rng, ITEM, n), places });
        }
        for listed in [true, false] {
            let mut ask = |request: usize| {
                let Asked { user, items, places } = &asked[request];
                let (user, items) = (sparse(user), sparse(items));
                let rows = if listed { 0 } else { n };
                let request = Request {
                    query: Columns { rows: 1, sparse: &user, dense: &[] },
                    listed: listed.then_some((&catalogue, places.as_slice())),
                    items: Columns { rows, sparse: if listed { &[] } else { &items }, dense: &[] },
                    pairs: Columns::default(),
                };
                let scores = ranker.score(&request, &mut scratch).expect("scores");
                assert_eq!(scores.len(), n);
            };
            let name = if listed { "catalogue" } else { "features" };
            if args.mode.as_ref().is_some_and(|mode| mode != name) {
                continue;
            }
            measure(name, n, args.seconds, &mut ask);
        }
    }
}

fn ask(address: &str, args: &Args) {
    for &n in &args.n {
        let Some(rate) = args.rate else {
            http::closed_loop(address, n, args.items, args.top, args.seconds);
            continue;
        };
        let load = http::Load {
            n,
            items: args.items,
            top: args.top,
            rate,
            seconds: args.seconds,
            connections: args.connections,
            reload: args.reload,
        };
        http::open_loop(address, &load);
    }
}
