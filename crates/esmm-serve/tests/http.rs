//! The service over loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::{Running, Workspace};
use esmm_run::correction::{CalibrationRecord, Platt, PlattFit};
use esmm_run::run_dir::RunDir;
use esmm_serve::Limits;
use serde_json::{Value, json};

fn user() -> Value {
    json!({ "user": "u1", "age": 30 })
}

fn item(tags: &[&str], price: f64) -> Value {
    json!({ "item": "i0", "tags": tags, "price": price })
}

/// Scores of a run directory's model, as `esmm predict` computes them.
#[test]
fn answers_equal_predictions() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    for body in [
        json!({ "user": user(), "context": { "hour": 7 }, "items": ["i1", "i2", "i4"] }),
        json!({ "user": user(), "context": { "hour": 7 }, "items": [workspace.item(1), workspace.item(2), workspace.item(4)] }),
        json!({ "user": user(), "context": { "hour": 7 }, "items": ["i1", workspace.item(2), { "item": "i4" }] }),
    ] {
        let answer = service.post("/v1/rank", &body).ok();
        let expected = workspace.predict(&[("u1", 30.0, 7)], &[1, 2, 4]);
        assert_eq!(answer["candidates"], 3);
        let items = answer["items"].as_array().unwrap();
        for item in items {
            let place = item["index"].as_u64().unwrap() as usize;
            assert_eq!(item["id"], ["i1", "i2", "i4"][place], "{answer}");
            for (name, expected) in ["pctr", "pcvr", "pctcvr"].iter().zip(expected[place]) {
                let found = item[name].as_f64().unwrap() as f32;
                assert!((found - expected).abs() <= 1e-6, "{name} of {place}: {found} instead of {expected}");
            }
        }
        let order: Vec<f64> = items.iter().map(|item| item["pctcvr"].as_f64().unwrap()).collect();
        assert!(order.is_sorted_by(|a, b| a >= b), "{order:?}");
    }
}

#[test]
fn orders_by_any_score_and_by_expected_value() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let ids: Vec<String> = (0..40).map(|item| format!("i{item}")).collect();
    let ask = |by: Value| {
        let body = json!({ "user": user(), "context": { "hour": 7 }, "items": ids, "by": by, "top": 5 });
        service.post("/v1/rank", &body).ok()["items"].as_array().unwrap().clone()
    };
    for by in ["pctr", "pcvr", "pctcvr"] {
        let items = ask(json!(by));
        let scores: Vec<f64> = items.iter().map(|item| item[by].as_f64().unwrap()).collect();
        assert!(scores.len() == 5 && scores.is_sorted_by(|a, b| a >= b), "{by}: {scores:?}");
    }
    let items = ask(json!({ "value": "price" }));
    let values: Vec<f64> = items.iter().map(|item| item["value"].as_f64().unwrap()).collect();
    assert!(values.is_sorted_by(|a, b| a >= b));
    for item in &items {
        let number: usize = item["id"].as_str().unwrap()[1..].parse().unwrap();
        let expected = item["pctcvr"].as_f64().unwrap() * f64::from(common::price(number));
        assert!((item["value"].as_f64().unwrap() - expected).abs() < 1e-5 * expected.abs());
    }
}

