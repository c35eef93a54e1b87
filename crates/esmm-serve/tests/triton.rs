//! Triton's own clients against the service.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::Write;
use std::process::Command;

use common::{Running, Workspace};
use esmm_serve::Limits;
use serde_json::json;

/// Names a Python with the packages of `tests/serving/requirements.txt`.
const PYTHON: &str = "ESMM_SERVING_PYTHON";

#[test]
fn clients_of_triton_get_predictions() {
    let Some(python) = std::env::var_os(PYTHON) else {
        // Not captured, as `eprintln!` would be.
        let _ = writeln!(
            std::io::stderr(),
            "skipped the check with Triton's clients: set {PYTHON} to a Python that has the packages of \
             tests/serving/requirements.txt"
        );
        return;
    };
    let workspace = Workspace::new(3);
    let service = Running::start(&workspace, Limits::default(), None);
    let rows = workspace.predict(&[("u1", 30.0, 7)], &[1, 2, 4]);
    let output = |place: usize| rows.iter().map(|row| row[place]).collect::<Vec<f32>>();
    let expected = json!({
        "model": "esmm",
        "inputs": {
            "user": ["BYTES", ["u1"]],
            "age": ["FP64", [30.0]],
            "hour": ["INT64", [7]],
            "item": ["BYTES", ["i1", "i2", "i4"]],
        },
        "outputs": { "pctr": output(0), "pcvr": output(1), "pctcvr": output(2) },
    });
    let path = workspace.path("expected.json");
    std::fs::write(&path, expected.to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/serving/check_triton.py");
    let output =
        Command::new(python).arg(script).arg(service.address.to_string()).arg(&path).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", said(&output.stdout), said(&output.stderr));
}
