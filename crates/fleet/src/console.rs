//! The console: the files of `web/`, served from the binary.

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use rust_embed::RustEmbed;
use sosohappy_common::Problem;

#[derive(RustEmbed)]
#[folder = "../../web/"]
#[exclude = "jsconfig.json"]
struct Files;

/// Pages run the console's own scripts only, and no other site may frame them.
const HEADERS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// Returns a file by its path, `index.html` for `/`; 304 where the client has it, 404 where there is none.
pub(crate) async fn file(request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let Some(file) = Files::get(path).filter(|_| is_read) else {
        return Problem::not_found("no-such-route", "Not found").into_response();
    };
    let tag = format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..16]));
    let known = request.headers().get(header::IF_NONE_MATCH);
    let mut response = if known.is_some_and(|known| known == tag.as_str()) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let content_type = file.metadata.mimetype().to_owned();
        ([(header::CONTENT_TYPE, content_type)], file.data).into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Asked for again each time, so that a new binary is seen at once; the tag saves the bytes.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}