#[test]
fn unknown_ids_are_counted_and_wrong_requests_are_named() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let rank = |body: Value| service.post("/v1/rank", &body);
    let answer = rank(json!({ "user": { "user": "nobody", "age": null }, "context": { "hour": 7 }, "items": ["i1", "nothing"] })).ok();
    assert_eq!((&answer["unknown_items"], &answer["unknown"]), (&json!(["nothing"]), &json!({ "user": 1 })));
    assert_eq!((&answer["missing"], answer.get("outside")), (&json!({ "age": 1 }), None));
    // Missing is not unknown, and what a feature does not take follows its `outside`: an hour beyond the table is missing.
    let body = |user: Value, hour: i64| json!({ "user": { "user": user, "age": 3 }, "context": { "hour": hour }, "items": ["i1"] });
    let answer = rank(body(Value::Null, 24)).ok();
    assert_eq!((&answer["missing"], answer.get("unknown")), (&json!({ "user": 1 }), None));
    assert_eq!(answer["outside"], json!({ "hour": 1 }));
    let text = service.send("GET", "/metrics", &[], b"").text();
    for line in [
        "esmm_values_total{feature=\"user\"} 2",
        "esmm_missing_values_total{feature=\"user\"} 1",
        "esmm_unknown_values_total{feature=\"user\"} 1",
        "esmm_missing_values_total{feature=\"age\"} 1",
        "esmm_outside_values_total{feature=\"hour\"} 1",
        "esmm_outside_values_total{feature=\"age\"} 0",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    let refused = |body: Value, words: &[&str]| {
        let (status, text) = rank(body).refused();
        assert!(status == 400 && words.iter().all(|word| text.contains(word)), "{status}: {text}");
    };
    let context = json!({ "hour": 7 });
    refused(json!({ "user": { "user": "u1" }, "context": context, "items": ["i1"] }), &["`age` is missing"]);
    refused(
        json!({ "user": { "user": "u1", "Age": 3 }, "context": context, "items": ["i1"] }),
        &["`age` is missing", "`Age`"],
    );
    refused(
        json!({ "user": { "user": "u1", "age": "old" }, "context": context, "items": ["i1"] }),
        &["`age`", "`old`"],
    );
    refused(
        json!({ "user": { "user": ["u1"], "age": 3 }, "context": context, "items": ["i1"] }),
        &["`user`", "a list"],
    );
    refused(json!({ "user": user(), "context": { "hour": "noon" }, "items": ["i1"] }), &["`hour`", "`noon`"]);
    refused(
        json!({ "user": user(), "context": context, "items": [item(&["a"], 1e300)] }),
        &["`price`", "32 bits"],
    );
    refused(
        json!({ "user": user(), "context": context, "items": [{ "tags": [] }] }),
        &["items[0]", "is missing"],
    );
    refused(
        json!({ "user": user(), "context": context, "items": ["i1"], "by": "pctcv" }),
        &["`pctcv`", "`pctcvr`"],
    );
    refused(
        json!({ "user": user(), "context": context, "items": ["i1"], "by": { "value": "weight" } }),
        &["`weight`"],
    );
    let twice = br#"{"user": {"user": "u1", "age": 3, "age": 4}, "context": {"hour": 7}, "items": ["i1"]}"#;
    let (status, text) = service.send("POST", "/v1/rank", &[], twice).refused();
    assert!(status == 400 && text.contains("`age` is there twice"), "{text}");
    let both = json!({ "hour": 7, "age": 31 });
    refused(json!({ "user": user(), "context": both, "items": ["i1"] }), &["`age` is there twice, in both"]);
    refused(
        json!({ "user": user(), "context": context, "items": [], "top": -1 }),
        &["a whole number from 0 on"],
    );
    refused(json!({ "user": user(), "context": context, "itms": ["i1"] }), &["itms"]);
    refused(json!({ "requests": [{ "items": ["i1"] }] }), &["requests[0]", "is missing"]);
    let (status, text) = service.send("POST", "/v1/rank", &[], b"{\"user\": \xff").refused();
    assert!(status == 400 && text.contains("the body"), "{text}");
    assert_eq!(service.send("GET", "/v1/rank", &[], b"").status, 405);
    assert_eq!(service.send("GET", "/../etc/passwd", &[], b"").status, 404);
}

#[test]
fn limits_refuse_and_say_how_much_is_allowed() {
    let workspace = Workspace::new(3);
    let limits = Limits { body: 1000, candidates: 3, time: Duration::from_millis(300), ..Limits::default() };
    let service = Running::start(&workspace, limits, None);
    let body = json!({ "user": user(), "context": { "hour": 7 }, "items": ["i1", "i2", "i3", "i4"] });
    let (status, text) = service.post("/v1/rank", &body).refused();
    assert!(status == 413 && text.contains("4 candidates, at most 3"), "{text}");
    let long = "x".repeat(2000);
    let (status, text) =
        service.post("/v1/rank", &json!({ "user": { "user": long }, "items": [] })).refused();
    assert!(status == 413 && text.contains("1000 bytes"), "{status}: {text}");
    // A client that never ends its body.
    let mut slow = service.connect();
    slow.write_all(b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").unwrap();
    let start = Instant::now();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert!(start.elapsed() < Duration::from_secs(5));
    // One that goes away in the middle does no harm.
    let mut gone = service.connect();
    gone.write_all(b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").unwrap();
    drop(gone);
    assert_eq!(service.send("GET", "/health/ready", &[], b"").status, 200);
}

/// A client that has sent all and says so gets its answer; one that has not is told, in JSON; packed bodies are not taken.
#[test]
fn bodies_that_end_early_or_are_packed() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let body = json!({ "user": user(), "context": { "hour": 7 }, "items": ["i1"] }).to_string();
    for (missing, status, words) in
        [(0, "200", "\"pctcvr\""), (1, "400", "{\"error\":\"the body could not be read")]
    {
        let mut stream = service.connect();
        let length = body.len() + missing;
        write!(stream, "POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(words), "{answer}");
    }
    let packed = service.send("POST", "/v1/rank", &[("content-encoding", "gzip")], body.as_bytes());
    let (status, text) = packed.refused();
    assert!(status == 415 && text.contains("\"gzip\""), "{text}");
    let plain = service.send("POST", "/v1/rank", &[("content-encoding", "identity")], body.as_bytes());
    assert_eq!(plain.status, 200);
}

#[test]
fn no_request_waits_when_as_many_as_allowed_are_under_way() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits { requests: 0, ..Limits::default() }, None);
    let body = json!({ "user": user(), "context": { "hour": 7 }, "items": ["i1"] });
    let answer = service.post("/v1/rank", &body);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1".to_owned())));
}

