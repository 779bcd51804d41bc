//! The console: the files of `web/`, served from the binary, compressed for clients that accept it.

use std::io::Write as _;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use rust_embed::RustEmbed;
use sosohappy_common::Problem;
use sosohappy_common::http::none_match_names;

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
    let is_compressed = accepts_gzip(request.headers());
    // Another encoding is another representation, with a tag of its own.
    let suffix = if is_compressed { "-gzip" } else { "" };
    let tag = format!("\"{}{suffix}\"", hex::encode(&file.metadata.sha256_hash()[..16]));
    let mut response = if none_match_names(request.headers(), &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let content_type = [(header::CONTENT_TYPE, file.metadata.mimetype().to_owned())];
        if is_compressed {
            let encoding = [(header::CONTENT_ENCODING, "gzip")];
            (content_type, encoding, gzip(&file.data)).into_response()
        } else {
            (content_type, file.data).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
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

/// Returns whether a client accepts gzip by name (RFC 9110 section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|weight| weight > 0.0)
    })
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).expect("a vector takes all bytes");
    encoder.finish().expect("a vector takes all bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_accepted_by_name_and_weight() {
        let accepts = |field: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(field))]);
            accepts_gzip(&headers)
        };
        for field in ["gzip", "gzip, deflate, br, zstd", "br;q=1.0, GZIP ; q=0.5"] {
            assert!(accepts(field), "{field}");
        }
        for field in ["", "identity", "gzip;q=0", "br, gzip; q=0.000", "gzip;q=much", "x-gzip"] {
            assert!(!accepts(field), "{field}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
