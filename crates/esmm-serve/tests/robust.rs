//! Clients and files that misbehave.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::{Running, Workspace};
use esmm_serve::Limits;
use serde_json::{Value, json};

fn body(items: Value) -> Value {
    json!({ "user": { "user": "u1", "age": 30 }, "context": { "hour": 7 }, "items": items })
}

/// A million candidates: refused by the limit of candidates, or by that of the body, and at once.
#[test]
fn a_million_candidates_are_refused() {
    let workspace = Workspace::new(3);
    let ids: Vec<Value> = (0..1_000_000).map(Value::from).collect();
    let many = body(Value::from(ids));
    for (limit, words) in [(64 << 20, "1000000 candidates, at most 10000"), (1 << 20, "1048576 bytes")] {
        let service = Running::start(&workspace, Limits { body: limit, ..Limits::default() }, None);
        let (status, text) = service.post("/v1/rank", &many).refused();
        assert!(status == 413 && text.contains(words), "{status}: {text}");
        assert_eq!(service.post("/v1/rank", &body(json!(["i1"]))).ok()["candidates"], 1);
    }
}

/// As many as the limit allows, on a thread of their own: the answer equals that of small requests.
#[test]
fn many_candidates_have_the_scores_of_few() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let few = service.post("/v1/rank", &body(json!(["i1", "i2", "i4"]))).ok();
    let ids: Vec<&str> = ["i1", "i2", "i4"].into_iter().cycle().take(9_999).collect();
    let many = service.post("/v1/rank", &body(json!(ids))).ok();
    assert_eq!(many["candidates"], 9_999);
    let score = |answer: &Value, place: usize| {
        let items = answer["items"].as_array().unwrap();
        items.iter().find(|item| item["index"] == place).unwrap()["pctcvr"].clone()
    };
    (0..9_999).step_by(777).for_each(|place| assert_eq!(score(&many, place), score(&few, place % 3)));
}

#[test]
fn connections_without_requests_are_closed() {
    let workspace = Workspace::new(3);
    let limits = Limits { idle: Duration::from_millis(300), ..Limits::default() };
    let service = Running::start(&workspace, limits, None);
    // Nothing at all, half a header, one header byte after the other, and a finished request.
    let beginnings: [&[u8]; 4] = [
        b"",
        b"GET /health",
        b"GET /health/live HTTP/1.1\r\nhost: x\r\n",
        b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n",
    ];
    for (place, beginning) in beginnings.into_iter().enumerate() {
        let mut stream = service.connect();
        stream.write_all(beginning).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (start, mut bytes) = (Instant::now(), [0; 1000]);
        loop {
            if place == 2 {
                let _ = stream.write_all(b"x");
            }
            match stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(_) => assert!(start.elapsed() < Duration::from_secs(10), "{place}: still open"),
            }
        }
        assert!(start.elapsed() >= Duration::from_millis(250), "{place}: closed at once");
    }
}

