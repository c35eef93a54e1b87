//! Odd requests to every route: never a panic, never a 5xx, never NaN.
//!
//! The bodies of `corpus` are sent as they are, and then with some of their values, keys and bytes replaced; a failure is
//! made as small as it can be before it is printed. `ESMM_FUZZ_SECONDS=60 cargo test -p esmm-serve --test fuzz` goes on for
//! longer. What is found belongs into `corpus`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::Request;
use common::{Answer, Running, Workspace};
use esmm_serve::Limits;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use prost::Message;
use serde_json::{Value, json};

/// Cases of a round.
const CASES: u32 = 200;

/// Runs rounds of cases, each with a seed of its own, until the time is up.
fn until_the_time_is_up<S: Strategy>(strategy: &S, test: impl FnMut(S::Value) -> Result<(), TestCaseError>) {
    let test = RefCell::new(test);
    let seconds = std::env::var("ESMM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(3));
    let mut round = 0_u64;
    loop {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&round.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let config = Config { cases: CASES, max_shrink_iters: 2000, ..Config::default() };
        let result = TestRunner::new_with_rng(config, rng).run(strategy, |value| (test.borrow_mut())(value));
        if let Err(error) = result {
            panic!("round {round}: {error}");
        }
        round += 1;
        if Instant::now() >= end {
            return;
        }
    }
}

/// The known bodies, by their names.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut bodies = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        bodies.push((path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()));
    }
    bodies.sort();
    assert!(bodies.len() > 10);
    bodies
}

/// Text of all kinds of characters, short and long.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(any::<char>(), 0..8).prop_map(|text| text.into_iter().collect()),
        select(&["", "i1", "\u{0}\u{ffff}", "user", "NaN", "1e999", "2020-01-01"]).prop_map(str::to_owned),
        (0_usize..5000).prop_map(|length| "x".repeat(length)),
    ]
}

/// Any JSON.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
        Just(json!({ "id": "a", "weight": -1 })),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// What happens to one place of a body.
#[derive(Debug, Clone)]
enum Edit {
    Replace(Value),
    Remove,
    Rename(String),
}

/// A place: at each level one of the values there, until there are no more.
type Place = Vec<Index>;

fn edits() -> impl Strategy<Value = Vec<(Place, Edit)>> {
    let edit = prop_oneof![
        4 => any_value().prop_map(Edit::Replace),
        1 => Just(Edit::Remove),
        1 => text().prop_map(Edit::Rename),
    ];
    prop::collection::vec((prop::collection::vec(any::<Index>(), 0..5), edit), 0..4)
}

