//! Strong entity tags: the same version and request have the same response, on every replica.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};
use sosohappy_common::http::none_match_names;

use crate::App;
use crate::domain::environment::View;

/// Responses contain secrets: shared caches may not store them, and clients revalidate.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache");

#[derive(Debug, Clone)]
pub struct EntityTag(String);

impl EntityTag {
    /// Digests the versions, every part of the request, and the settings that affect a response. Lengths precede the parts, so that two different
    /// lists never have the same bytes.
    pub fn new(app: &App, views: &[View], request: &[&str]) -> Self {
        let mut digest = Sha256::new();
        let settings = app.settings.get();
        let switches = format!("{} {}", settings.source.accept_empty, settings.encrypt.enabled);
        let versions = views.iter().map(|view| view.snapshot.version.as_str());
        let parts = versions
            .chain(request.iter().copied())
            .chain([&*app.revision, &switches]);
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        Self(format!("\"{}\"", hex::encode(&digest.finalize()[..16])))
    }

    /// Returns whether the client has this response.
    pub fn matches(&self, headers: &HeaderMap) -> bool {
        none_match_names(headers, &self.0)
    }

    /// Returns 304 with the tag.
    pub fn not_modified(self) -> Response {
        self.add_to(StatusCode::NOT_MODIFIED.into_response())
    }

    /// Adds the tag to a response.
    pub fn add_to(self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
        if let Ok(tag) = HeaderValue::from_str(&self.0) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}