/// A client that asks and does not read: its connection is closed, and what it asked for is forgotten.
#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let workspace = Workspace::new(3);
    let limits = Limits { idle: Duration::from_millis(300), ..Limits::default() };
    let service = Running::start(&workspace, limits, None);
    let text = body(json!(vec!["i1"; 5_000])).to_string();
    let request =
        format!("POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    let mut deaf = service.connect();
    deaf.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let open = || {
        let metrics = service.send("GET", "/metrics", &[], b"").text();
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("esmm_connections ")).unwrap().to_owned();
        line.parse::<usize>().unwrap()
    };
    // Until the buffers of both sides are full.
    for _ in 0..200 {
        if deaf.write_all(request.as_bytes()).is_err() {
            break;
        }
    }
    let end = Instant::now() + Duration::from_secs(20);
    // The one that asks for the metrics is open.
    while open() > 1 {
        assert!(Instant::now() < end, "still open");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// NaN is a missing value, as in files; infinity is refused; neither comes out.
#[test]
fn nan_goes_in_and_never_comes_out() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let ask = |age: f64| {
        let input = json!({ "inputs": [
            { "name": "user", "datatype": "BYTES", "shape": [1], "data": ["u1"] },
            { "name": "hour", "datatype": "INT64", "shape": [1], "data": [7] },
            { "name": "item", "datatype": "BYTES", "shape": [1], "data": ["i1"] },
            { "name": "age", "datatype": "FP64", "shape": [1], "parameters": { "binary_data_size": 8 } },
        ] })
        .to_string();
        let bytes = [input.as_bytes(), &age.to_le_bytes()].concat();
        let length = input.len().to_string();
        service.send("POST", "/v2/models/esmm/infer", &[("inference-header-content-length", &length)], &bytes)
    };
    assert_eq!(ask(f64::NAN).ok()["outputs"], ask(30.0).ok()["outputs"], "30 stands for a missing age");
    for age in [f64::INFINITY, f64::NEG_INFINITY, 1e300] {
        let (status, text) = ask(age).refused();
        assert!(status == 400 && text.contains("`age`"), "{text}");
    }
    // Numbers that are finite and drive the sums out of the range of floats.
    let mut item = workspace.item(1);
    for price in [1e38, -1e38] {
        item["price"] = json!(price);
        let answer = service.post("/v1/rank", &body(json!([item])));
        match answer.status {
            200 => {
                let score = answer.ok()["items"][0]["pctcvr"].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&score));
            }
            _ => assert!(answer.refused().1.contains("out of the range")),
        }
    }
}

/// A link that moves all the time, a directory that is replaced while it is read, reloads all the time: every answer is one
/// of the two models', and none fails.
#[test]
fn models_change_while_they_are_asked_and_read() {
    let workspace = Workspace::new(3);
    workspace.train(9, "second");
    let service = Running::start(&workspace, Limits::default(), None);
    let request = body(json!(["i1", "i2", "i4"]));
    let mut known = HashMap::new();
    for name in ["second", "first"] {
        workspace.link(name);
        service.send("POST", "/v1/reload", &[], b"").ok();
        let answer = service.post("/v1/rank", &request).ok();
        known.insert(answer["version"].as_str().unwrap().to_owned(), answer["items"].clone());
    }
    assert_eq!(known.len(), 2);
    let (address, text) = (service.address, request.to_string());
    let end = Instant::now() + Duration::from_secs(3);
    let asking: Vec<_> = (0..2)
        .map(|_| {
            let (known, text) = (known.clone(), text.clone());
            std::thread::spawn(move || {
                let mut versions = HashMap::<String, usize>::new();
                while Instant::now() < end {
                    let answer = common::send(address, "POST", "/v1/rank", &[], text.as_bytes()).ok();
                    let version = answer["version"].as_str().unwrap().to_owned();
                    assert_eq!(known[&version], answer["items"]);
                    *versions.entry(version).or_default() += 1;
                }
                versions
            })
        })
        .collect();
    let reloading = std::thread::spawn(move || {
        let mut statuses = Vec::new();
        while Instant::now() < end {
            statuses.push(common::send(address, "POST", "/v1/reload", &[], b"").status);
        }
        statuses
    });
    let weights = ["first", "second"]
        .map(|name| std::fs::read(workspace.path(name).join("model.safetensors")).unwrap());
    let mut round = 0;
    while Instant::now() < end {
        workspace.link(["first", "second"][round % 2]);
        std::thread::sleep(Duration::from_millis(17));
        // Half-written weights: not what the manifest says.
        let path = workspace.path("second/model.safetensors");
        std::fs::write(&path, &weights[1][..weights[1].len() / 2]).unwrap();
        std::thread::sleep(Duration::from_millis(17));
        std::fs::write(&path, &weights[1]).unwrap();
        round += 1;
    }
    let versions =
        asking.into_iter().map(|asking| asking.join().unwrap()).fold(HashMap::new(), |mut all, some| {
            some.into_iter().for_each(|(version, count)| *all.entry(version).or_insert(0) += count);
            all
        });
    let statuses = reloading.join().unwrap();
    assert!(
        statuses.iter().all(|status| [200, 409].contains(status)) && statuses.contains(&200),
        "{statuses:?}"
    );
    assert_eq!(versions.len(), 2, "{versions:?}");
}