#[test]
fn the_token_guards_all_but_health_and_page() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), Some("secret".to_owned()));
    for (path, open) in [
        ("/", true),
        ("/health/live", true),
        ("/health/ready", true),
        ("/v2/health/live", true),
        ("/v1/model", false),
        ("/metrics", false),
        ("/openapi.json", false),
        ("/v2", false),
        ("/v2/models/esmm", false),
        ("/nowhere", false),
    ] {
        let expected = if open { 200 } else { 401 };
        assert_eq!(service.send("GET", path, &[], b"").status, expected, "{path}");
        for wrong in ["Bearer secre", "Bearer secrett", "Bearer ", "secret", "Basic secret", "Bearer \u{e4}"]
        {
            assert_eq!(
                service.send("GET", path, &[("authorization", wrong)], b"").status,
                expected,
                "{path}, {wrong}"
            );
        }
        let right = service.send("GET", path, &[("authorization", "bearer secret")], b"").status;
        assert_eq!(right, if path == "/nowhere" { 404 } else { 200 }, "{path}");
    }
}

#[test]
fn a_new_model_is_taken_over_and_a_broken_one_is_not() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let body = json!({ "user": user(), "context": { "hour": 7 }, "items": ["i1"] });
    let first = service.post("/v1/rank", &body).ok();
    // Another model, by the moved link; requests run meanwhile.
    let address = service.address;
    let asking = std::thread::spawn({
        let body = body.to_string();
        move || {
            let end = Instant::now() + Duration::from_secs(2);
            let mut statuses = Vec::new();
            while Instant::now() < end {
                statuses.push(common::send(address, "POST", "/v1/rank", &[], body.as_bytes()).status);
            }
            statuses
        }
    });
    workspace.train(9, "second");
    workspace.link("second");
    assert_eq!(service.send("POST", "/v1/reload", &[], b"").status, 200);
    let second = service.post("/v1/rank", &body).ok();
    assert_ne!(first["version"], second["version"]);
    assert_ne!(first["items"], second["items"]);
    // A model without its weights.
    std::fs::remove_file(workspace.path("second/model.safetensors")).unwrap();
    let (status, text) = service.send("POST", "/v1/reload", &[], b"").refused();
    assert!(
        status == 409 && text.contains("the old model goes on") && text.contains("model.safetensors"),
        "{text}"
    );
    assert_eq!(service.post("/v1/rank", &body).ok()["items"], second["items"]);
    let model = service.send("GET", "/v1/model", &[], b"").ok();
    assert!(model["last_reload_failed"].as_str().unwrap().contains("model.safetensors"));
    let statuses = asking.join().unwrap();
    assert!(statuses.len() > 10 && statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[test]
fn a_moved_link_is_seen_without_being_told() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let version = || service.send("GET", "/v1/model", &[], b"").ok()["version"].clone();
    let first = version();
    workspace.train(9, "second");
    workspace.link("second");
    let end = Instant::now() + Duration::from_secs(20);
    while version() == first {
        assert!(Instant::now() < end, "the link moved, the model did not");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What was done to the probabilities is said with them, and with the model.
#[test]
fn corrections_are_named() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let body = json!({ "user": user(), "context": { "hour": 7 }, "items": ["i1"] });
    let calibrated = || service.post("/v1/rank", &body).ok()["calibrated"].clone();
    let corrections = || service.send("GET", "/v1/model", &[], b"").ok()["corrections"].clone();
    assert_eq!(
        (calibrated(), corrections()),
        (json!(false), json!({ "negative_rate": null, "calibration": null }))
    );
    let run = RunDir::open(&workspace.path("first")).unwrap();
    let platt = Platt { slope: 1.0, intercept: -0.5 };
    let fits = [PlattFit { platt, slope_error: 0.1, intercept_error: 0.1 }; 2];
    let (data, stages) = (["rows.csv".to_owned()], ["click", "conversion"].map(str::to_owned));
    let record = CalibrationRecord::new(&run, &data, 500, &stages, &fits, Vec::new()).unwrap();
    record.write(&run).unwrap();
    assert_eq!(service.send("POST", "/v1/reload", &[], b"").status, 200);
    let stage = |name: &str| json!({ "stage": name, "slope": 1.0, "intercept": -0.5 });
    let stages = [stage("click"), stage("conversion")];
    let calibration = json!({ "method": "platt", "rows": 500, "stages": stages });
    let expected = json!({ "negative_rate": null, "calibration": calibration });
    assert_eq!((calibrated(), corrections()), (json!(true), expected));
    workspace.train_with(3, "sampled", "[labels]\nnegative_rate = 0.25\n");
    workspace.link("sampled");
    assert_eq!(service.send("POST", "/v1/reload", &[], b"").status, 200);
    assert_eq!(
        (calibrated(), corrections()),
        (json!(false), json!({ "negative_rate": 0.25, "calibration": null }))
    );
}

#[test]
fn metrics_description_and_ids_of_requests() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let body = json!({ "user": user(), "context": { "hour": 7 }, "items": ["i1", "?"] });
    let answer = service.send("POST", "/v1/rank", &[("x-request-id", "mine-1")], body.to_string().as_bytes());
    assert_eq!(answer.header("x-request-id"), Some("mine-1".to_owned()));
    let answer = service.send("GET", "/health/live", &[("x-request-id", "with space")], b"");
    assert!(!answer.header("x-request-id").unwrap().contains(' '));
    let text = service.send("GET", "/metrics", &[], b"").text();
    for line in [
        "esmm_request_seconds_count{route=\"/v1/rank\",status=\"200\"} 1",
        "esmm_unknown_items_total 1",
        "esmm_candidates_sum 1.0",
        "esmm_catalogue_items 40",
        "esmm_model_info{name=\"esmm\",version=\"",
        "esmm_values_total{feature=\"user\"} 1",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    let described = service.send("GET", "/openapi.json", &[], b"").ok();
    assert_eq!(described["openapi"], "3.1.0");
    for (path, methods) in described["paths"].as_object().unwrap() {
        let path = path.replace("{model}", "esmm").replace("{version}", "none");
        for method in methods.as_object().unwrap().keys() {
            let status = service.send(&method.to_uppercase(), &path, &[], b"").status;
            assert!(status != 405 && status < 500, "{method} {path}: {status}");
        }
    }
    let page = service.send("GET", "/", &[], b"");
    assert!(page.text().contains("<!DOCTYPE html>") && page.header("content-security-policy").is_some());
    assert!(
        !page.text().contains("http://") && !page.text().contains("https://"),
        "it loads nothing from elsewhere"
    );
}

#[test]
fn the_open_inference_protocol_answers_as_rank_does() {
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let model = service.send("GET", "/v2/models/esmm", &[], b"").ok();
    let names: Vec<&str> =
        model["inputs"].as_array().unwrap().iter().map(|input| input["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["user", "age", "hour", "item", "tags", "price"]);
    let request = json!({ "id": "7", "inputs": [
        { "name": "user", "datatype": "BYTES", "shape": [1], "data": ["u1"] },
        { "name": "age", "datatype": "FP64", "shape": [1, 1], "data": [[30]] },
        { "name": "hour", "datatype": "INT64", "shape": [1], "data": [7] },
        { "name": "item", "datatype": "BYTES", "shape": [3], "data": ["i1", "i2", "i4"] },
    ] });
    let answer = service.post("/v2/models/esmm/infer", &request).ok();
    let expected = workspace.predict(&[("u1", 30.0, 7)], &[1, 2, 4]);
    assert_eq!(answer["id"], "7");
    for (place, name) in ["pctr", "pcvr", "pctcvr"].iter().enumerate() {
        let output = &answer["outputs"][place];
        assert_eq!((&output["name"], &output["shape"]), (&json!(name), &json!([3])));
        for (row, expected) in expected.iter().enumerate() {
            let found = output["data"][row].as_f64().unwrap() as f32;
            assert!((found - expected[place]).abs() <= 1e-6);
        }
    }
    let (status, text) = service.post("/v2/models/other/infer", &request).refused();
    assert!(status == 404 && text.contains("`esmm`"), "{text}");
    let mut wrong = request.clone();
    wrong["inputs"][0]["name"] = json!("usr");
    let (status, text) = service.post("/v2/models/esmm/infer", &wrong).refused();
    assert!(status == 400 && text.contains("`usr`") && text.contains("`user`"), "{text}");
}