fn apply(value: &mut Value, place: &[Index], edit: &Edit) {
    let (Some((here, deeper)), Some(len)) = (place.split_first(), length(value)) else {
        if let Edit::Replace(new) = edit {
            *value = new.clone();
        }
        return;
    };
    let here = here.index(len);
    match value {
        Value::Object(fields) => {
            let key = fields.keys().nth(here).unwrap().clone();
            match edit {
                Edit::Remove if deeper.is_empty() => drop(fields.remove(&key)),
                Edit::Rename(name) if deeper.is_empty() => {
                    let value = fields.remove(&key).unwrap();
                    fields.insert(name.clone(), value);
                }
                Edit::Replace(_) | Edit::Remove | Edit::Rename(_) => {
                    apply(fields.get_mut(&key).unwrap(), deeper, edit);
                }
            }
        }
        Value::Array(values) => match edit {
            Edit::Remove if deeper.is_empty() => drop(values.remove(here)),
            Edit::Replace(_) | Edit::Remove | Edit::Rename(_) => apply(&mut values[here], deeper, edit),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// How many values a value holds; `None` where it holds none.
fn length(value: &Value) -> Option<usize> {
    let length = match value {
        Value::Object(fields) => fields.len(),
        Value::Array(values) => values.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    };
    (length > 0).then_some(length)
}

/// A known body, changed.
#[derive(Debug, Clone)]
struct OddBody {
    base: Index,
    edits: Vec<(Place, Edit)>,
    /// Zeros after it, as binary data of the protocol's extension.
    after: usize,
    bytes: Vec<(Index, u8)>,
    cut: Option<Index>,
}

fn odd_body() -> impl Strategy<Value = OddBody> {
    let bytes = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
    ];
    let cut = prop_oneof![5 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (any::<Index>(), edits(), 0..40_usize, bytes, cut).prop_map(|(base, edits, after, bytes, cut)| OddBody {
        base,
        edits,
        after,
        bytes,
        cut,
    })
}

impl OddBody {
    /// The bytes, and how many of them are JSON.
    fn write(&self, corpus: &[(String, Vec<u8>)]) -> (Vec<u8>, usize) {
        let mut body = corpus[self.base.index(corpus.len())].1.clone();
        if let Ok(mut value) = serde_json::from_slice::<Value>(&body) {
            self.edits.iter().for_each(|(place, edit)| apply(&mut value, place, edit));
            body = value.to_string().into_bytes();
        }
        let json = body.len();
        body.extend(std::iter::repeat_n(0, self.after));
        for (place, byte) in &self.bytes {
            let place = place.index(body.len());
            body[place] = *byte;
        }
        if let Some(cut) = self.cut {
            body.truncate(cut.index(body.len()));
        }
        (body, json)
    }
}

/// A request to any route.
#[derive(Debug, Clone)]
struct Odd {
    route: Index,
    body: OddBody,
    /// What stands in the path for a name.
    name: String,
    query: bool,
    /// Length of the JSON of a body with binary data, as the header says; `true` stands for the right one.
    length: Option<Result<bool, String>>,
    kind: Option<&'static str>,
}

fn odd_request() -> impl Strategy<Value = Odd> {
    let names = ["esmm", "none", "..", "%2e%2e", "%00", "%ff", "%2Fetc%2Fpasswd", "a%20b"];
    let name = prop_oneof![
        3 => Just("esmm".to_owned()),
        2 => select(names.to_vec()).prop_map(str::to_owned),
        1 => (1_usize..5000).prop_map(|length| "x".repeat(length)),
    ];
    let length = prop_oneof![
        2 => Just(None),
        1 => Just(Some(Ok(true))),
        1 => (0..99_999_u32).prop_map(|length| Some(Err(length.to_string()))),
        1 => select(&["-1", "x", "", "18446744073709551616"]).prop_map(|text| Some(Err(text.to_owned()))),
    ];
    let kinds = ["application/grpc", "text/plain", "\u{e4}", "application/json; charset=latin-1"];
    let kind = prop_oneof![3 => Just(None), 1 => select(kinds.to_vec()).prop_map(Some)];
    (any::<Index>(), odd_body(), name, any::<bool>(), length, kind)
        .prop_map(|(route, body, name, query, length, kind)| Odd { route, body, name, query, length, kind })
}

/// All routes of the service, as it describes them.
fn routes(service: &Running) -> Vec<(String, String)> {
    let described = service.send("GET", "/openapi.json", &[], b"").ok();
    let mut routes = Vec::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        routes
            .extend(methods.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase())));
    }
    assert!(routes.len() > 15, "{routes:?}");
    routes
}

/// An answer or a refusal that is JSON where it says so, which has no NaN, and whose scores are probabilities.
fn check(answer: &Answer) -> Result<(), TestCaseError> {
    let text = String::from_utf8_lossy(&answer.body);
    prop_assert!((200..500).contains(&answer.status), "{}: {text}", answer.status);
    if answer.header("content-type").is_none_or(|kind| !kind.starts_with("application/json")) {
        return Ok(());
    }
    let Ok(value) = serde_json::from_slice::<Value>(&answer.body) else {
        return Err(TestCaseError::fail(format!("no JSON: {text}")));
    };
    for score in scores(&value) {
        let is_probability = score.as_f64().is_some_and(|score| (0.0..=1.0).contains(&score));
        prop_assert!(is_probability, "{score}: {text}");
    }
    Ok(())
}

/// The scores of all candidates of an answer to rank.
fn scores(answer: &Value) -> Vec<&Value> {
    let lists = answer.get("answers").and_then(Value::as_array);
    let answers = lists.into_iter().flatten().chain([answer]);
    let items = answers.filter_map(|answer| answer.get("items")?.as_array()).flatten();
    items.flat_map(|item| ["pctr", "pcvr", "pctcvr"].map(|name| &item[name])).collect()
}

#[test]
fn known_bodies_to_every_route() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    for (path, method) in routes(&service) {
        let path = path.replace("{model}", "esmm").replace("{version}", "1");
        for (name, body) in corpus() {
            let answer = service.send(&method, &path, &[], &body);
            check(&answer).unwrap_or_else(|error| panic!("{method} {path}, {name}: {error}"));
            let good = ["rank-ids.json", "rank-features.json", "rank-value.json", "rank-many.json"];
            if path == "/v1/rank" {
                let expected = if good.contains(&name.as_str()) { 200 } else { 400 };
                assert_eq!(answer.status, expected, "{name}: {}", answer.text());
            }
        }
    }
}

