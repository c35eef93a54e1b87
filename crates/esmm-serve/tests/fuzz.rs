//! Odd requests to every route: never a panic, never a 5xx, never NaN.
//!
//! `ESMM_FUZZ_SECONDS=60 cargo test -p esmm-serve --test fuzz` goes on for longer, with other seeds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::Request;
use common::{Random, Running, Workspace};
use esmm_serve::Limits;
use prost::Message;
use serde_json::{Value, json};

/// Requests a route at least.
const LEAST: u64 = 60;

/// How long a test goes on.
fn seconds() -> Duration {
    let seconds = std::env::var("ESMM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

fn good_body(path: &str, workspace: &Workspace) -> Value {
    if path.starts_with("/v2") {
        return json!({ "id": "7", "inputs": [
            { "name": "user", "datatype": "BYTES", "shape": [1], "data": ["u1"] },
            { "name": "age", "datatype": "FP64", "shape": [1, 1], "data": [[30]] },
            { "name": "hour", "datatype": "INT64", "shape": [1], "data": [7] },
            { "name": "item", "datatype": "BYTES", "shape": [3], "data": ["i1", "i2", "i4"] },
            { "name": "price", "datatype": "FP32", "shape": [3], "parameters": { "binary_data_size": 12 } },
        ], "outputs": [{ "name": "pctr", "parameters": { "binary_data": true } }], "parameters": {} });
    }
    let request = json!({ "user": { "user": "u1", "age": 30 }, "context": { "hour": 7 }, "items": ["i1", workspace.item(2)],
        "top": 2, "by": { "value": "price" } });
    json!({ "requests": [request], "user": {}, "items": ["i1"], "by": "pctr" })
}

fn odd_path(path: &str, random: &mut Random) -> String {
    let long = "x".repeat(5000);
    let parts =
        ["esmm", "none", "..", "%2e%2e", "%00", "%ff", "%2Fetc%2Fpasswd", "a b".trim(), long.as_str()];
    let mut path = path.to_owned();
    for name in ["{model}", "{version}"] {
        let part = if random.below(2) == 0 { "esmm" } else { parts[random.below(parts.len())] };
        path = path.replace(name, &part.replace(' ', "%20"));
    }
    if random.below(10) == 0 { format!("{path}?x=%ff&y") } else { path }
}

#[test]
fn odd_requests_to_every_route() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let described = service.send("GET", "/openapi.json", &[], b"").ok();
    let mut routes = Vec::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        routes
            .extend(methods.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase())));
    }
    assert!(routes.len() > 15, "{routes:?}");
    let end = Instant::now() + seconds();
    let mut round = 0;
    while round < LEAST || Instant::now() < end {
        for (path, method) in &routes {
            // Loading a model takes time, and its body is not read.
            if path == "/v1/reload" && round % 30 != 0 {
                continue;
            }
            let seed = round * 1000 + path.len() as u64;
            let mut random = Random(seed);
            let mut body = good_body(path, &workspace);
            if random.below(3) == 0 {
                body = body["requests"].get(0).cloned().unwrap_or(body);
            }
            for _ in 0..random.below(4) {
                common::disturb(&mut body, &mut random);
            }
            let mut bytes = body.to_string().into_bytes();
            let json_length = bytes.len();
            bytes.extend((0..random.below(40)).map(|_| 0));
            for _ in 0..[0, 0, 0, 1, 5][random.below(5)] {
                let place = random.below(bytes.len());
                bytes[place] = random.below(256) as u8;
            }
            let lengths =
                [json_length.to_string(), random.below(99999).to_string(), "-1".to_owned(), "x".to_owned()];
            let mut headers = Vec::new();
            if random.below(2) == 0 {
                headers.push(("inference-header-content-length", lengths[random.below(4)].as_str()));
            }
            if random.below(4) == 0 {
                headers.push(("content-type", ["application/grpc", "text/plain", "\u{e4}"][random.below(3)]));
            }
            let path = odd_path(path, &mut random);
            let answer = service.send(method, &path, &headers, &bytes);
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(
                (200..500).contains(&answer.status),
                "seed {seed}, {method} {path}: {} {text}",
                answer.status
            );
            assert!(!text.contains("NaN"), "seed {seed}, {method} {path}: {text}");
        }
        round += 1;
    }
    assert_eq!(service.send("GET", "/health/ready", &[], b"").status, 200);
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

/// Odd in one place, and a message all the same.
fn odd_infer(random: &mut Random) -> Infer {
    let mut infer = good_infer();
    let place = random.below(4);
    match random.below(12) {
        0 => infer.model_name = "\u{0}".to_owned(),
        1 => infer.model_version = "x".repeat(random.below(5000)),
        2 => drop(infer.inputs.remove(place)),
        3 => infer.inputs.push(infer.inputs[place].clone()),
        4 => {
            infer.inputs[place].datatype = ["", "FP16", "UINT64", "BOOL", "INT8"][random.below(5)].to_owned();
        }
        5 => infer.inputs[place].shape = vec![[-1, 0, i64::MAX, i64::MIN][random.below(4)]; random.below(3)],
        6 => infer.inputs[place].contents = None,
        7 => {
            infer.inputs[place].contents =
                Some(Contents { texts: vec![vec![0xff; random.below(9)]], ..Contents::default() });
        }
        8 => {
            infer.raw =
                (0..random.below(6)).map(|_| vec![random.below(256) as u8; random.below(20)]).collect();
        }
        9 => infer.outputs.push(Wanted { name: "pctcvrr".to_owned() }),
        10 => {
            let odd = [f64::NAN, f64::INFINITY, -f64::INFINITY, 1e300, -0.0];
            infer.inputs[1].contents =
                Some(Contents { real: vec![odd[random.below(5)]], ..Contents::default() });
        }
        _ => {
            infer.inputs[2].contents = Some(Contents {
                whole: vec![[i64::MIN, -1, 24, i64::MAX][random.below(4)]],
                ..Contents::default()
            });
        }
    }
    infer
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
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(service.address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let (status, answer) = call(&mut client, "ModelInfer", frame(&good_infer().encode_to_vec())).await;
        assert_eq!(status, 0);
        assert_eq!(Inferred::decode(&answer[5..]).unwrap().raw.len(), 3);
        let (end, mut round) = (Instant::now() + seconds(), 0);
        while round < 300 || Instant::now() < end {
            let mut random = Random(round);
            let infer = odd_infer(&mut random);
            let (status, answer) = call(&mut client, "ModelInfer", frame(&infer.encode_to_vec())).await;
            // OK, INVALID_ARGUMENT or NOT_FOUND.
            assert!([0, 3, 5].contains(&status), "seed {round}: {status}, {infer:?}");
            if status == 0 {
                for scores in Inferred::decode(&answer[5..]).unwrap().raw {
                    let scores =
                        scores.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
                    assert!(scores.into_iter().all(|score| (0.0..=1.0).contains(&score)), "seed {round}");
                }
            }
            // Bytes that are no message, and frames that are cut: the protocol's own errors, and the service goes on.
            let mut bytes = frame(&infer.encode_to_vec());
            for _ in 0..1 + random.below(4) {
                let place = random.below(bytes.len());
                bytes[place] = random.below(256) as u8;
            }
            bytes.truncate(bytes.len() - random.below(6));
            let method =
                ["ModelInfer", "ModelMetadata", "ModelReady", "ServerLive", "Nothing"][random.below(5)];
            call(&mut client, method, bytes).await;
            round += 1;
        }
    });
    assert_eq!(service.send("GET", "/health/ready", &[], b"").status, 200);
}
