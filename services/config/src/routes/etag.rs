//! Strong entity tags: the same version and question have the same answer.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::App;
use crate::domain::environment::View;

/// Secrets are in the answers: nobody between may keep them, and who keeps one asks whether it still holds.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache");

#[derive(Debug, Clone)]
pub struct EntityTag(String);

impl EntityTag {
    /// From the versions that answer and everything that is asked.
    pub fn new(app: &App, views: &[View], question: &[&str]) -> Self {
        let mut digest = Sha256::new();
        let settings = app.settings.get();
        let switches = format!("{} {}", settings.source.accept_empty, settings.encrypt.enabled);
        let versions = views.iter().map(|view| view.snapshot.version.as_str());
        let parts = versions
            .chain(question.iter().copied())
            .chain([&*app.revision, &switches]);
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        Self(format!("\"{}\"", hex::encode(&digest.finalize()[..16])))
    }

    /// Whether the client has this very answer.
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.0)
    }

    pub fn not_modified(self) -> Response {
        self.on(StatusCode::NOT_MODIFIED.into_response())
    }

    pub fn on(self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
        if let Ok(tag) = HeaderValue::from_str(&self.0) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}
