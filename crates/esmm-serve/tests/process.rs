//! The `esmm-serve` command as a process: signals, kills, many connections, files that are not there.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::Workspace;
use serde_json::{Value, json};

/// A process that is killed when it is dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

fn command(workspace: &Workspace, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esmm-serve"));
    command.current_dir(workspace.path(".")).args(args).env_remove("ESMM_SERVE_TOKEN");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Everything of a process that ends by itself.
fn ended(workspace: &Workspace, args: &[&str]) -> (i32, String) {
    let Output { status, stderr, .. } = command(workspace, args).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

impl Process {
    /// With the catalogue, on `listen`.
    fn start(workspace: &Workspace, listen: &str) -> Self {
        let items =
            ["current", "--items", "items.csv", "--key", "item", "--values", "price", "--listen", listen];
        let mut child = command(workspace, &items).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap();
        Self { child, address }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    fn get(&self, path: &str) -> u16 {
        common::send(self.address, "GET", path, &[], b"").status
    }

    fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "the process does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn body() -> String {
    json!({ "user": { "user": "u1", "age": 30 }, "context": { "hour": 7 }, "items": ["i1", "i2", "i4"] })
        .to_string()
}

/// Open files that this process may have.
fn most_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or("Max open files 256");
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(1 << 20)
}

#[test]
fn a_signal_lets_requests_under_way_finish() {
    let workspace = Workspace::new(3);
    for signal in ["TERM", "INT"] {
        let mut process = Process::start(&workspace, "127.0.0.1:0");
        let body = body();
        let mut stream = TcpStream::connect(process.address).unwrap();
        let head = format!("POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body.as_bytes()[..10]).unwrap();
        assert_eq!(process.get("/health/ready"), 200);
        process.signal(signal);
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(process.address).is_ok() {
            assert!(Instant::now() < end, "{signal}: it goes on accepting");
            std::thread::sleep(Duration::from_millis(5));
        }
        stream.write_all(&body.as_bytes()[10..]).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("pctcvr"), "{signal}: {answer}");
        assert_eq!(process.wait(), Some(0), "{signal}");
    }
}

/// Clients that try again see the same scores after as before, and nothing but broken connections between.
#[test]
fn killed_and_started_again_under_load() {
    let workspace = Workspace::new(3);
    let mut process = Process::start(&workspace, "127.0.0.1:0");
    let address = process.address;
    let expected = common::send(address, "POST", "/v1/rank", &[], body().as_bytes()).ok()["items"].clone();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, expected) = (stop.clone(), expected.clone());
            std::thread::spawn(move || {
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    if let Some(answer) =
                        common::try_send(address, "POST", "/v1/rank", &[], body().as_bytes())
                    {
                        assert_eq!(answer.ok()["items"], expected);
                        answered += 1;
                    }
                }
                answered
            })
        })
        .collect();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(200));
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        process = Process::start(&workspace, &address.to_string());
        assert_eq!(process.get("/health/ready"), 200);
    }
    std::thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap() > 20);
    }
}