#[test]
fn odd_requests_to_every_route() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let (corpus, routes) = (corpus(), routes(&service));
    let mut reloads = 0;
    until_the_time_is_up(&odd_request(), |odd| {
        let (path, method) = &routes[odd.route.index(routes.len())];
        // Loading a model takes time, and its body is not read.
        if path == "/v1/reload" {
            reloads += 1;
            if reloads > 3 {
                return Ok(());
            }
        }
        let mut path = path.replace("{model}", &odd.name).replace("{version}", &odd.name);
        if odd.query {
            path.push_str("?x=%ff&y");
        }
        let (body, json) = odd.body.write(&corpus);
        let length = odd.length.map(|length| length.map_or_else(|text| text, |_| json.to_string()));
        let mut headers = Vec::new();
        if let Some(length) = &length {
            headers.push(("inference-header-content-length", length.as_str()));
        }
        if let Some(kind) = odd.kind {
            headers.push(("content-type", kind));
        }
        check(&service.send(method, &path, &headers, &body))
    });
    assert_eq!(service.send("GET", "/health/ready", &[], b"").status, 200);
}

/// The route that most requests go to, with the bodies alone.
#[test]
fn odd_bodies_to_rank() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let corpus = corpus();
    let mut answered = 0;
    until_the_time_is_up(&odd_body(), |odd| {
        let answer = service.send("POST", "/v1/rank", &[], &odd.write(&corpus).0);
        answered += u32::from(answer.status == 200);
        check(&answer)
    });
    assert!(answered > 0, "none of them had an answer");
}

/// The request of `ModelInfer`, by the protocol's numbers.
#[derive(Clone, PartialEq, Message)]
struct Infer {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Input>,
    #[prost(message, repeated, tag = "6")]
    outputs: Vec<Wanted>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    raw: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Input {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    contents: Option<Contents>,
}

#[derive(Clone, PartialEq, Message)]
struct Contents {
    #[prost(int64, repeated, tag = "3")]
    whole: Vec<i64>,
    #[prost(double, repeated, tag = "7")]
    real: Vec<f64>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    texts: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Wanted {
    #[prost(string, tag = "1")]
    name: String,
}

/// The answer of `ModelInfer`.
#[derive(Clone, PartialEq, Message)]
struct Inferred {
    #[prost(bytes = "vec", repeated, tag = "6")]
    raw: Vec<Vec<u8>>,
}

fn good_infer() -> Infer {
    let input = |name: &str, datatype: &str, rows: i64, contents: Contents| Input {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![rows],
        contents: Some(contents),
    };
    let texts = |texts: &[&str]| Contents {
        texts: texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
        ..Contents::default()
    };
    Infer {
        model_name: "esmm".to_owned(),
        inputs: vec![
            input("user", "BYTES", 1, texts(&["u1"])),
            input("age", "FP64", 1, Contents { real: vec![30.0], ..Contents::default() }),
            input("hour", "INT64", 1, Contents { whole: vec![7], ..Contents::default() }),
            input("item", "BYTES", 2, texts(&["i1", "i2"])),
        ],
        ..Infer::default()
    }
}

/// What is odd in a message.
#[derive(Debug, Clone)]
enum OddPart {
    Model(String),
    Version(String),
    Without(Index),
    Twice(Index),
    Datatype(Index, &'static str),
    Shape(Index, Vec<i64>),
    Contents(Index, Option<Contents>),
    Raw(Vec<Vec<u8>>),
    Output(String),
}

fn odd_part() -> impl Strategy<Value = OddPart> {
    let types = ["", "FP16", "UINT64", "BOOL", "INT8", "BYTES", "FP32"];
    let lengths = prop_oneof![select(&[-1, 0, 1, i64::MAX, i64::MIN][..]), any::<i64>()];
    let reals = select(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -0.0, 30.0][..]);
    let texts = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..3);
    let contents = prop_oneof![
        Just(None),
        prop::collection::vec(any::<i64>(), 0..3)
            .prop_map(|whole| Some(Contents { whole, ..Contents::default() })),
        prop::collection::vec(reals, 0..3).prop_map(|real| Some(Contents { real, ..Contents::default() })),
        texts.prop_map(|texts| Some(Contents { texts, ..Contents::default() })),
    ];
    let place = any::<Index>;
    prop_oneof![
        text().prop_map(OddPart::Model),
        text().prop_map(OddPart::Version),
        place().prop_map(OddPart::Without),
        place().prop_map(OddPart::Twice),
        (place(), select(types.to_vec())).prop_map(|(place, kind)| OddPart::Datatype(place, kind)),
        (place(), prop::collection::vec(lengths, 0..3))
            .prop_map(|(place, shape)| OddPart::Shape(place, shape)),
        (place(), contents).prop_map(|(place, contents)| OddPart::Contents(place, contents)),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6).prop_map(OddPart::Raw),
        text().prop_map(OddPart::Output),
    ]
}

