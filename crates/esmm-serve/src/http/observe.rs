//! What happens around each request: its id, its token, its time, its line in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::routes;
use crate::failure::Failure;
use crate::service::Service;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a request id that is taken over.
const LONGEST_ID: usize = 128;

pub(super) async fn observe(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let grpc = is_grpc(request.headers());
    let open =
        route.as_deref().is_some_and(|path| routes::ALL.iter().any(|route| route.open && route.path == path));
    let result = if !open && !allowed(&service, request.headers()) {
        service.metrics.refused("token");
        Err(Failure::new(StatusCode::UNAUTHORIZED, "a bearer token is needed: Authorization: Bearer TOKEN"))
    } else {
        tokio::time::timeout(service.limits.time, next.run(request)).await.map_err(|_| {
            service.metrics.refused("time");
            let seconds = service.limits.time.as_secs_f64();
            Failure::new(StatusCode::REQUEST_TIMEOUT, format!("no answer within {seconds} s (--max-seconds)"))
        })
    };
    let mut response =
        result.unwrap_or_else(|failure| if grpc { as_grpc(&failure) } else { failure.into_response() });
    let took = start.elapsed();
    let route = route.as_deref().unwrap_or("other");
    service.metrics.answered(route, response.status().as_u16(), took);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    tracing::debug!(
        request_id = id,
        method = method.as_str(),
        route,
        status = response.status().as_u16(),
        microseconds = took.as_micros() as u64,
        "request"
    );
    response
}

fn allowed(service: &Service, headers: &HeaderMap) -> bool {
    let Some(token) = &service.token else { return true };
    let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let shown = match shown.split_at_checked(7) {
        Some((scheme, shown)) if scheme.eq_ignore_ascii_case(b"bearer ") => shown,
        _ => return false,
    };
    // In the same time for every wrong token of this length.
    bool::from(shown.ct_eq(token.as_bytes()))
}

/// The id that the caller gave, if it can stand in a log, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let fits = |id: &&str| {
        !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match given.filter(fits) {
        Some(id) => id.to_owned(),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as u64);
            format!("{now:x}-{:x}", NEXT.fetch_add(1, Ordering::Relaxed))
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.starts_with(b"application/grpc")
}

fn as_grpc(failure: &Failure) -> Response {
    let message = failure.message.clone();
    let status = match failure.status {
        StatusCode::UNAUTHORIZED => tonic::Status::unauthenticated(message),
        _ => tonic::Status::deadline_exceeded(message),
    };
    status.into_http::<axum::body::Body>()
}
