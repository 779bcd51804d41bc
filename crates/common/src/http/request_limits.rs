//! The limits of one request, which it carries as an extension.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::Extensions;
use http::request::Parts;

use super::ResponseMemory;
use super::body_limit::BodyLimits;
use crate::settings::Server;

/// The limits of new requests. The extension is an `Arc` of it.
#[derive(Debug)]
pub(crate) struct RequestLimits {
    pub(crate) body: BodyLimits,
    pub(crate) responses: ResponseMemory,
    pub(crate) request_timeout: Duration,
}

impl RequestLimits {
    /// Creates the limits of new settings. Parts whose size is the same share their memory with the limits before.
    pub(crate) fn new(settings: &Server, before: Option<&Self>) -> Self {
        Self {
            body: BodyLimits::new(settings, before.map(|before| &before.body)),
            responses: ResponseMemory::new(settings, before.map(|before| &before.responses)),
            request_timeout: settings.request_timeout,
        }
    }

    /// Returns the limits of a request; `None` on routes that are not behind [`super::serve::Service`].
    fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get::<Arc<Self>>().map(|limits| &**limits)
    }

    /// Returns the limits of a request's body.
    pub(crate) fn body_of(extensions: &Extensions) -> BodyLimits {
        Self::of(extensions).map_or_else(BodyLimits::default, |limits| limits.body.clone())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ResponseMemory {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let limits = RequestLimits::of(&parts.extensions);
        Ok(limits.map_or_else(Self::default, |limits| limits.responses.clone()))
    }
}