impl OddPart {
    fn apply(self, infer: &mut Infer) {
        let count = infer.inputs.len();
        if count == 0 {
            return;
        }
        match self {
            Self::Model(name) => infer.model_name = name,
            Self::Version(version) => infer.model_version = version,
            Self::Without(place) => drop(infer.inputs.remove(place.index(count))),
            Self::Twice(place) => infer.inputs.push(infer.inputs[place.index(count)].clone()),
            Self::Datatype(place, kind) => kind.clone_into(&mut infer.inputs[place.index(count)].datatype),
            Self::Shape(place, shape) => infer.inputs[place.index(count)].shape = shape,
            Self::Contents(place, contents) => infer.inputs[place.index(count)].contents = contents,
            Self::Raw(raw) => infer.raw = raw,
            Self::Output(name) => infer.outputs.push(Wanted { name }),
        }
    }
}

/// A message, the same with some of its bytes replaced and cut, and a method for that.
fn odd_message() -> impl Strategy<Value = (Infer, Vec<u8>, &'static str)> {
    let infer = prop::collection::vec(odd_part(), 0..3).prop_map(|parts| {
        let mut infer = good_infer();
        parts.into_iter().for_each(|part| part.apply(&mut infer));
        infer
    });
    let bytes = prop::collection::vec((any::<Index>(), any::<u8>()), 1..5);
    let methods = ["ModelInfer", "ModelMetadata", "ModelReady", "ServerLive", "Nothing"];
    (infer, bytes, 0..6_usize, select(methods.to_vec())).prop_map(|(infer, replaced, cut, method)| {
        let mut bytes = frame(&infer.encode_to_vec());
        for (place, byte) in replaced {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        (infer, bytes, method)
    })
}

/// gRPC's own status, and the message.
async fn call(client: &mut h2::client::SendRequest<Bytes>, method: &str, frame: Vec<u8>) -> (u32, Bytes) {
    let request = Request::post(format!("http://x/inference.GRPCInferenceService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(frame.into(), true).unwrap();
    let (head, mut body) = answer.await.unwrap().into_parts();
    assert!(head.status.as_u16() < 500, "{}", head.status);
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        bytes.extend_from_slice(&part);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
    let status = trailers.get("grpc-status").map_or("0", |status| status.to_str().unwrap());
    (status.parse().unwrap(), bytes.into())
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

#[test]
fn odd_messages_over_grpc() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut client = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(service.address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        client.ready().await.unwrap()
    });
    let good = call(&mut client, "ModelInfer", frame(&good_infer().encode_to_vec()));
    let (status, answer) = runtime.block_on(good);
    assert_eq!(status, 0);
    assert_eq!(Inferred::decode(&answer[5..]).unwrap().raw.len(), 3);
    until_the_time_is_up(&odd_message(), |(infer, bytes, method)| {
        let sent = frame(&infer.encode_to_vec());
        let (status, answer) = runtime.block_on(call(&mut client, "ModelInfer", sent));
        // OK, INVALID_ARGUMENT or NOT_FOUND.
        prop_assert!([0, 3, 5].contains(&status), "{}", status);
        if status == 0 {
            for scores in Inferred::decode(&answer[5..]).unwrap().raw {
                let scores =
                    scores.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
                prop_assert!(scores.into_iter().all(|score| (0.0..=1.0).contains(&score)));
            }
        }
        // Bytes that are no message, and frames that are cut: the protocol's own errors, and the service goes on.
        runtime.block_on(call(&mut client, method, bytes));
        Ok(())
    });
    assert_eq!(service.send("GET", "/health/ready", &[], b"").status, 200);
}