/// As many as this process may open, 10,000 at most: each costs the service little, and others are answered.
#[test]
fn ten_thousand_idle_connections() {
    let workspace = Workspace::new(3);
    let process = Process::start(&workspace, "127.0.0.1:0");
    let count = most_files().saturating_sub(200).min(10_000);
    let mut idle = Vec::with_capacity(count);
    for place in 0..count {
        let mut stream = TcpStream::connect(process.address).unwrap();
        if place % 2 == 0 {
            // The others send nothing at all.
            stream.write_all(b"GET /health/live HTTP/1.1\r\nhost").unwrap();
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        let start = Instant::now();
        let answer = common::send(process.address, "POST", "/v1/rank", &[], body().as_bytes());
        assert_eq!(answer.ok()["candidates"], 3);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    // The system hands over a client that found no room a second later.
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = common::send(process.address, "GET", "/metrics", &[], b"").text();
        let open = metrics.lines().find_map(|line| line.strip_prefix("esmm_connections ")).unwrap();
        if open.parse::<usize>().unwrap() >= count {
            break;
        }
        assert!(Instant::now() < end, "{open} of {count}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap_or_default();
    let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    if let Some(kibibytes) = memory.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<usize>().ok()) {
        assert!(kibibytes < 200_000 + count * 40, "{kibibytes} KiB with {count} connections");
    }
}

/// Without arguments: the built-in funnel is trained once, also where a training was killed, and served with its items.
#[test]
fn without_arguments_it_trains_the_funnel_and_serves_it() {
    let workspace = Workspace::new(3);
    let start = || {
        let mut child = command(&workspace, &["--listen", "127.0.0.1:0"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap();
        Process { child, address }
    };
    let mut killed = command(&workspace, &["--listen", "127.0.0.1:0"]).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !workspace.path("runs/served/config.json").exists() {
        assert!(Instant::now() < end, "no training begins");
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let process = start();
    let user = json!({ "user_id": 17, "segment": 3, "age": 41, "user_history": ["c1", "c4"] });
    let request = json!({ "user": user, "context": { "hour": 20, "campaign": 2 }, "items": [4, 9, 499], "by": { "value": "price" } });
    let ask = |process: &Process| {
        common::send(process.address, "POST", "/v1/rank", &[], request.to_string().as_bytes()).ok()
    };
    let answer = ask(&process);
    assert!(answer["items"].as_array().unwrap().len() == 3 && answer.get("unknown").is_none(), "{answer}");
    let model = common::send(process.address, "GET", "/v1/model", &[], b"").ok();
    assert!(model["metrics"]["test"]["ctr"]["auc"].as_f64().unwrap() > 0.65, "{model}");
    drop(process);
    let written =
        std::fs::metadata(workspace.path("runs/served/model.safetensors")).unwrap().modified().unwrap();
    assert_eq!(ask(&start()), answer);
    let still =
        std::fs::metadata(workspace.path("runs/served/model.safetensors")).unwrap().modified().unwrap();
    assert_eq!(written, still, "it was trained again");
}

#[test]
fn what_cannot_be_served_is_said_in_one_line() {
    let workspace = Workspace::new(3);
    let listen = ["--listen", "127.0.0.1:0"];
    let refused = |args: &[&str], code: i32, words: &[&str]| {
        let (found, said) = ended(&workspace, &[args, &listen].concat());
        let line = said.lines().last().unwrap_or_default();
        assert!(line.starts_with("error: ") && words.iter().all(|word| line.contains(word)), "{said}");
        assert_eq!(found, code, "{said}");
    };
    refused(&["nowhere"], 1, &["nowhere", "cannot be read"]);
    refused(&["."], 1, &["model.safetensors"]);
    refused(&["current", "--items", "items.csv", "--key", "id"], 1, &["`id`"]);
    refused(&["current", "--items", "missing.csv", "--key", "item"], 1, &["missing.csv"]);
    refused(&["current", "--per-candidate", "user"], 1, &["`user`", "hour"]);
    refused(
        &["current", "--tls-cert", "items.csv", "--tls-key", "items.csv"],
        2,
        &["items.csv", "certificate"],
    );
    refused(&["current", "--token-file", "missing.txt"], 2, &["missing.txt"]);
    let (code, said) = ended(&workspace, &["current", "--listen", "0.0.0.0:0"]);
    assert!(code == 2 && said.contains("--no-token") && said.contains("ESMM_SERVE_TOKEN"), "{said}");
    let (code, said) = ended(&workspace, &["current", "--key", "item"]);
    assert!(code == 2 && said.contains("--items"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, said) = ended(&workspace, &["current", "--listen", &taken.local_addr().unwrap().to_string()]);
    assert!(code == 1 && said.contains("--listen"), "{said}");
    // Weights that the training did not write.
    std::fs::write(workspace.path("current/model.safetensors"), "other").unwrap();
    refused(&["current"], 1, &["model.safetensors", "--accept-weights"]);
}

#[test]
fn a_token_from_a_file_opens_the_service_to_others() {
    let workspace = Workspace::new(3);
    std::fs::write(workspace.path("token.txt"), "secret\n").unwrap();
    let args =
        ["current", "--token-file", "token.txt", "--listen", "0.0.0.0:0", "--log", "json", "--verbose"];
    let mut child = command(&workspace, &args).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().trim_end_matches('/').rsplit(':').next().unwrap();
    let process = Process { child, address: format!("127.0.0.1:{port}").parse().unwrap() };
    let status = |token: &str| {
        let header = [("authorization", token), ("x-request-id", "mine-7")];
        common::send(process.address, "GET", "/v1/model", &header, b"").status
    };
    assert_eq!((status("Bearer secret"), status("Bearer other")), (200, 401));
    let mut process = process;
    process.signal("TERM");
    assert_eq!(process.wait(), Some(0));
    let mut log = String::new();
    process.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_requests: Vec<&Value> =
        lines.iter().map(|line| &line["fields"]).filter(|fields| fields["request_id"] == "mine-7").collect();
    assert_eq!(of_requests.len(), 2, "{log}");
    assert_eq!((&of_requests[0]["status"], &of_requests[0]["route"]), (&json!(200), &json!("/v1/model")));
    assert!(!log.contains("secret"), "{log}");
}

/// Nobody reads the address, or the log: neither ends the service.
#[test]
fn closed_and_full_outputs_do_no_harm() {
    let workspace = Workspace::new(3);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let mut command = command(&workspace, &["current", "--verbose", "--listen", &address.to_string()]);
    let child = command.stdout(full()).stderr(full()).spawn().unwrap();
    let process = Process { child, address };
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < end, "it does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    (0..5).for_each(|_| assert_eq!(process.get("/health/ready"), 200));
}
