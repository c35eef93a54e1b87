//! `POST /v1/rank`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderName, header};

use crate::failure::Failure;
use crate::rank::answer::AnswerBody;
use crate::rank::request::{Body, RankRequest};
use crate::rank::run;
use crate::service::Service;

type Json = ([(HeaderName, &'static str); 1], Vec<u8>);

pub(super) async fn rank(State(service): State<Arc<Service>>, body: Bytes) -> Result<Json, Failure> {
    let (requests, many) = parse(&body).inspect_err(|_| service.metrics.refused("bad request"))?;
    drop(body);
    let candidates = requests.iter().map(|request| request.items.len()).sum();
    let metrics = service.clone();
    let work = move |model: &crate::model::Loaded, worker: &mut run::Worker| {
        let mut answers = Vec::with_capacity(requests.len());
        for (number, request) in requests.iter().enumerate() {
            let answer = run::rank(model, request, worker)
                .map_err(|refusal| if many { format!("requests[{number}]: {refusal}") } else { refusal })?;
            metrics.metrics.ranked(answer.candidates, answer.unknown_items.len());
            metrics.metrics.looked_up(&answer.counts);
            answers.push(answer);
        }
        let names = model.model.outputs().iter().map(|output| output.name.as_str()).collect();
        let body = AnswerBody { model: &model.name, version: &model.version, names, answers: &answers, many };
        serde_json::to_vec(&body).map_err(|error| error.to_string())
    };
    let body = service.compute(candidates, work).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body))
}

fn parse(body: &[u8]) -> Result<(Vec<RankRequest>, bool), Failure> {
    let body: Body =
        serde_json::from_slice(body).map_err(|error| Failure::bad(format!("the body: {error}")))?;
    body.requests().map_err(Failure::bad)
}
