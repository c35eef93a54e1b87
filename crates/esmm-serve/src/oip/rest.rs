//! The REST side of the protocol.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::binary::{HEADER_LENGTH, split, take};
use super::infer::{self, Described, Inferred};
use super::tensor::{DataType, Tensor};
use crate::failure::Failure;
use crate::http::sent::Sent;
use crate::model::Loaded;
use crate::service::Service;

/// Platform and extensions of the metadata.
pub(super) const PLATFORM: &str = "esmm";
pub(super) const EXTENSIONS: [&str; 1] = ["binary_tensor_data"];

/// Name and version of a model in a path.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    model: String,
    version: Option<String>,
}

#[derive(Deserialize)]
struct InferRequest {
    #[serde(default)]
    id: String,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Vec<Output>,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    data: Option<Value>,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

pub(crate) async fn server() -> Response {
    as_json(&json!({ "name": "esmm-serve", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }))
}

pub(crate) async fn model(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
) -> Result<Response, Failure> {
    let loaded = check(&service, &named)?;
    let all = |tensors: Vec<Described>| -> Vec<Value> {
        let described = |tensor: Described| json!({ "name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape });
        tensors.into_iter().map(described).collect()
    };
    Ok(as_json(&json!({
        "name": loaded.name,
        "versions": [loaded.version],
        "platform": PLATFORM,
        "inputs": all(infer::inputs(&loaded)),
        "outputs": all(infer::outputs(&loaded)),
    })))
}

pub(crate) async fn model_ready(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
) -> Result<Response, Failure> {
    let loaded = check(&service, &named)?;
    Ok(as_json(&json!({ "name": loaded.name, "ready": true })))
}

pub(crate) async fn infer(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    Sent(body): Sent,
) -> Result<Response, Failure> {
    check(&service, &named)?;
    let refused = |message: String| {
        service.metrics.refused("bad request");
        Failure::bad(message)
    };
    let (text, mut rest) = split(&headers, &body).map_err(refused)?;
    let request: InferRequest =
        serde_json::from_slice(&text).map_err(|error| refused(format!("the body: {error}")))?;
    let mut tensors = Vec::with_capacity(request.inputs.len());
    for input in request.inputs {
        tensors.push(tensor(input, &mut rest).map_err(refused)?);
    }
    let wanted: Vec<String> = request.outputs.iter().map(|output| output.name.clone()).collect();
    let as_binary = flag(&request.parameters, "binary_data_output");
    let binary: Vec<(String, bool)> = request
        .outputs
        .into_iter()
        .map(|output| {
            let asked = output.parameters.get("binary_data").and_then(Value::as_bool);
            (output.name, asked.unwrap_or(as_binary))
        })
        .collect();
    let is_binary = move |name: &str| {
        binary.iter().find(|(other, _)| other == name).map_or(as_binary, |(_, binary)| *binary)
    };
    let candidates = infer::candidates(&tensors);
    let metrics = service.clone();
    let work = move |loaded: &Loaded, worker: &mut crate::rank::run::Worker| {
        let inferred = infer::infer(loaded, &tensors, &wanted, worker).map_err(Failure::bad)?;
        metrics.metrics.ranked(inferred.candidates, 0);
        metrics.metrics.looked_up(&inferred.counts);
        Ok((loaded.name.clone(), loaded.version.clone(), inferred))
    };
    service.admit(candidates)?;
    let (name, version, inferred) = service.compute(candidates > infer::SHORT, work).await?;
    Ok(answer(&name, &version, &request.id, &inferred, is_binary))
}

fn tensor(input: Input, rest: &mut Bytes) -> Result<Tensor, String> {
    let kind = DataType::parse(&input.name, &input.datatype)?;
    let size = input.parameters.get("binary_data_size").and_then(Value::as_u64);
    let values = match (input.data, size) {
        (Some(data), None) => kind.read_json(&input.name, &data)?,
        (None, Some(size)) => kind.read(&input.name, &take(&input.name, size, rest)?)?,
        _ => return Err(format!("input `{}`: either `data` or `binary_data_size`", input.name)),
    };
    Ok(Tensor { name: input.name, shape: input.shape, values })
}

fn answer(
    name: &str,
    version: &str,
    id: &str,
    inferred: &Inferred,
    is_binary: impl Fn(&str) -> bool,
) -> Response {
    let mut bytes = Vec::new();
    let mut outputs = Vec::new();
    for (output, values) in &inferred.outputs {
        let mut described =
            json!({ "name": output, "datatype": DataType::Fp32.name(), "shape": [values.len()] });
        if is_binary(output) {
            described["parameters"] = json!({ "binary_data_size": values.len() * 4 });
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        } else {
            described["data"] = json!(values);
        }
        outputs.push(described);
    }
    let mut body = json!({ "model_name": name, "model_version": version, "outputs": outputs });
    if !id.is_empty() {
        body["id"] = Value::from(id);
    }
    if bytes.is_empty() {
        return as_json(&body);
    }
    let mut text = body.to_string().into_bytes();
    let length = HeaderValue::from(text.len());
    text.extend(bytes);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (HEADER_LENGTH, length),
    ];
    (headers, text).into_response()
}

fn check(service: &Service, named: &Named) -> Result<Arc<Loaded>, Failure> {
    let loaded = service.model();
    let version = named.version.as_ref();
    if named.model != loaded.name || version.is_some_and(|version| *version != loaded.version) {
        let message = format!("the model here is `{}`, version {}", loaded.name, loaded.version);
        return Err(Failure::new(StatusCode::NOT_FOUND, message));
    }
    Ok(loaded)
}

fn flag(parameters: &Map<String, Value>, name: &str) -> bool {
    parameters.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn as_json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
