//! The binary extension of the protocol's REST side: JSON first, the bytes of tensors after it.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName};

/// Length of the JSON at the beginning of a body.
pub(super) const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// A body, cut: its JSON, and the bytes after it.
pub(super) fn split(headers: &HeaderMap, body: &Bytes) -> Result<(Bytes, Bytes), String> {
    let Some(length) = headers.get(HEADER_LENGTH) else {
        return Ok((body.clone(), Bytes::new()));
    };
    let length = length.to_str().ok().and_then(|text| text.trim().parse::<usize>().ok());
    match length {
        Some(length) if length <= body.len() => Ok((body.slice(..length), body.slice(length..))),
        Some(length) => Err(format!("{HEADER_LENGTH}: {length}, the body has {} bytes", body.len())),
        None => Err(format!("{HEADER_LENGTH}: it must be a number of bytes")),
    }
}

/// Takes the first `length` bytes.
pub(super) fn take(input: &str, length: u64, bytes: &mut Bytes) -> Result<Bytes, String> {
    match usize::try_from(length).ok().filter(|length| *length <= bytes.len()) {
        Some(length) => Ok(bytes.split_to(length)),
        None => Err(format!("input `{input}`: binary_data_size = {length}, {} bytes are left", bytes.len())),
    }
}
