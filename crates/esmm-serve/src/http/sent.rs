//! The body of a request.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};

use crate::failure::Failure;
use crate::service::Service;

/// A body as it was sent: whole, within the limit, and in no encoding of its own.
#[derive(Debug)]
pub(crate) struct Sent(pub(crate) Bytes);

impl FromRequest<Arc<Service>> for Sent {
    type Rejection = Failure;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, Failure> {
        let encoding = request.headers().get(header::CONTENT_ENCODING).cloned();
        if let Some(encoding) =
            encoding.filter(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            service.metrics.refused("encoding");
            let message = format!("content-encoding: found {encoding:?}, allowed is a body as it is");
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        Bytes::from_request(request, service).await.map(Self).map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                service.metrics.refused("body");
                let message = format!("the body is longer than {} bytes (--max-body)", service.limits.body);
                Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            _ => {
                service.metrics.refused("bad request");
                Failure::bad(format!("the body could not be read: {}", rejection.body_text()))
            }
        })
    }
}
