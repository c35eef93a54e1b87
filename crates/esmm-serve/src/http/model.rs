//! What the service says about itself.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use esmm_core::{Feature, Side};
use esmm_rank::Part;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::model::Loaded;
use crate::rank::run::{Form, form};
use crate::service::Service;

/// The page needs nothing but this service, and nothing may be loaded from elsewhere.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, include_str!("../page.html")).into_response()
}

pub(super) async fn live() -> Response {
    as_json(json!({ "live": true })).into_response()
}

pub(super) async fn ready(State(service): State<Arc<Service>>) -> Response {
    match service.is_ready() {
        true => as_json(json!({ "ready": true })).into_response(),
        false => Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the service ends").into_response(),
    }
}

pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], service.metrics.text()).into_response()
}

pub(super) async fn model(State(service): State<Arc<Service>>) -> Response {
    let model = service.model();
    let mut described = describe(&model);
    if let (Some(reason), Value::Object(map)) = (service.last_failure(), &mut described) {
        map.insert("last_reload_failed".to_owned(), Value::from(reason));
    }
    as_json(described).into_response()
}

pub(super) async fn reload(State(service): State<Arc<Service>>) -> Result<Response, Failure> {
    match service.reload().await {
        Ok(model) => Ok(as_json(json!({ "model": model.name, "version": model.version })).into_response()),
        Err(reason) => {
            let message = format!("the old model goes on: {reason}");
            Err(Failure::new(StatusCode::CONFLICT, message))
        }
    }
}

/// The model for people and programs.
fn describe(loaded: &Loaded) -> Value {
    let mut features = Vec::new();
    for part in Part::ALL {
        for (spec, feature) in loaded.model.features(part) {
            let (kind, rows) = match feature {
                Feature::Dense(_) => ("dense", None),
                Feature::Sparse(sparse) => {
                    let kind = if sparse.bag.is_some() { "bag" } else { "sparse" };
                    // Of a table that is another feature's the schema knows no rows.
                    (kind, sparse.shares.is_none().then_some(sparse.num_embeddings))
                }
            };
            features.push(json!({
                "name": spec.name,
                "columns": spec.columns().collect::<Vec<_>>(),
                "side": match spec.side {
                    Side::User => "user",
                    Side::Item => "item",
                    Side::Context => "context",
                },
                "sent": match part {
                    Part::Query => "once a request",
                    Part::Item => "with an item, or in the catalogue",
                    Part::Pair => "with each candidate",
                },
                "kind": kind,
                "shares": match feature {
                    Feature::Sparse(sparse) => sparse.shares.as_deref(),
                    Feature::Dense(_) => None,
                },
                "list": matches!(form(&loaded.model, part, &spec.column), Form::Bag { .. }),
                "rows": rows,
            }));
        }
    }
    let catalogue = loaded.catalogue.as_ref().map(|listed| {
        json!({
            "items": listed.items.len(),
            "key": listed.key,
            "values": listed.items.value_names().collect::<Vec<_>>(),
            "bytes": listed.items.bytes(),
            "some_ids": (0..8).filter_map(|place| listed.items.id(place)).collect::<Vec<_>>(),
        })
    });
    json!({
        "name": loaded.name,
        "version": loaded.version,
        "stages": loaded.model.stages(),
        "scores": loaded.model.outputs().iter().map(|output| &output.name).collect::<Vec<_>>(),
        "features": features,
        "example": { "query": loaded.blank(Part::Query), "item": loaded.blank(Part::Item), "pair": loaded.blank(Part::Pair) },
        "catalogue": catalogue,
        "metrics": loaded.metrics,
        "corrections": loaded.corrections,
        "bytes": loaded.bytes,
        "loaded_at": loaded.loaded_at.duration_since(UNIX_EPOCH).map_or(0, |at| at.as_secs()),
        "load_seconds": loaded.load_seconds,
    })
}

pub(super) fn as_json(value: Value) -> ([(HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string())
}
