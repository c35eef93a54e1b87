//! `POST /v1/rank`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, header};

use super::sent::Sent;
use crate::failure::Failure;
use crate::model::Loaded;
use crate::rank::answer::AnswerBody;
use crate::rank::request::Body;
use crate::rank::run::{self, Worker};
use crate::service::Service;

type Json = ([(HeaderName, &'static str); 1], Vec<u8>);

/// Bytes of a body that is read and answered on a thread that also answers others; longer ones go to a thread of their own.
const SHORT: usize = 128 << 10;

pub(super) async fn rank(State(service): State<Arc<Service>>, Sent(body): Sent) -> Result<Json, Failure> {
    let shared = service.clone();
    let long = body.len() > SHORT;
    let work = move |loaded: &Loaded, worker: &mut Worker| answer(&shared, loaded, &body, worker);
    let body = service.compute(long, work).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body))
}

/// Reads a body, ranks its requests and writes the answers.
fn answer(service: &Service, loaded: &Loaded, body: &[u8], worker: &mut Worker) -> Result<Vec<u8>, Failure> {
    let body: Body<'_> =
        serde_json::from_slice(body).map_err(|error| Failure::bad(format!("the body: {}", said(&error))))?;
    let (requests, many) = body.requests().map_err(Failure::bad)?;
    service.admit(requests.iter().map(|request| request.items.len()).sum())?;
    let mut answers = Vec::with_capacity(requests.len());
    for (number, request) in requests.iter().enumerate() {
        let answer = run::rank(loaded, request, worker).map_err(|refusal| {
            Failure::bad(if many { format!("requests[{number}]: {refusal}") } else { refusal })
        })?;
        service.metrics.ranked(answer.candidates, answer.unknown_items.len());
        service.metrics.looked_up(&answer.counts);
        answers.push(answer);
    }
    let names = loaded.model.outputs().iter().map(|output| output.name.as_str()).collect();
    let body = AnswerBody {
        model: &loaded.name,
        version: &loaded.version,
        calibrated: loaded.model.ranker.correction().is_some(),
        names,
        answers: &answers,
        many,
    };
    serde_json::to_vec(&body).map_err(|error| Failure::bad(error.to_string()))
}

/// What the parser says, in the words of people who send JSON.
fn said(error: &serde_json::Error) -> String {
    error.to_string().replace("expected usize", "expected a whole number from 0 on")
}
