//! Conditional requests: RFC 9110 section 13.

use http::{HeaderMap, header};

/// Returns whether `If-None-Match` names this entity tag. The comparison is weak, as RFC 9110 section 13.1.2 requires.
#[must_use]
pub fn none_match_names(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().any(|tags| {
        tags.to_str().is_ok_and(|tags| {
            tags.split(',')
                .map(str::trim)
                .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
        })
    })
}
