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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_tag_is_named_by_itself_in_a_list_or_by_a_star() {
        let names = |fields: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for &field in fields {
                headers.append(header::IF_NONE_MATCH, HeaderValue::from_static(field));
            }
            none_match_names(&headers, "\"a\"")
        };
        for fields in [
            &["\"a\""][..],
            &["W/\"a\""],
            &["\"b\", W/\"a\""],
            &["\"b\"", "\"a\""],
            &["*"],
        ] {
            assert!(names(fields), "{fields:?}");
        }
        for fields in [&[""][..], &[], &["a"], &["\"A\""], &["\"b\", \"ab\""], &["W/\"b\""]] {
            assert!(!names(fields), "{fields:?}");
        }
    }
}
