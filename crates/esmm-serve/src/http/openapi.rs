//! `/openapi.json`: the routes, and what `/v1/rank` takes from the model that is served.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use esmm_core::Feature;
use esmm_rank::Part;
use serde_json::{Map, Value, json};

use super::{model, routes};
use crate::model::Loaded;
use crate::service::Service;

pub(super) async fn document(State(service): State<Arc<Service>>) -> Response {
    model::as_json(describe(&service.model())).into_response()
}

/// OpenAPI 3.1.
pub(crate) fn describe(loaded: &Loaded) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes::ALL {
        let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters: Vec<Value> = names
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        let mut operation = json!({
            "summary": route.summary,
            "parameters": parameters,
            "security": if route.open { json!([]) } else { json!([{ "token": [] }]) },
            "responses": { "200": { "description": "The answer" }, "default": { "$ref": "#/components/responses/Failure" } },
        });
        if route.path == "/v1/rank" {
            operation["requestBody"] = body("#/components/schemas/RankBody");
            operation["responses"]["200"] = content("#/components/schemas/RankAnswer");
        }
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": format!("Ranking with {}", loaded.name), "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "responses": { "Failure": { "description": "A refused request", "content": { "application/json": {
                "schema": { "type": "object", "properties": { "error": { "type": "string" } } } } } } },
            "schemas": schemas(loaded),
        },
    })
}

fn body(schema: &str) -> Value {
    json!({ "required": true, "content": { "application/json": { "schema": { "$ref": schema } } } })
}

fn content(schema: &str) -> Value {
    json!({ "description": "The answer", "content": { "application/json": { "schema": { "$ref": schema } } } })
}

fn schemas(loaded: &Loaded) -> Value {
    let outputs = loaded.model.outputs().iter();
    let score = json!({ "type": "number", "minimum": 0, "maximum": 1 });
    let mut ranked: Map<String, Value> =
        outputs.clone().map(|output| (output.name.clone(), score.clone())).collect();
    ranked.insert(
        "index".to_owned(),
        json!({ "type": "integer", "description": "Place in the request, from 0" }),
    );
    ranked.insert("id".to_owned(), json!({ "type": "string" }));
    ranked.insert(
        "value".to_owned(),
        json!({ "type": "number", "description": "Expected value, if `by` asks for one" }),
    );
    let names: Vec<&String> = outputs.map(|output| &output.name).collect();
    let mut item = object(loaded, &[Part::Item, Part::Pair]);
    if let (Some(key), Value::Object(properties)) = (loaded.key(), &mut item["properties"]) {
        properties.entry(key).or_insert_with(|| json!({ "type": ["string", "integer"] }));
    }
    let request = json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "user": object(loaded, &[Part::Query]),
            "context": object(loaded, &[Part::Query]),
            "items": { "type": "array", "items": { "oneOf": [{ "type": ["string", "integer"] }, { "$ref": "#/components/schemas/Item" }] } },
            "top": { "type": "integer", "minimum": 0 },
            "by": { "oneOf": [{ "enum": names }, { "type": "object", "required": ["value"], "properties": { "value": { "type": "string" } } }] },
        },
    });
    json!({
        "Item": item,
        "RankRequest": request,
        "RankBody": { "oneOf": [
            { "$ref": "#/components/schemas/RankRequest" },
            { "type": "object", "required": ["requests"], "properties": {
                "requests": { "type": "array", "items": { "$ref": "#/components/schemas/RankRequest" } } } },
        ] },
        "RankedItem": { "type": "object", "properties": ranked },
        "RankAnswer": { "type": "object", "properties": {
            "model": { "type": "string" }, "version": { "type": "string" }, "candidates": { "type": "integer" },
            "calibrated": { "type": "boolean", "description": "Whether esmm calibrate corrected the probabilities" },
            "items": { "type": "array", "items": { "$ref": "#/components/schemas/RankedItem" } },
            "unknown_items": { "type": "array", "items": { "type": "string" } },
            "missing": { "type": "object", "additionalProperties": { "type": "integer" } },
            "unknown": { "type": "object", "additionalProperties": { "type": "integer" } },
            "outside": { "type": "object", "additionalProperties": { "type": "integer" } },
            "answers": { "type": "array", "items": { "type": "object" } },
        } },
    })
}

/// The columns of some parts.
fn object(loaded: &Loaded, parts: &[Part]) -> Value {
    let mut properties = Map::new();
    for part in parts {
        for (spec, feature) in loaded.model.features(*part) {
            let schema = match feature {
                Feature::Dense(_) => json!({ "type": ["number", "string", "boolean", "null"] }),
                Feature::Sparse(sparse) if sparse.bag.is_some() => {
                    json!({ "type": ["array", "object", "string", "null"] })
                }
                Feature::Sparse(_) => json!({ "type": ["string", "number", "boolean", "null"] }),
            };
            for column in spec.columns() {
                properties.insert(column.to_owned(), schema.clone());
            }
        }
    }
    json!({ "type": "object", "properties": properties })
}
