//! Conditional reads: answers 304 to a client that has the present version.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sosohappy_common::http::none_match_names;

/// Answers 200 with the value as JSON (nothing: with an empty body) and a strong entity tag, or 304 if the client has it. The tag is a
/// digest of the bytes, so that every replica gives the same one.
pub fn conditional<T: Serialize>(headers: &HeaderMap, value: Option<&T>) -> Response {
    let body = value.map(|value| serde_json::to_vec(value).expect("an answer is JSON"));
    let digest = Sha256::digest(body.as_deref().unwrap_or_default());
    let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest[..16]));
    let mut response = match body {
        _ if none_match_names(headers, &etag) => StatusCode::NOT_MODIFIED.into_response(),
        Some(body) => {
            let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            (json, Body::from(body)).into_response()
        }
        None => StatusCode::OK.into_response(),
    };
    let headers = response.headers_mut();
    let etag = HeaderValue::try_from(etag).expect("Base64 in quotes is a header value");
    headers.insert(header::ETAG, etag);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}
